"""Giving root's powers up, in processes of their own: what is kept works, what is not is gone for good, and where the
system forbids to give up, that is told.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netbridge.bridge.agent.privileges import NAMES

SOURCES = str(Path(__file__).parents[3] / "src")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="has nothing to give up: run as root")
BEGIN = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from netbridge.bridge.agent import privileges
"""
FORBID = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
capset = {"x86_64": 126, "aarch64": 91}[os.uname().machine]
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
code = op(0x20, 0, 0, 0) + op(0x15, 0, 1, capset) + op(0x06, 0, 0, 0x00050000 | 1) + op(0x06, 0, 0, 0x7FFF0000)
held = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(held))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
"""
"""A seccomp filter that answers capset(2) with EPERM, as a container's profile may."""


def run(body: str, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body, SOURCES, *words], capture_output=True, text=True, timeout=30, check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_names_are_the_kernels() -> None:
    last = Path("/proc/sys/kernel/cap_last_cap")
    if not last.exists():
        pytest.skip("this kernel does not tell its last capability")
    assert len(NAMES) == 41
    assert NAMES[12] == "NET_ADMIN"
    assert NAMES[40] == "CHECKPOINT_RESTORE"
    assert int(last.read_text()) >= 36


@needs_root
def test_what_is_given_up_does_not_come_back() -> None:
    told = run("""
told = privileges.keep(["NET_BIND_SERVICE"])
try:
    os.setuid(12345)
    told["uid"] = os.getuid()
except PermissionError:
    told["uid"] = "refused"
told["again"] = os.popen("grep -E '^Cap(Eff|Prm|Bnd)|NoNewPrivs' /proc/self/status").read().split()
print(json.dumps(told))
""")
    assert told["capabilities"] == ["NET_BIND_SERVICE"]
    assert told["no_new_privs"] is True
    assert told["reason"] == ""
    assert told["uid"] == "refused"
    values = dict(zip(told["again"][::2], told["again"][1::2], strict=True))
    assert {int(value, 16) for name, value in values.items() if name.startswith("Cap")} <= {1 << 10}


@needs_root
def test_a_name_that_is_not_held_is_not_made() -> None:
    told = run("privileges.keep(['NET_RAW']); print(json.dumps(privileges.keep(['NET_RAW', 'NET_ADMIN'])))")
    assert told["capabilities"] == ["NET_RAW"]


@needs_root
@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="the filter knows two processors' numbers")
def test_where_seccomp_forbids_it_goes_on_and_tells() -> None:
    told = run(FORBID + "print(json.dumps(privileges.keep([])))")
    assert "capset: Operation not permitted" in told["reason"]
    assert told["no_new_privs"] is True
    assert "SYS_ADMIN" in told["capabilities"] or len(told["capabilities"]) > 1


@needs_root
def test_without_ctypes_it_goes_on_and_tells() -> None:
    told = run("sys.modules['ctypes'] = None; print(json.dumps(privileges.keep([])))")
    assert "ctypes" in told["reason"]
    assert told["capabilities"]


@needs_root
def test_becoming_the_user_is_for_good(tmp_path: Path) -> None:
    told = run("""
os.environ.update(SUDO_UID="54399", SUDO_GID="54398")
privileges.become_user()
told = {"ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()], **privileges.held()}
for change in (os.seteuid, os.setuid, os.setgid):
    try:
        change(0)
        told["back"] = change.__name__
    except PermissionError:
        pass
print(json.dumps(told))
""")
    assert told == {"ids": [54399] * 3 + [54398] * 3, "capabilities": [], "no_new_privs": True}


@needs_root
@pytest.mark.parametrize(("owner", "mode", "kept"), [
    (0, 0o644, []), (54399, 0o644, ["DAC_OVERRIDE"]), (0, 0o444, ["DAC_OVERRIDE"]), (54399, 0o666, []),
])  # fmt: skip
def test_the_right_to_others_files_is_kept_where_resolv_conf_is_one(
    tmp_path: Path, owner: int, mode: int, kept: list[str],
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    os.chown(path, owner, owner)
    path.chmod(mode)
    told = run("""
found = list(privileges.for_resolv_conf(sys.argv[2]))
print(json.dumps([found, len(privileges.held()["capabilities"])]))
""", str(path))  # fmt: skip
    assert told[0] == kept
    assert told[1] > 1, "looking gave something up"
    assert path.read_text() == "nameserver 192.0.2.1\n"


@needs_root
@pytest.mark.parametrize(("owner", "kept"), [(0, []), (65534, ["DAC_OVERRIDE"])])
def test_a_resolv_conf_that_was_not_there_is_removed_whoever_owns_its_folder(
    tmp_path: Path, owner: int, kept: list[str]
) -> None:
    """A link that leads nowhere, say to a folder of systemd-resolved's, which does not run: before the file is made
    (the guardian's look), after that (the holder's), and what each then may do.
    """
    folder, path = tmp_path / "resolve", tmp_path / "resolv.conf"
    folder.mkdir(mode=0o755)
    os.chown(folder, owner, owner)
    path.symlink_to(folder / "stub-resolv.conf")
    told = run("""
from netbridge.bridge.agent import resolvconf
path = sys.argv[2]
before = list(privileges.for_resolv_conf(path))
resolvconf.install("127.0.0.53", [], alone=False, path=path)
after = list(privileges.for_resolv_conf(path))
privileges.keep(after)
resolvconf.heal(path)
print(json.dumps([before, after, os.listdir(os.path.dirname(os.path.realpath(path)))]))
""", str(path))  # fmt: skip
    assert told == [kept, kept, []]


def test_nobody_in_particular_has_nothing_to_give_up() -> None:
    """As an ordinary user it is harmless."""
    told = run("""
if os.geteuid() == 0:
    import ctypes, encodings.ascii, encodings.idna, encodings.latin_1  # they may stand in a folder closed to others
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
told = privileges.keep(["NET_ADMIN"])
print(json.dumps(told))
""")
    assert told["capabilities"] == []
    assert told["no_new_privs"] is True
