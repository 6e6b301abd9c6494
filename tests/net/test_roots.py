"""Codespaces with other root file systems: where resolv.conf is a link, read-only or not there, and what a small
distribution lacks. Made by mounts over the codespace's own folders, as container engines make them.

None is a real Fedora or Alpine, which cannot be unpacked without their own tools: they are what matters here of them,
with the real programs (systemd's and musl's resolvers, busybox) from Debian's packages.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.world import Bridge, Machine, World, servers
from tests.world.addresses import CODESPACE, CORP, SSH_PORT
from tests.world.machine import wait_until
from tests.world.snapshot import Snapshot

from .conftest import TARGET
from .programs import LOOKUP, built, changed, ended, overlaid, resolved, unpacked
from .test_traces import assert_restored

pytestmark = pytest.mark.net

Start = Callable[..., Bridge]
PUBLIC = "203.0.113.80"
CLOUD = "172.30.7.53"
"""A nameserver of the cloud's that is not on the codespace's loopback."""


def glibc(codespace: Machine, name: str) -> str:
    return codespace.run("getent", "ahostsv4", name).stdout.partition(" ")[0]


def resolves(codespace: Machine) -> None:
    assert glibc(codespace, "v4only.corp.test") == CORP[4]
    assert glibc(codespace, "www.public.test") == PUBLIC
    assert glibc(codespace, "nothing.corp.test") == ""


@contextmanager
def mounted(codespace: Machine, *commands: str, undo: str) -> Iterator[None]:
    """Mounts for a while."""
    codespace.shell(" && ".join(commands)).check()
    try:
        yield
    finally:
        codespace.shell(undo).check()


@pytest.fixture
def cloud(idle: World) -> Iterator[str]:
    """The cloud's nameserver, across the line."""
    idle.laptop.ip(f"addr add {CLOUD}/32 dev eth0")
    zone = ["  local-zone: public.test. static", f"  local-data: 'www.public.test. A {PUBLIC}'"]
    try:
        with ended(idle.laptop):
            servers.unbound(idle.laptop, [CLOUD], zone)
            wait_until(lambda: idle.codespace.answers(CLOUD, 53), "the cloud's nameserver")
            yield CLOUD
    finally:
        idle.laptop.ip(f"addr del {CLOUD}/32 dev eth0")


@pytest.mark.parametrize("what", ["/etc/resolv.conf", "/etc"])
def test_resolv_conf_that_is_read_only(idle: World, start: Start, cloud: str, what: str) -> None:
    """As in a container or pod with a read-only root: what is asked of its nameserver is led to the stub, and nothing
    else is changed; what the stub asks goes to the nameserver itself."""
    codespace = idle.codespace
    again = "mount --bind /etc/resolv.conf /etc/resolv.conf && " if what == "/etc" else ""
    with changed(codespace.folder / "resolv.conf", f"nameserver {cloud}\n"), mounted(
        codespace, f"mount --bind {what} {what} && {again} mount -o remount,bind,ro {what}",
        f"mount --bind -o ro {codespace.folder}/resolv.conf /etc/resolv.conf" if what == "/etc" else "true",
        "mount -o remount,bind,ro /etc/resolv.conf",
        undo=f"umount /etc/resolv.conf; {'umount /etc/resolv.conf; umount /etc' if what == '/etc' else 'true'}",
    ):  # fmt: skip
        assert "Read-only" in codespace.shell("echo >> /etc/resolv.conf").stderr
        before = Snapshot.of(codespace)
        bridge = start(TARGET, "--ssh", "openssh").ready()
        dns = bridge.event("dns")
        assert dns and dns["on"] is True, bridge.said
        resolves(codespace)
        assert codespace.run("dig", "+short", "+tcp", "v4only.corp.test").stdout == f"{CORP[4]}\n"
        assert codespace.run("curl", "-4sS", "-m5", "http://v4only.corp.test/small").stdout == "netbridge\n"
        assert codespace.run("dig", "+short", "-b", "198.18.0.2", "v4only.corp.test").stdout == f"{CORP[4]}\n"
        assert bridge.stop() == 0
        assert glibc(codespace, "v4only.corp.test") == ""
        assert glibc(codespace, "www.public.test") == PUBLIC
        assert_restored(before, codespace)


def test_resolv_conf_that_is_read_only_with_a_nameserver_on_loopback(idle: World, start: Start) -> None:
    """Nothing can be done about it, and that is said."""
    path = "/etc/resolv.conf"
    with mounted(
        idle.codespace, f"mount --bind {path} {path}", f"mount -o remount,bind,ro {path}", undo=f"umount {path}"
    ):
        bridge = start(TARGET, "--ssh", "openssh").ready()
        hints = [event["text"] for event in bridge.events if event["event"] == "hint"]
        assert any("/etc/resolv.conf cannot be changed: Read-only file system" in hint for hint in hints), bridge.said
        assert idle.codespace.run("curl", "-sS", "-m5", f"http://{CORP[4]}/small").stdout == "netbridge\n"
        assert bridge.stop() == 0


