"""Programs that are not installed, because installed they would change this machine: systemd-resolved (it takes over
resolv.conf), and musl (its loader in /lib says that programs here use musl). scripts/system-packages unpacks them into
build/unpacked; `overlaid` lets one machine of the world see them as if they were installed.

And two small programs in C: one that asks for names through whatever C library it is built with, one a module of
glibc's name service.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.world import Machine, servers
from tests.world.bridge import ROOT
from tests.world.machine import Output, wait_until

UNPACKED = ROOT / "build/unpacked"

LOOKUP = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *at = 0;
        printf("%s", argv[i]);
        if (getaddrinfo(argv[i], 0, &hints, &at)) printf(" unknown");
        for (; at; at = at->ai_next) {
            char text[64];
            void *address = at->ai_family == AF_INET6 ? (void *)&((struct sockaddr_in6 *)at->ai_addr)->sin6_addr
                                                      : (void *)&((struct sockaddr_in *)at->ai_addr)->sin_addr;
            printf(" %s", inet_ntop(at->ai_family, address, text, sizeof text));
        }
        puts("");
    }
}
"""
"""Prints each name with its addresses, or "unknown"."""

NAME_SERVICE = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <nss.h>
#include <string.h>
#include <strings.h>
struct space { char *names[1]; char *addresses[2]; char address[4]; char name[64]; };
enum nss_status _nss_world_gethostbyname2_r(const char *name, int family, struct hostent *found, char *buffer,
                                            size_t size, int *error, int *resolver_error) {
    static const char *known[] = {"printer", "printer.local", "wiki.split.test"};
    struct space *space = (struct space *)buffer;
    for (int i = 0; i < 3 && family == AF_INET; i++) {
        if (strcasecmp(name, known[i])) continue;
        if (size < sizeof *space) { *error = ERANGE; return NSS_STATUS_TRYAGAIN; }
        memset(space, 0, sizeof *space);
        strcpy(space->name, known[i]);
        inet_pton(AF_INET, "10.99.0.2", space->address);
        space->addresses[0] = space->address;
        *found = (struct hostent){space->name, space->names, AF_INET, 4, space->addresses};
        return NSS_STATUS_SUCCESS;
    }
    *error = ENOENT;
    *resolver_error = HOST_NOT_FOUND;
    return NSS_STATUS_NOTFOUND;
}
"""
"""A source of names for "hosts:" of nsswitch.conf, there called "world"."""


def unpacked(name: str) -> Path:
    """The folder of a set of unpacked packages; skips the test where there is none."""
    folder = UNPACKED / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not unpacked; on Debian, as root: scripts/system-packages test")
    return folder


def built(machine: Machine, source: str, name: str, *options: str, compiler: str = "cc") -> Path:
    """Build a C program on a machine; skips the test where there is no compiler."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler (package build-essential)")
    program = machine.folder / name
    program.with_suffix(".c").write_text(source)
    machine.run(compiler, "-O1", *options, "-o", program, program.with_suffix(".c")).check()
    return program


@contextmanager
def overlaid(machine: Machine, folder: Path) -> Iterator[None]:
    """`folder`'s usr over the machine's /usr, as if its packages were installed there."""
    mounted = machine.shell(f"mount -t overlay -o lowerdir={folder}/usr:/usr overlay /usr")
    if mounted.code:
        pytest.skip(f"no overlay of /usr here: {mounted.stderr}")
    try:
        yield
    finally:
        machine.shell("umount -l /usr").check()


def dig(machine: Machine, *words: str) -> Output:
    """Ask once, and wait for longer than the bridge does."""
    return machine.run("dig", "+tries=1", "+time=6", *words)


@contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """Another text in a file for a while, in place."""
    usual = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    try:
        yield
    finally:
        if usual is None:
            path.unlink()
        else:
            path.write_text(usual)


@contextmanager
def ended(machine: Machine, *more: str) -> Iterator[None]:
    """The daemons started meanwhile (`more` are others than the usual) are ended again."""
    before = set(machine.processes())
    yield
    new = {pid: words.partition(" ")[0] for pid, words in machine.processes().items() if pid not in before}
    daemons = {pid for pid, program in new.items() if program.rpartition("/")[2] in {*DAEMONS, *more}}
    for pid in daemons:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: daemons.isdisjoint(machine.processes()), "the daemons' end", 5, 0.05)


DAEMONS = {"unbound", "dnsmasq", "dbus-daemon", "systemd-resolved"}

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type> <listen>unix:path=/run/dbus/system_bus_socket</listen> <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_type="method_call"/> <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/> <allow receive_type="method_return"/>
    <allow receive_type="error"/> <allow receive_type="signal"/>
  </policy>
</busconfig>
"""


@contextmanager
def resolved(codespace: Machine, cloud: str, stub: str, *, as_system: bool) -> Iterator[None]:
    """systemd-resolved on `stub`, asking an unbound on `cloud`, and resolv.conf as systemd writes it.

    `as_system`: programs ask it by NSS, and the first process is called systemd.
    """
    if not shutil.which("dbus-daemon"):
        pytest.skip("needs dbus-daemon (package dbus-daemon)")
    etc, folder = codespace.folder / "etc", codespace.folder
    with ExitStack() as exits:
        exits.enter_context(overlaid(codespace, unpacked("resolved")))
        user = "systemd-resolve:x:990:990::/:/usr/sbin/nologin\n"
        if "systemd-resolve" not in (etc / "passwd").read_text():
            exits.enter_context(changed(etc / "passwd", (etc / "passwd").read_text() + user))
            exits.enter_context(changed(etc / "group", (etc / "group").read_text() + "systemd-resolve:x:990:\n"))
        settings = f"[Resolve]\nDNS={cloud}\nFallbackDNS=\nDNSStubListener=no\nDNSStubListenerExtra={stub}\n"
        settings += "LLMNR=no\nMulticastDNS=no\nDNSSEC=no\n"
        exits.enter_context(changed(etc / "systemd/resolved.conf", settings))
        exits.enter_context(changed(folder / "resolv.conf", f"nameserver {stub}\noptions edns0 trust-ad\nsearch .\n"))
        switch = (etc / "nsswitch.conf").read_text()
        if as_system:
            through = switch.replace("hosts: files dns", "hosts: files resolve [!UNAVAIL=return] dns")
            exits.enter_context(changed(etc / "nsswitch.conf", through))
            (folder / "comm").write_text("systemd\n")
            codespace.shell(f"mount --bind {folder}/comm /proc/1/comm").check()
            exits.callback(lambda: codespace.shell("umount /proc/1/comm").check())
        exits.enter_context(ended(codespace))
        zone = ["  local-zone: public.test. static", "  local-data: 'www.public.test. A 203.0.113.80'"]
        servers.unbound(codespace, [cloud], zone)
        (folder / "bus.conf").write_text(BUS)
        codespace.shell(
            "mkdir -p /run/dbus /run/systemd/resolve && chown systemd-resolve:systemd-resolve /run/systemd/resolve"
        ).check()
        exits.callback(lambda: codespace.shell("rm -rf /run/dbus /run/systemd").check())
        codespace.start("dbus-daemon", "--nofork", f"--config-file={folder}/bus.conf", log="bus.log")
        wait_until(lambda: codespace.shell("test -S /run/dbus/system_bus_socket").code == 0, "the message bus")
        codespace.start("/usr/lib/systemd/systemd-resolved", log="resolved.log")
        wait_until(lambda: codespace.answers(stub, 53), "systemd-resolved")
        yield
