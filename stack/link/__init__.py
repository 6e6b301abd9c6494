"""What a stack can stand on, and devices that wrap a device."""

from .base import Buffer, Link, LinkError, LinkUser
from .memory import MemoryLink, memory_link
from .offload import finish

__all__ = ["Buffer", "Link", "LinkError", "LinkUser", "MemoryLink", "finish", "memory_link"]
