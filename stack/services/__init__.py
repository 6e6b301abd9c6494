"""Small servers for a stack that stands alone: what `netbridge stack serve` offers to the kernel beside it.

`echo` (RFC 862), `discard` (RFC 863) and `source` (RFC 864's port), `iperf3`, and a folder by HTTP. Each is given to
`Stack.start_server` or `create_server`; none needs anything but the streams.
"""

from __future__ import annotations

from .files import Files
from .iperf3 import Iperf3
from .simple import DISCARD, ECHO, SOURCE, Discard, Echo, EchoDatagrams, Source

__all__ = ["DISCARD", "ECHO", "SOURCE", "Discard", "Echo", "EchoDatagrams", "Files", "Iperf3", "Source"]
