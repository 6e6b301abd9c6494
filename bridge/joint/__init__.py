"""Two machines joined by a link: `netbridge link`. One end is an exit, the other an entrance.

A `Place` (a URL) says how; a carrier (TLS, WebSocket, QUIC, libp2p, a unix socket, pipes, ssh) makes a `Channel`; both
ends prove who they are on it (:mod:`.proof`); then it becomes a link, and a session of an exit or an entrance begins.
"""
