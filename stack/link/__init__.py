"""What a stack can stand on, and devices that wrap a device."""

from .base import Link, LinkError, LinkUser
from .fault import FaultCounters, FaultLink, Faults
from .memory import MemoryLink, memory_link
from .offload import finish
from .pcap import PcapLink, Tap
from .stream import StreamLink
from .tracer import TracerLink, describe
from .tun import TunLink, open_tun
from .wrapper import Wrapper

__all__ = [
    "FaultCounters",
    "FaultLink",
    "Faults",
    "Link",
    "LinkError",
    "LinkUser",
    "MemoryLink",
    "PcapLink",
    "StreamLink",
    "Tap",
    "TracerLink",
    "TunLink",
    "Wrapper",
    "describe",
    "finish",
    "memory_link",
    "open_tun",
]
