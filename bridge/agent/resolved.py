"""systemd-resolved: programs that ask it by NSS never read resolv.conf (nss-resolve(8)), so it is told of the service.

What is said belongs to the TUN, so it is forgotten when the TUN goes. In mode `auto` the TUN's server is one more that
may know any name, next to those resolved has: it asks them all at the same time and takes the first answer that is no
failure, and private suffixes go to the service alone (systemd-resolved.service(8), "Protocols and Routing"). In mode
`all` everything does.

resolved knows interfaces by number, and numbers mean something else in another network namespace. So it is only told
where the first process is systemd and shares our network namespace: not in a sandbox, not in a container that sees its
host's message bus.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import List, Optional, Sequence, Tuple

RUNS = "/run/systemd/resolve"
PATIENCE = 3.0
"""Seconds for each command; without a message bus resolvectl waits much longer."""


def commands(
    tun: str, mode: str, service: Sequence[str], suffixes: Sequence[str], search: Sequence[str]
) -> List[List[str]]:
    """What resolvectl(1) is asked to do. With a tilde a domain is only a route, without one it is searched too."""
    domains = [name.strip(".") for name in search]
    private = [name.strip(".") for name in suffixes]
    domains += ["~."] if mode == "all" else ["~" + name for name in private if name not in domains]
    return [
        ["dns", tun, *service],
        ["domain", tun, *(domains or [""])],
        ["default-route", tun, "yes"],
    ]


def is_ours(first: str = "/proc/1") -> bool:
    """Whether the system's services live in our network namespace."""
    try:
        with open(first + "/comm", encoding="ascii") as name:
            systemd = name.read().strip() == "systemd"
        return systemd and os.stat(first + "/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return False


def tell(tun: str, mode: str, service: Sequence[str], suffixes: Sequence[str], search: Sequence[str] = ()) -> bool:
    """Tell resolved, where it runs and is ours; whether it took everything."""
    return is_ours() and _tell(tun, mode, service, suffixes, search)


def _tell(tun: str, mode: str, service: Sequence[str], suffixes: Sequence[str], search: Sequence[str]) -> bool:
    program = shutil.which("resolvectl")
    if program is None or not os.path.isdir(RUNS):
        return False
    for words in commands(tun, mode, service, suffixes, search):
        try:
            done = subprocess.run(
                [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=PATIENCE, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode:
            return False
    return True


class Teller:
    """Tells it from a thread: a message bus that hangs must not hold up packets. Of several changes the last counts."""

    def __init__(self) -> None:
        self._ours = is_ours()  # asked now: later this process may not be permitted to see
        self._lock = threading.Lock()
        self._next: Optional[Tuple[str, str, Sequence[str], Sequence[str], Sequence[str]]] = None
        self._busy = False

    def tell(
        self, tun: str, mode: str, service: Sequence[str], suffixes: Sequence[str], search: Sequence[str]
    ) -> None:
        """As :func:`tell`, but soon."""
        with self._lock:
            self._next = tun, mode, service, suffixes, search
            if self._busy:
                return
            self._busy = True
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                now, self._next = self._next, None
                if now is None:
                    self._busy = False
                    return
            if self._ours:
                _tell(*now)
