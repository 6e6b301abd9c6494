"""This machine: Python and its packages, descriptors, the folder of running bridges, what a sandbox needs."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from .. import control, runtime
from ..errors import BridgeError, TargetLacksError
from ..forward.limits import Limits
from ..startfaults import NEEDS_SUDO
from .report import Check, fault, note, ok, warning

PACKAGES = ("asyncssh", "cyclopts", "dnslib", "platformdirs", "pyroute2", "rich", "uvloop")
NEEDED = (3, 11)
FEWEST = 64
"""Descriptors below which not even the session itself gets what it opens."""
ENOUGH = 256
"""All of a bridge works with so many, for some hundred flows (docs/limits.md)."""


def checks(limits: Limits) -> Iterator[Check]:
    """All of them; `limits`: what a bridge would be started with."""
    yield python(sys.version_info[:3], {name: _version(name) for name in PACKAGES})
    yield event_loop(_version("uvloop"), sys.platform)
    yield descriptors(*_descriptor_limits(), limits.descriptors)
    yield clock(hasattr(time, "CLOCK_BOOTTIME"))
    yield from bridges()
    yield sandbox(os.geteuid() == 0, _device(), _namespaces())


def python(version: tuple[int, ...], packages: Mapping[str, str]) -> Check:
    """`packages`: name to version, empty where it is missing."""
    number = ".".join(map(str, version))
    have = ", ".join(f"{name} {found}" for name, found in packages.items() if found and name != "uvloop")
    if version[:2] < NEEDED:
        return fault("python", BridgeError(f"Python {number} is too old.", "3.11 or newer is needed here.",
                                           "Install a newer one and netbridge in it."), version=number)  # fmt: skip
    lacking = [name for name, found in packages.items() if not found and name != "uvloop"
               and (name != "pyroute2" or sys.platform == "linux")]  # fmt: skip
    if lacking:
        return fault("python", BridgeError(
            f"Python lacks {', '.join(lacking)}.", "netbridge's own installation is not whole.",
            f"Run `{sys.executable} -m pip install {' '.join(lacking)}`.",
        ), version=number)  # fmt: skip
    return ok("python", f"{number} with {have}", version=number, packages=dict(packages), executable=sys.executable)


def event_loop(uvloop: str, system: str) -> Check:
    """`uvloop`: its version, or empty."""
    if uvloop:
        return ok("uvloop", uvloop, version=uvloop)
    return warning(
        "uvloop", "not installed", "It is not made for this system." if system == "win32" else
        "asyncio's own event loop is used, which costs about a third of the throughput.",
        f"Run `{sys.executable} -m pip install uvloop`.",
    )


def descriptors(soft: int, hard: int, wanted: int) -> Check:
    """`wanted`: what full use of the limits needs. A bridge raises the soft limit by itself."""
    limits = {"soft": soft, "hard": hard, "wanted": wanted}
    if hard < FEWEST:
        return fault("descriptors", BridgeError(
            f"Only {hard} files may be open at a time.", "A bridge needs 256 for some hundred flows.",
            "Raise the hard limit (`ulimit -Hn`, nofile in /etc/security/limits.conf) and log in anew.",
        ), **limits)  # fmt: skip
    if hard < ENOUGH:
        return warning(
            "descriptors", f"{hard} at most", "That is few: flows and names take turns.",
            "Raise the hard limit (`ulimit -Hn`, nofile in /etc/security/limits.conf) and log in anew.", **limits,
        )
    few = "" if hard >= wanted else f", of {wanted} that full use of all limits (docs/limits.md) would take"
    return ok("descriptors", f"{hard} at most{few}", **limits)


def clock(boottime: bool) -> Check:
    """Whether sleep shows at once."""
    if boottime:
        return ok("clock", "sleep of this machine shows at once")
    return note("clock", "sleep of this machine shows by the silence after it")


def bridges() -> Iterator[Check]:
    """The folder in which bridges are known, and those there are. What dead ones left there is removed by looking."""
    try:
        with runtime.own_folder() as folder:
            before = {name for name in os.listdir(folder.descriptor) if name.endswith((".lock", ".sock"))}
            running = control.statuses(folder)
            left = before - set(os.listdir(folder.descriptor))
            path = str(folder.path)
    except BridgeError as error:
        yield fault("runtime folder", error)
        return
    yield ok("runtime folder", f"{path}{', remains of dead bridges removed' if left else ''}", path=path)
    names = [str(bridge.get("target", bridge["number"])) for bridge in running]
    mute = [bridge for bridge in running if "error" in bridge]
    if mute:
        yield warning(
            "bridges", f"bridge {mute[0]['number']} does not answer", str(mute[0]["error"]),
            "End its process, or see its own output.", running=names,
        )
    else:
        yield note("bridges", ", ".join(names) or "none is running", running=names)


def sandbox(root: bool, device: str, namespaces: str) -> Check:
    """What the target `sandbox` needs; `device` and `namespaces` are what is wrong with them, or empty."""
    if not device and (root or not namespaces):
        return ok("sandbox", "possible")
    if device:
        return note("sandbox", f"not possible: {device}; {NEEDS_SUDO[0].lower()}{NEEDS_SUDO[1:]}")
    return note("sandbox", f"only with sudo: {namespaces}")


def sandbox_fault(check: Check) -> Check:
    """The same, when the sandbox is what is wanted."""
    return check if check.state == "ok" else fault("sandbox", TargetLacksError(
        "A sandbox is not possible here.", f"{check.said[0].upper()}{check.said[1:]}.", "Run it with sudo.",
    ))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _descriptor_limits() -> tuple[int, int]:
    if sys.platform == "win32":
        return 1 << 20, 1 << 20
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return tuple(1 << 20 if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))  # type: ignore[return-value]


def _device() -> str:
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    return "" if os.access("/dev/net/tun", os.R_OK | os.W_OK) else "/dev/net/tun may not be opened"


def _namespaces() -> str:
    unshare = shutil.which("unshare")
    if unshare is None:
        return "there is no program unshare (util-linux)"
    try:
        done = subprocess.run([unshare, "--user", "--map-root-user", "--net", "true"], check=False, timeout=5,
                              stdin=subprocess.DEVNULL, capture_output=True)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else "this kernel gives ordinary users no namespaces"