@pytest.mark.parametrize("link", [False, True], ids=["no file", "a link that leads nowhere"])
def test_resolv_conf_that_is_missing(idle: World, start: Start, *, link: bool) -> None:
    codespace = idle.codespace
    made = "ln -s ../run/nowhere.conf /etc/resolv.conf" if link else "true"
    with mounted(codespace, "umount /etc/resolv.conf && rm /etc/resolv.conf", made, undo=(
        f"rm -f /etc/resolv.conf && touch /etc/resolv.conf && "
        f"mount --bind {codespace.folder}/resolv.conf /etc/resolv.conf"
    )):  # fmt: skip
        bridge = start(TARGET, "--ssh", "openssh").ready()
        assert glibc(codespace, "v4only.corp.test") == CORP[4]
        assert bridge.stop() == 0
        found = codespace.shell("ls -l /etc/resolv.conf; ls /run/nowhere.conf").stdout
        assert ("-> ../run/nowhere.conf" in found) == link
        assert "/run/nowhere.conf\n" not in found.replace("-> ../run/nowhere.conf", "")


def test_a_root_like_fedoras(idle: World, start: Start) -> None:
    """resolv.conf is a link to systemd-resolved's own file, which is not to be written, and programs ask by NSS."""
    codespace = idle.codespace
    stub = "127.0.0.153"
    with resolved(codespace, cloud="127.0.0.98", stub=stub, as_system=True):
        switch = codespace.folder / "etc/nsswitch.conf"
        hosts = "hosts: files myhostname resolve [!UNAVAIL=return] dns"
        fedoras = switch.read_text().replace("hosts: files resolve [!UNAVAIL=return] dns", hosts)
        assert hosts in fedoras
        file = "/run/systemd/resolve/stub-resolv.conf"
        with changed(switch, fedoras), mounted(
            codespace, "umount /etc/resolv.conf", f"ln -sf ../{file} /etc/resolv.conf",
            f"printf 'nameserver {stub}\\noptions edns0 trust-ad\\nsearch .\\n' > {file}",
            f"mount --bind {file} {file}", f"mount -o remount,bind,ro {file}",
            undo=f"umount {file}; rm -f /etc/resolv.conf && touch /etc/resolv.conf && "
            f"mount --bind {codespace.folder}/resolv.conf /etc/resolv.conf",
        ):  # fmt: skip
            look = "ls -l /etc/resolv.conf; cat /etc/resolv.conf; resolvectl dns; resolvectl domain"
            before = codespace.shell(look).stdout
            assert "-> ..//run/systemd" in before
            bridge = start(TARGET, "--ssh", "openssh").ready()
            dns = bridge.event("dns")
            assert dns and dns["on"] is True, bridge.said
            resolves(codespace)
            for words in (("ping", "-c1", "-W2"), ("curl", "-sS", "-m5", "-o", "/dev/null")):
                codespace.run(*words, "www.corp.test").check()
            assert codespace.run("dig", "+short", "v4only.corp.test").stdout == f"{CORP[4]}\n"
            assert bridge.stop() == 0
            assert codespace.shell(look).stdout == before


def test_a_root_like_alpines(idle: World, start: Start) -> None:
    """musl, and busybox instead of coreutils and iproute2; Debian's python3 is the only big program in it."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox (package busybox)")
    codespace = idle.codespace
    small = codespace.folder / "small/bin"
    small.mkdir(parents=True, exist_ok=True)
    with ExitStack() as exits:
        exits.enter_context(overlaid(codespace, unpacked("musl")))
        lookup = built(codespace, LOOKUP, "lookup", compiler="musl-gcc")
        shutil.copy(busybox, small / "busybox")
        python = codespace.run("readlink", "-f", "/usr/bin/python3").stdout.strip()
        shutil.copy(python, small / "python3")
        codespace.run(small / "busybox", "--install", "-s", small).check()
        for gone in ("ip", "bash"):
            (small / gone).unlink(missing_ok=True)
        path = f"env -i PATH={small} HOME=/root {small}/sh"
        before = Snapshot.of(codespace)
        bridge = start(f"exec:ssh -p {SSH_PORT} root@{CODESPACE[4]} {path}").ready()
        assert codespace.shell(f"{path} -c 'command -v ip; command -v bash; command -v sudo'").stdout == ""
        found = codespace.run(lookup, "v4only.corp.test", "nothing.corp.test", "www.public.test").check().stdout
        assert found.split() == ["v4only.corp.test", CORP[4], "nothing.corp.test", "unknown", "www.public.test", PUBLIC]
        page = codespace.shell(f"{path} -c 'wget -q -O - http://{CORP[4]}/small'").check()
        assert page.stdout == "netbridge\n"
        asked = codespace.shell(f"{path} -c 'nslookup v4only.corp.test'").stdout
        assert f"Address: {CORP[4]}" in asked
        assert bridge.stop() == 0
        assert_restored(before, codespace)
