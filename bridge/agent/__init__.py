"""What runs in the codespace: standard library only, Python 3.8 or newer, sent over the channel and never installed.

The way of a start. The session runs a first stage there (see :mod:`netbridge.bridge.bootstrap`), which reads an exact
number of bytes from stdin and hands them to :mod:`.loader`, an in-memory importer. :mod:`.main` moves stdin and stdout
out of the way of stray prints and says `hello`; :mod:`.holder` then owns everything: the TUN, the routes, the DNS
stub, the edited resolv.conf, and undoes all of it when the session says `stop`, on a signal, or when the connection
broke and no other came within the grace (:mod:`.meeting`). What started the agent sees only :mod:`.front`.
What a SIGKILL leaves behind is put right by the kernel (the TUN is not persistent, so routes and addresses vanish with
the process) and by the guardian process (resolv.conf).

Nothing in this package may import anything outside itself and the standard library. :mod:`.frames`, the link protocol,
is also imported by the session, so that both ends share one definition.
"""

PROTOCOL = 1
"""Number of the link protocol; both ends must agree."""

VERSION = "1"
"""Version of the agent's code; always that of the session that sent it."""
SILENCE = 30.0
"""Seconds without a word from the session after which the agent gives its connection up (and waits for another one as
long as the grace lasts): longer than the session's own patience, so that it is the session that notices first."""
