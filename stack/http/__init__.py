"""HTTP through a stack, by the clients people have: httpx (`StackTransport`) and aiohttp (`StackConnector`).

Both come with the extra `http`, and each is imported only when it is asked for::

    async with httpx.AsyncClient(transport=StackTransport(stack)) as client: ...
    async with aiohttp.ClientSession(connector=StackConnector(stack)) as session: ...

Names are asked for with `stack.resolve`: an `Entrance` asks at its exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connector import StackConnector
    from .transport import StackTransport

__all__ = ["StackConnector", "StackTransport"]


def __getattr__(name: str) -> Any:
    try:
        if name == "StackTransport":
            from .transport import StackTransport

            return StackTransport
        if name == "StackConnector":
            from .connector import StackConnector

            return StackConnector
    except ModuleNotFoundError as error:
        raise ImportError(f'{name} needs {error.name}: pip install "netbridge[http]"', name=error.name) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
