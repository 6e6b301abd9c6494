"""Attackers: what a hostile codespace or network does, by name; tests, bench/hostile.py and the soak use the same."""
