"""Shortages and broken calls: what the system refuses, at each place where netbridge asks it for something."""
