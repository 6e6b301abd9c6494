"""`python garbler.py SEED COMMAND…`: run a command, and change some of what it says by seed before passing it on.

What it is told it gets as it is. Between netbridge and a real agent this is a line that lies, in one direction.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.hostile.mutations import mutate

FIRST = 8000
"""Bytes of which as many as the seed says pass as they are: a start and its answers are about five thousand."""


def main() -> int:
    draw = random.Random(sys.argv[1])
    spared, often = draw.randrange(FIRST), draw.choice([0.02, 0.2, 1.0])
    with subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE) as child:
        assert child.stdout
        try:
            while data := os.read(child.stdout.fileno(), 65536):
                spared -= len(data)
                if spared < 0 and draw.random() < often:
                    data = mutate(data, draw)
                while data:
                    data = data[os.write(1, data) :]
        except BrokenPipeError:
            child.terminate()
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
