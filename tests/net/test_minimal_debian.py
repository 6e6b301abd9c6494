"""A codespace whose root is Debian's smallest, made by mmdebstrap: no iproute2, no procps, no sudo, no curl.

It takes two minutes to make, so it is made where time is given (`make survive`) and kept in `build/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.world import Bridge, Machine, World
from tests.world.addresses import CODESPACE, CORP, SSH_PORT
from tests.world.bridge import ROOT
from tests.world.snapshot import Snapshot

from .test_roots import PUBLIC
from .test_traces import assert_restored

pytestmark = [pytest.mark.net, pytest.mark.timeout(600)]

DEBIAN = ROOT / "build/debian-minbase"
PACKAGES = "python3"
"""What netbridge asks of a codespace, and nothing more."""


@pytest.fixture(scope="module")
def debian() -> Path:
    """The root's folder."""
    if not DEBIAN.exists():
        if not os.environ.get("NETBRIDGE_TEST_LONG"):
            pytest.skip("takes two minutes to make; NETBRIDGE_TEST_LONG=1 (make survive) makes it")
        if shutil.which("mmdebstrap") is None:
            pytest.skip("needs mmdebstrap")
        made = DEBIAN.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(exist_ok=True)
        words = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(made)]
        subprocess.run(words, check=True, timeout=500)
        made.rename(DEBIAN)
    return DEBIAN


@pytest.fixture
def inside(idle: World, debian: Path) -> Iterator[Callable[..., str]]:
    """Run something in that root in the codespace; its standard output."""
    codespace: Machine = idle.codespace
    (debian / "etc/resolv.conf").touch()
    mounts = [f"mount --rbind {place} {debian}{place}" for place in ("/proc", "/dev")]
    mounts.append(f"mount --bind {codespace.folder}/resolv.conf {debian}/etc/resolv.conf")
    codespace.shell(" && ".join(mounts)).check()
    yield lambda *words: codespace.run("chroot", debian, *words).stdout
    codespace.shell(f"umount {debian}/etc/resolv.conf; umount -l {debian}/proc {debian}/dev").check()


def test_a_minimal_debian(
    idle: World, start: Callable[..., Bridge], debian: Path, inside: Callable[..., str]
) -> None:
    for missing in ("ip", "ps", "sudo", "curl", "nft", "iptables", "resolvectl"):
        assert inside("sh", "-c", f"command -v {missing}") == ""
    before = Snapshot.of(idle.codespace)
    path = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh"
    bridge = start(f"exec:ssh -p {SSH_PORT} root@{CODESPACE[4]} chroot {debian} {path}").ready()
    said = bridge.event("connected")
    assert said
    assert said["tun"] == "nb0"
    assert inside("getent", "ahostsv4", "v4only.corp.test").split()[0] == CORP[4]
    assert inside("getent", "ahostsv4", "www.public.test").split()[0] == PUBLIC  # its own nameserver's
    assert inside("getent", "ahostsv4", "nothing.corp.test") == ""
    fetch = f"import urllib.request as u; print(u.urlopen('http://{CORP[4]}/small', timeout=5).read().decode(), end='')"
    assert inside("python3", "-c", fetch) == "netbridge\n"
    assert bridge.stop() == 0
    assert_restored(before, idle.codespace)
