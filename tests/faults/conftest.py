"""Places in which calls fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .bridging import prepared
from .servers import Servers
from .trying import Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Servers, and bridges to them in this process; a run without a fault was seen."""
    folder = tmp_path_factory.mktemp("faults")
    servers = Servers(folder)
    with pytest.MonkeyPatch.context() as patch:
        prepared(patch, servers, folder)
        made = Bench(servers, folder)
        made.look()
        yield made
    servers.close()
