"""How one destination would travel, step by step: who resolves its name on either side, which route each address takes
there, what the policy says, which way it leaves here, and whether a connect works.

- :mod:`.place`: HOST[:PORT], as a person writes it.
- :mod:`.found`: what is found out, as it becomes JSON.
- :mod:`.here`: names, routes and connects of this machine.
- :mod:`.there`: what the agent tells, which is untrusted.
- :mod:`.capture`: whether an address comes through the bridge, and why not.
- :mod:`.judge`: the first thing that stops it, and what to do.
- :mod:`.run`: all of it, for a running bridge or without one.

Nothing is imported here: who asks a running bridge needs :mod:`.place` alone.
"""
