"""UDP: wire format, the stack's endpoint, its asyncio face."""

from .endpoint import Address, Udp, UdpCounters
from .transport import UdpTransport, open_endpoint

__all__ = ["Address", "Udp", "UdpCounters", "UdpTransport", "open_endpoint"]
