"""`python -m netbridge.cli.ui FOLDER NUMBER`: the terminal UI of one bridge, as `netbridge up` starts it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from netbridge.bridge.runtime import Folder

from .app import run

with Folder(Path(sys.argv[1]), owner=os.stat(sys.argv[1]).st_uid) as folder:
    sys.exit(int(run(folder, int(sys.argv[2]))))
