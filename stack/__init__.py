"""A user-space TCP/IP stack for asyncio, on anything that carries packets."""

from .link import call_link, memory_link, message_link, stream_link
from .link.base import Link, LinkError
from .server import Server
from .stack import Stack
from .statistics import ConnectionState, LinkState, Statistics
from .tcp.config import TcpConfig

__all__ = [
    "ConnectionState",
    "Link",
    "LinkError",
    "LinkState",
    "Server",
    "Stack",
    "Statistics",
    "TcpConfig",
    "call_link",
    "memory_link",
    "message_link",
    "stream_link",
]
