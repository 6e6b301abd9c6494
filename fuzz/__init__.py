"""Feeding the parsers and machines what no sane peer would send. `python -m fuzz --help`; see `engine.py`."""
