"""``python -m netbridge`` is the ``netbridge`` command."""

from __future__ import annotations

import sys

from netbridge.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
