"""The story in lines: a private network, a codespace that fails to reach it, the bridge, the same again, no traces.

As root the local machine is this machine itself. Otherwise a user namespace plays the local machine, because an
ordinary user may not add links; everything else is the same. Exit status 0 when each step went as it should.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from . import traces
from .corp import SERVERS, TIED, Corp, CorpError, program
from .probes import PROBES, RESOLVER
from .screen import BEGUN, aside, heading, line, verdict

HERE = Path(__file__).resolve().parent
PROBE = str(HERE / "probes.py")
NETBRIDGE = [sys.executable, "-m", "netbridge"]
OUTSIDE_UID = "NETBRIDGE_DEMO_UID"
"""Set in the user namespace: the uid the caller has outside."""
LIMIT = 90.0
"""Seconds the bridge may take before the demo gives up."""


def enter_user_namespace() -> None:
    """Start over as root of a user, network and mount namespace of our own; returns only where that is forbidden."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise CorpError("needs root: /dev/net/tun is missing or closed to ordinary users here (sudo make demo)")
    inside = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode != 0:
        raise CorpError("needs root: this kernel gives ordinary users no namespaces (sudo make demo)")
    os.environ[OUTSIDE_UID] = str(os.getuid())
    os.execvp("unshare", [*inside, "sh", "-c", 'ip link set lo up; exec "$0" -m demo', sys.executable])


def with_corp_resolver(folder: Path, argv: list[str]) -> list[str]:
    """A command that sees /etc/resolv.conf as a VPN client would have left it; nobody else does."""
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {RESOLVER}\nsearch corp.internal\n")
    resolv.chmod(0o644)
    return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolv), *argv]


def without_bridge() -> bool:
    """The probes in an empty network namespace: what a codespace is to a private network. True when all fail."""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$0" "$@"', sys.executable, PROBE, "fail"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=False)
    for row in done.stdout.splitlines():
        verdict(good=row.startswith("ok"), text=row[5:])
    return done.returncode == 0


def show_status() -> bool:
    """The flow table, from outside, while the bridge carries something."""
    done = subprocess.run(
        [*NETBRIDGE, "status", "--flows"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
        check=False)
    for row in done.stdout.splitlines():
        aside("netbridge status", row)
    return done.returncode == 0 and SERVERS["iperf3"][0] in done.stdout


def through_bridge(folder: Path) -> bool:
    """The probes as the COMMAND of ``netbridge up sandbox``. True when all work and the flow table showed them."""
    runtime = folder / "running"
    runtime.mkdir(mode=0o700)
    os.environ["NETBRIDGE_RUNTIME_DIR"] = str(runtime)  # other bridges of this user are none of the demo's business
    argv = [*NETBRIDGE, "up", "sandbox", "--gui", "false", "--", sys.executable, PROBE, "work"]
    bridge = subprocess.Popen(
        [*TIED, *with_corp_resolver(folder, argv)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    assert bridge.stdout is not None
    assert bridge.stderr is not None
    events = bridge.stderr

    def relay() -> None:
        for row in events:
            aside("netbridge", row.rstrip())

    listener = threading.Thread(target=relay)
    listener.start()
    watchdog = threading.Timer(LIMIT, bridge.terminate)
    watchdog.start()
    good = True
    try:
        for row in bridge.stdout:
            if not row.startswith("... "):
                verdict(good=row.startswith("ok"), text=row[5:].rstrip())
            elif "to corp" in row:
                time.sleep(2)  # the flow is in full swing
                good &= show_status()
        return bridge.wait(15) == 0 and good
    finally:
        watchdog.cancel()
        if bridge.poll() is None:
            bridge.terminate()
            try:
                bridge.wait(10)
            except subprocess.TimeoutExpired:
                bridge.kill()
                bridge.wait()
        listener.join(5)


def story(uid: int | None) -> bool:
    """Everything but the check for traces. True when it went as it should."""
    heading("A private network that only the local machine can reach")
    if uid is not None:
        line("not root: a user namespace plays the local machine (as root it is this machine itself)")
    with Corp(uid=uid) as corp:
        for name, (address, port) in SERVERS.items():
            corp.wait_for(name)
            verdict(good=True, text=f"{name:<11} answers the local machine at {address} port {port}")

        heading("From an isolated codespace, without the bridge: each must fail")
        failed = without_bridge()

        heading("From a codespace through the bridge: netbridge up sandbox -- probes")
        return through_bridge(corp.folder) and failed


def main() -> int:
    """Tell the story, then look for traces."""
    outside = os.environ.get(OUTSIDE_UID)
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"  # an ordinary user's often lacks them
    try:
        if os.geteuid() != 0:
            enter_user_namespace()
        for probe in PROBES:
            program(probe.argv[0])
        traces.become_subreaper()
        before = traces.snapshot()
        good = story(None if outside is None else int(outside))
    except CorpError as error:
        verdict(good=False, text=str(error))
        return 1
    except KeyboardInterrupt:
        verdict(good=False, text="interrupted")
        good = False

    heading("Afterwards")
    left = traces.differences(before)
    for row in left:
        verdict(good=False, text=row)
    if not left:
        verdict(good=True, text=f"nothing left behind: {', '.join(before)} and processes are as before")
    good &= not left
    ending = "done" if good else "not everything went as it should"
    verdict(good=good, text=f"{ending} in {time.monotonic() - BEGUN:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
