"""The way back: from the local machine into the codespace, and its ssh-agent's way there.

The bridge's process holds the service on the stack (:mod:`.service`); `netbridge connect`, `forward` and `socks` are
programs of their own that ask it over its control socket (:mod:`.door`). `bridge/agent/back.py` is the other end.
"""
