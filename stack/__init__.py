"""A user-space TCP/IP stack for asyncio, on anything that carries packets."""

from .link import call_link, memory_link, message_link, stream_link
from .link.base import Link, LinkError
from .stack import Stack
from .tcp.config import TcpConfig

__all__ = ["Link", "LinkError", "Stack", "TcpConfig", "call_link", "memory_link", "message_link", "stream_link"]
