"""Which addresses the containers of a codespace may ask names of."""

from __future__ import annotations

from pathlib import Path

import pytest

from netbridge.bridge.agent.leading import nameservers

CLOUD = "168.63.129.16"
DOCKERS = ["8.8.8.8", "8.8.4.4"]


@pytest.mark.parametrize(
    ("own", "resolveds", "asked"),
    [
        (["10.0.0.2"], "", ["10.0.0.2", CLOUD]),
        (["10.0.0.2", "127.0.0.1", "fd00::1", "10.0.0.2"], "", ["10.0.0.2", CLOUD]),
        (["127.0.0.53"], "nameserver 10.0.0.3\n", ["10.0.0.3", CLOUD]),  # which Docker reads instead
        (["127.0.0.53"], "", [CLOUD, *DOCKERS]),
        ([], "", [CLOUD, *DOCKERS]),
        (["nonsense"], "", [CLOUD, *DOCKERS]),
    ],
)
def test_what_their_engine_gives_them(tmp_path: Path, own: list[str], resolveds: str, asked: list[str]) -> None:
    """Google's where the codespace's own are on loopback, and only there: who asks them otherwise means them."""
    path = tmp_path / "resolv.conf"
    path.write_text(resolveds)
    assert nameservers(own, path=str(path)) == asked


def test_containers_started_while_the_file_names_the_stub_alone(tmp_path: Path) -> None:
    assert nameservers(["10.0.0.2"], alone=True, path=str(tmp_path / "none")) == ["10.0.0.2", CLOUD, *DOCKERS]
