"""Large files each way, compared by checksum; nc's half-close ends them."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World
from tests.world.addresses import CORP, url
from tests.world.machine import wait_until
from tests.world.servers import make_big_file

from .conftest import Through

pytestmark = [pytest.mark.net, pytest.mark.timeout(180)]

LONG = bool(os.environ.get("NETBRIDGE_TEST_LONG"))
SIZES = {4: 1_000_000_000 if LONG else 200_000_000, 6: 100_000_000}
"""Bytes by IP version; `make survive` takes the long way."""
both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


@pytest.fixture(scope="module")
def files(world: World) -> Iterator[dict[int, tuple[Path, str]]]:
    """By IP version: a file in corp's web folder, and its SHA-256."""
    made = {}
    for version, size in SIZES.items():
        path = world.web / f"big{version}"
        make_big_file(path, size)
        with open(path, "rb") as stream:
            made[version] = (path, hashlib.file_digest(stream, "sha256").hexdigest())
    yield made
    for path, _digest in made.values():
        path.unlink()


@both
def test_download(through: Through, files: dict[int, tuple[Path, str]], version: int) -> None:
    path, digest = files[version]
    output = through.shell(f"curl -sS -m 120 http://{url(CORP[version])}/{path.name} | sha256sum", timeout=130).check()
    assert output.stdout.split()[0] == digest


@both
def test_upload(through: Through, world: World, files: dict[int, tuple[Path, str]], version: int) -> None:
    path, digest = files[version]
    port, sums = 9000 + version, world.corp.folder / "sum"
    receiver = world.corp.start("sh", "-c", f"nc -l {CORP[version]} {port} | sha256sum > {sums}")
    wait_until(functools.partial(world.corp.listens, port), "nc")
    through.shell(f"nc -N {CORP[version]} {port} < {path}", timeout=130).check()
    assert receiver.wait(60) == 0
    assert sums.read_text().split()[0] == digest


def test_both_ways_at_once(through: Through, world: World, files: dict[int, tuple[Path, str]]) -> None:
    """An upload and a download of 100 MB beside each other."""
    path, digest = files[6]
    sums = world.corp.folder / "sum"
    receiver = world.corp.start("sh", "-c", f"nc -l {CORP[4]} 9010 | sha256sum > {sums}")
    wait_until(functools.partial(world.corp.listens, 9010), "nc")
    up = through.start("sh", "-c", f"nc -N {CORP[4]} 9010 < {path}")
    output = through.shell(f"curl -sS -m 60 http://{CORP[4]}/{path.name} | sha256sum", timeout=70).check()
    assert output.stdout.split()[0] == digest
    assert up.wait(60) == 0
    assert receiver.wait(60) == 0
    assert sums.read_text().split()[0] == digest
