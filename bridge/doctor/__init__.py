"""Everything a bridge needs, checked one by one, with the mend for what is wrong.

- :mod:`.report`: a check's outcome, and what all of them come to.
- :mod:`.machine`: this machine: Python, descriptors, the folder of running bridges, what a sandbox needs.
- :mod:`.programs`: helpers: ssh, its agent, gh, and whose they are under sudo.
- :mod:`.names`, :mod:`.networks`: this machine's resolver and its routes.
- :mod:`.target`: the target, reached as `up` reaches it; :mod:`.place`: what it permits.
- :mod:`.examine`: all of it in order.

Each check is a function of facts, so it can be tried with any; what gathers the facts stands beside it.
"""

from __future__ import annotations

from .examine import examine
from .report import Check, Report

__all__ = ["Check", "Report", "examine"]
