"""The virtio_net_hdr in front of every packet on a link (virtio 1.2, section 5.1.6, without num_buffers).

Layout, little-endian: flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16.
"""

from __future__ import annotations

import struct

VNET = struct.Struct("<BBHHHH")
VNET_LEN = 10

F_NEEDS_CSUM = 1
"""The checksum field holds only the pseudo-header's sum; whoever puts the packet on a wire finishes it."""
F_DATA_VALID = 2
"""The checksum was verified by whoever handed the packet over."""

GSO_NONE = 0
GSO_TCPV4 = 1
GSO_UDP = 3
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80

NO_OFFLOAD = bytes(VNET_LEN)
"""The header of a packet that is complete as it is."""
