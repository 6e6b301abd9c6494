"""`python -m tests.faults`: every site with every error, and a table of what came of it."""
