"""The attacking process: `python -m tests.hostile.child NAME PLACE SEED RATE`, until something comes on its standard
input; see :mod:`.attack`."""

from __future__ import annotations

import json
import resource
import sys

from tests.hostile.attack import Place
from tests.hostile.network import ATTACKS


def main(name: str, place: str, seed: str, rate: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = ATTACKS[name](Place.heard(place), int(seed), float(rate))
    print(json.dumps(attack.run()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
