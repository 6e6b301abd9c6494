"""A user-space TCP/IP stack for asyncio, on anything that carries packets."""

from .link import memory_link
from .link.base import Link, LinkError
from .stack import Stack
from .tcp.config import TcpConfig

__all__ = ["Link", "LinkError", "Stack", "TcpConfig", "memory_link"]
