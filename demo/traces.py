"""What a program could leave behind on this machine, seen before and after.

Processes cannot hide: the demo is a child subreaper (prctl 36), so whatever it started, directly or not, ends up as its
own child when its parent dies, whichever namespace it is in.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36

COMMANDS = {
    "links": ["ip", "-o", "link", "show"],
    "addresses": ["ip", "-o", "address", "show"],
    "IPv4 routes": ["ip", "-4", "route", "show", "table", "all"],
    "IPv6 routes": ["ip", "-6", "route", "show", "table", "all"],
    "rules": ["ip", "rule", "show"],
    "named namespaces": ["ip", "netns", "list"],
}
PASSING = re.compile(r" (expires|valid_lft|preferred_lft|qlen|qdisc|state|mode) \S+|<[A-Z_,-]*>")
"""What changes by itself: lifetimes learnt from router advertisements, the state of somebody else's link."""

OTHERS_END = {"named namespaces", "temporary files"}
"""The demo could leave some, but has no way to take away those of others; that these end meanwhile says nothing."""

Snapshot = dict[str, frozenset[str]]


def become_subreaper() -> None:
    """Adopt orphaned descendants from now on."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def snapshot() -> Snapshot:
    """The machine's links, addresses, routes, rules, namespaces, mounts, resolver and temporary files of ours."""
    seen: Snapshot = {}
    for name, argv in COMMANDS.items():
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        seen[name] = frozenset(PASSING.sub("", row).strip() for row in done.stdout.splitlines())
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    seen["mounts"] = frozenset(row.split()[4] for row in mounts)
    seen["resolv.conf"] = frozenset([hashlib.sha256(Path("/etc/resolv.conf").read_bytes()).hexdigest()[:12]])
    seen["temporary files"] = frozenset(name for name in os.listdir("/tmp") if name.startswith("netbridge"))
    return seen


def children() -> list[str]:
    """Our living children, adopted ones included, as ``pid command``; dead ones are reaped on the way."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return []
    found = []
    for pid in Path("/proc/self/task").glob("*/children"):
        for child in pid.read_text().split():
            try:
                found.append(f"{child} {Path(f'/proc/{child}/comm').read_text().strip()}")
            except OSError:
                continue
    return found


def differences(before: Snapshot, patience: float = 3.0) -> list[str]:
    """What is there now and was not before, or the other way round; waits a little for the kernel to tidy up."""
    deadline = time.monotonic() + patience
    while True:
        after = snapshot()
        found = [f"process still running: {process}" for process in children()]
        for name in before:
            found += [f"{name}: + {row}" for row in sorted(after[name] - before[name])]
            if name not in OTHERS_END:
                found += [f"{name}: - {row}" for row in sorted(before[name] - after[name])]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
