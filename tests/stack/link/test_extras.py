"""Packages of extras are imported by the link that needs them, and their absence is said with what brings them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OPTIONAL = ("aioquic", "libp2p", "trio", "websockets", "asyncssh", "multiaddr")


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys\nsys.path.insert(0, {str(ROOT / 'src')!r})\n{program}"],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_stack_imports_none_of_them() -> None:
    program = f"import netbridge.stack, netbridge.stack.link\nprint(sorted(set({OPTIONAL!r}) & set(sys.modules)))"
    assert run(program) == "[]"


@pytest.mark.parametrize(("extra", "program"), [
    ("quic", "import netbridge.stack.link.quic"),
    ("libp2p", "import netbridge.stack.link.libp2p"),
    ("websocket", "import asyncio\nfrom netbridge.stack.link import websocket_link\nasyncio.run(websocket_link(None))"),
])
def test_absence_is_told(extra: str, program: str) -> None:
    lines = program.replace("\n", "\n    ")
    said = run(
        f"for name in {OPTIONAL!r}: sys.modules[name] = None\n"
        f"try:\n    {lines}\nexcept ImportError as error: print(error)"
    )
    assert said.endswith(f'it comes with: pip install "netbridge[{extra}]"')
