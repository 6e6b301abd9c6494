"""ICMP and ICMPv6: wire format, the stack's endpoint, ping."""

from .endpoint import Icmp, IcmpCounters
from .ping import ping
from .wire import Problem, Quoted

__all__ = ["Icmp", "IcmpCounters", "Problem", "Quoted", "ping"]
