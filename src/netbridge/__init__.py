"""netbridge: a remote development environment reaches whatever this machine reaches."""

__version__ = "0.1.0"
