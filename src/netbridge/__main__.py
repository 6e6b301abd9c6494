"""``python -m netbridge`` is the ``netbridge`` command."""

from __future__ import annotations

from netbridge.cli.main import main

if __name__ == "__main__":
    main()
