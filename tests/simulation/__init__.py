"""Whole stacks on a clock of their own: what takes an hour takes a second, and a seed decides everything.

`clock` is an event loop that moves the time on instead of waiting, `network` two stacks and what lies between them,
`ends` who talks over them, `scenarios` what is tried (`paths` and `behaviour`, made from `trials`), `run` one trial and
what must hold for it, `throughput` a table.
"""
