"""What a stack can stand on, and devices that wrap a device.

:mod:`.quic` and :mod:`.libp2p` are imported by their own names: they need the packages of the extras `quic`
and `libp2p`.
"""

from .base import Link, LinkError, LinkUser
from .calls import CallLink, MessageLink, call_link, message_link
from .fault import FaultCounters, FaultLink, Faults
from .greeting import Greeting, Role
from .memory import MemoryLink, memory_link
from .offload import finish
from .pcap import PcapLink, Tap
from .ssh import ssh_link
from .stream import StreamLink, stdio_link, stream_link
from .tracer import TracerLink, describe
from .tun import TunLink, open_tun
from .websocket import websocket_link
from .wrapper import Wrapper

__all__ = [
    "CallLink",
    "FaultCounters",
    "FaultLink",
    "Faults",
    "Greeting",
    "Link",
    "LinkError",
    "LinkUser",
    "MemoryLink",
    "MessageLink",
    "PcapLink",
    "Role",
    "StreamLink",
    "Tap",
    "TracerLink",
    "TunLink",
    "Wrapper",
    "call_link",
    "describe",
    "finish",
    "memory_link",
    "message_link",
    "open_tun",
    "ssh_link",
    "stdio_link",
    "stream_link",
    "websocket_link",
]
