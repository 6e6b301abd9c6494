"""Started without standard input, output or error, as supervisors and cron jobs may do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import netbridge

SOURCE = str(Path(netbridge.__file__).parent.parent)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(tmp_path: Path, closed: str) -> None:
    log = tmp_path / "log"
    words = f'exec "$0" -m netbridge up exec:false --gui false --log-file {log} {closed}'
    environment = {**os.environ, "PYTHONPATH": SOURCE, "NETBRIDGE_RUNTIME_DIR": str(tmp_path / "run")}
    done = subprocess.run(["sh", "-c", words, sys.executable], env=environment, timeout=30, check=False)
    assert done.returncode == 3  # the command ended; libuv's abort would be 134 and a traceback 1
    assert "`false` ended with exit status 1" in log.read_text()
