"""One module a target; `fuzz/target.py` says what it consists of."""
