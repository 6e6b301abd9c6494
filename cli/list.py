"""`netbridge list`: the codespaces of this account, as gh knows them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Annotated

from cyclopts import Parameter


def list_(*, json_: Annotated[bool, Parameter(name="--json", negative=())] = False) -> int:
    """Show codespaces and their state, running ones first.

    Parameters
    ----------
    json_
        As JSON on standard output, with all their fields.
    """
    from netbridge.bridge.transport.gh import Gh

    found = asyncio.run(Gh().codespaces())
    if json_:
        print(json.dumps({"codespaces": [dataclasses.asdict(codespace) for codespace in found]}))
        return 0
    from .codespaces import show

    show(found)
    return 0
