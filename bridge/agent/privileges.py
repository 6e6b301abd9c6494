"""Root's power, given up as far as it is no longer needed (capabilities(7)).

What runs here as root is the holder and its guardian. Once everything is set up, each keeps what its own work still
takes and gives the rest up for good: out of the effective, the permitted and the bounding set, and PR_SET_NO_NEW_PRIVS
besides, so that no program started later gets it back. The process in front needs nothing and becomes the user who
logged in.

Nothing depends on it: where a sandbox around us forbids these calls, or this Python has no ctypes, what could be done
is told (`privileges` in the message `ready`) and the bridge goes on.
"""

from __future__ import annotations

import codecs
import contextlib
import os
from typing import Any, Collection, Dict, List

from . import resolvconf
from .authsocket import login_user

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
"""By their numbers (linux/capability.h). One that is newer than this list is always given up."""
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 23, 24, 47, 4
"""<linux/prctl.h>"""
LATER = ("ascii", "utf-8", "latin-1", "idna")
"""Encodings, which Python loads when they are first used: it may stand in a folder that is closed to others."""
VERSION_3 = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two words of 32 bits each for effective, permitted and inheritable."""
TUN = ("NET_ADMIN",)
"""Routes, rules and addresses change with the place; a socket that waits in vain is ended; and all of it is undone."""
STUB = ("NET_BIND_SERVICE",)
"""Port 53 of further addresses, when a container network appears."""
RETURN = ("SYS_PTRACE", "DAC_READ_SEARCH")
"""Whose a socket is, while a broken connection may come again: /proc/PID/fd of everybody (:mod:`.carrier`)."""
OTHERS_FILE = ("DAC_OVERRIDE",)
"""resolv.conf, where it is not root's own but, say, systemd-resolved's."""


def keep(names: Collection[str], *, for_now: Collection[str] = ()) -> Dict[str, Any]:
    """Give up everything but these, and these `for_now`, which no program started later gets; what is left:
    `capabilities`, `no_new_privs`, and the `reason` where that is not as it should be. Of one thread: call it while
    there is only one.
    """
    bounding, kept = _bits(names), _bits((*names, *for_now))
    faults: List[str] = []
    try:
        _give_up(kept, bounding, faults)
    except (ImportError, LookupError, OSError, AttributeError) as error:  # no ctypes, or no C library for it
        faults.append(str(error))
    return {**held(), "reason": "; ".join(faults)}


def held(status: str = "/proc/self/status") -> Dict[str, Any]:
    """What this process has: `capabilities` (those in effect) and `no_new_privs`."""
    values = _status(status)
    effective = int(values.get("CapEff", "0"), 16)
    found = [name for number, name in enumerate(NAMES) if effective >> number & 1]
    found += ["CAP_%d" % number for number in range(len(NAMES), 64) if effective >> number & 1]
    return {"capabilities": found, "no_new_privs": values.get("NoNewPrivs") == "1"}


def _status(path: str = "/proc/self/status") -> Dict[str, str]:
    found: Dict[str, str] = {}
    with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            found[name] = value.strip()
    return found


def _bits(names: Collection[str]) -> int:
    return sum(1 << NAMES.index(name) for name in names)


def _give_up(kept: int, bounding: int, faults: List[str]) -> None:
    import ctypes

    for name in LATER:
        codecs.lookup(name)
    library = ctypes.CDLL(None, use_errno=True)

    def prctl(option: int, second: int = 0, third: int = 0) -> int:
        value = library.prctl(option, *(ctypes.c_ulong(word) for word in (second, third, 0, 0)))
        return int(value)

    def check(result: int, what: str) -> bool:
        if result >= 0:
            return True
        faults.append("%s: %s" % (what, os.strerror(ctypes.get_errno())))
        return False

    check(prctl(PR_SET_NO_NEW_PRIVS, 1), "PR_SET_NO_NEW_PRIVS")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)  # unknown before Linux 4.3, which then has none
    for number in range(64):
        there = prctl(PR_CAPBSET_READ, number)
        if there < 0:  # behind the kernel's last one
            break
        if there and not bounding >> number & 1 and not check(prctl(PR_CAPBSET_DROP, number), "PR_CAPBSET_DROP"):
            break
    _set_effective(kept, kept, faults, library)


def _set_effective(kept: int, permitted: int, faults: List[str], library: Any) -> None:
    """Have of what is permitted now only `permitted`, and of that only `kept` in effect."""
    import ctypes

    permitted &= int(_status().get("CapPrm", "0"), 16)
    effective = permitted & kept
    words = [value >> shift & 0xFFFFFFFF for shift in (0, 32) for value in (effective, permitted, 0)]
    header, sets = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)(*words)
    if library.capset(header, sets) < 0:
        faults.append("capset: %s" % os.strerror(ctypes.get_errno()))


def for_resolv_conf(path: str = resolvconf.PATH) -> Collection[str]:
    """What it takes to write resolv.conf, or to remove one of ours: nothing, where that is found to work without."""
    try:
        if _in_others_folder(path):
            return OTHERS_FILE
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        everything, bit = (1 << 64) - 1, 1 << NAMES.index("DAC_OVERRIDE")
        _set_effective(everything & ~bit, everything, [], library)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
        except PermissionError:
            return OTHERS_FILE
        finally:
            _set_effective(everything, everything, [], library)
    except (ImportError, AttributeError):
        return OTHERS_FILE
    except OSError:  # there is none, or it is read-only for everybody
        pass
    return ()


def _in_others_folder(path: str) -> bool:
    """Whether there was no file, and a link leads to where it is made and removed: a folder that is somebody else's."""
    try:
        if resolvconf.CREATED not in resolvconf.read(path):
            return False
    except FileNotFoundError:
        pass
    return os.stat(os.path.dirname(os.path.realpath(path))).st_uid != os.geteuid()


def become_user() -> None:
    """Be the user who logged in, for good, and keep nothing of root's. What the system forbids is left as it is."""
    user, group = login_user()
    if user != os.geteuid():
        keep((), for_now=("SETUID", "SETGID"))  # the bounding set shrinks only while one is root
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
    keep(())
