"""Any ~/.ssh/config is read by asyncssh or refused as a UsageError; our lines go in and out again to the byte.

Nothing of it runs: `Match exec`, which is a command, is taken out of the input first.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from fuzz.shown import kind, refused_or, text_of
from netbridge.bridge import sshconfig
from netbridge.bridge.transport.devpod import configured_user
from netbridge.bridge.transport.known_hosts import KnownHosts
from netbridge.bridge.transport.ssh_settings import SshSettings, read_settings
from netbridge.bridge.transport.target import SshTarget
from netbridge.bridge.user import User

HOME = Path(tempfile.mkdtemp(prefix="netbridge-fuzz-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
USER = User("mona", 1000, 1000, (), HOME, "/bin/sh", {"HOME": str(HOME)}, differs=False)
TARGET = SshTarget("devbox", "me")
COMMANDS = re.compile(rb"exec", re.IGNORECASE)
FILES = re.compile(rb"include", re.IGNORECASE)
"""What stands on this machine is no part of an input."""
LINES = [
    sshconfig.block(target, name=name)
    for target, name in (("ssh://me@devbox:2200", None), ("mona-robot", "cs"), ("exec:sh -c 'a %h b'", "own"))
]


def run(data: bytes) -> object:
    data = FILES.sub(b"inc1ude", COMMANDS.sub(b"ex3c", data))
    return _blocks(data), _settings(data)


def _blocks(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    kept = text
    for block in LINES:
        kept = sshconfig._without(kept, block.name)  # of a block that nobody wrote there is nothing to keep
    whole = kept if kept.endswith("\n") or not kept else f"{kept}\n"
    for block in LINES:
        assert block.target in " ".join(block.text(["netbridge"]).replace("%%", "%").split()).replace("'\"'\"'", "'")
        added = whole + block.text(["netbridge"])
        assert sshconfig._without(added, block.name) == whole
        assert sshconfig._without(sshconfig._without(added, "other"), block.name) == whole
    included = f"{sshconfig.NOTE}\n{sshconfig.INCLUDE}\n\n{text}"
    assert sshconfig._includes(included)
    before = sshconfig._without_include(text)
    assert sshconfig._without_include(before) == before
    assert sshconfig._without_include(included) == before or not text
    return sshconfig._includes(text), before == text, kept == text


def _settings(data: bytes) -> object:
    folder = HOME / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_bytes(data)
    (folder / "known_hosts").write_bytes(data)
    found = refused_or(lambda _: read_settings(TARGET, USER, interactive=False), "")
    KnownHosts(USER, None, []).keys("devbox", 22)
    user = configured_user("work", USER)
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.\-]*", user)
    if isinstance(found, SshSettings):
        assert 0 < found.port < 65536
        return "read", found.strictness, bool(found.proxy_command), len(found.jumps), user
    return kind(found), user, text_of(data)[:0]
