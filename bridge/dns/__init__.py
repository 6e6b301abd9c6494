"""The names of the local machine, for the codespace: a DNS service on the stack and a client of the local resolver.

- :mod:`.message`, :mod:`.answer`: the wire format (RFC 1035, 6891); bytes in, bytes out, one exception.
- :mod:`.synthesis`: answers made here, from a hosts file or the system's name service.
- :mod:`.cache`: answers for as long as their TTL lasts.
- :mod:`.watched`, :mod:`.resolvconf`, :mod:`.hosts`: what the local machine's files say right now.
- :mod:`.nsswitch`: whether that name service has sources of its own.
- :mod:`.nss`: the system's name service (getaddrinfo), for names no nameserver knows.
- :mod:`.systemnames`, :mod:`.linkdomains`, :mod:`.scutil`: what the system knows of domains beyond resolv.conf.
- :mod:`.reverse`: the names under which addresses of a network are looked up.
- :mod:`.own`: the bridge's own names.
- :mod:`.exchange`: one question to one nameserver, over UDP or TCP.
- :mod:`.upstream`, :mod:`.lookup`, :mod:`.nameserver`: the local machine's resolver as a whole: whom to ask, in
  which order, for how long.
- :mod:`.questions`: what was asked last, for people, and the names of addresses.
- :mod:`.service`: the DNS service itself, on UDP and TCP.
"""

from __future__ import annotations

from .own import OwnNames
from .questions import Questions
from .service import DnsCounters, DnsService
from .systemnames import Names
from .upstream import Upstream

__all__ = ["DnsCounters", "DnsService", "Names", "OwnNames", "Questions", "Upstream"]
