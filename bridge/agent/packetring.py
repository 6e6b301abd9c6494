"""Where captured packets wait for the agent: a ring that the kernel and this process share (packet(7),
PACKET_RX_RING, TPACKET_V2).

A socket's ordinary queue is bounded by net.core.rmem_max, 208 KiB on most machines, which is three super-segments; and
unlike a TUN, a packet socket that is full does not slow the sender down, it loses. A ring is not counted against that
bound, and reading from it costs no system call. Each frame of it has room for the largest super-segment, whatever it
holds, since only then nothing is ever cut.

A frame: struct tpacket2_hdr, whose first word says whose it is, and at `tp_mac` the packet with its link header, behind
the virtio_net_hdr.
"""

from __future__ import annotations

import mmap
import socket
import struct

SOL_PACKET = 263
PACKET_RX_RING, PACKET_VERSION = 5, 10
TPACKET_V2 = 1
FRAME = 17 * 4096
"""Bytes of a frame: 65,535 and the headers, in whole pages."""
FRAMES_PER_BLOCK = 15
"""Makes a block fill the 256 pages the kernel allots for it but for one."""
BLOCKS = (32, 16, 8, 4)
"""Sizes to be tried; the first is 480 frames in 32 MiB, as long as the bridge lives."""
VNET_LEN = 10

_KERNELS = 0
_HEAD = struct.Struct("=IIIHH")
"""tp_status, tp_len, tp_snaplen, tp_mac, tp_net."""


class Ring:
    """Frames in the order in which they came. Raises OSError when the kernel offers no such ring."""

    def __init__(self, capturing: socket.socket, link_header: int) -> None:
        """Before the socket is bound. `link_header`: bytes to be left out of each packet."""
        self._link_header = link_header
        capturing.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        block = FRAME * FRAMES_PER_BLOCK
        for blocks in BLOCKS:
            try:
                wanted = struct.pack("=IIII", block, blocks, FRAME, blocks * FRAMES_PER_BLOCK)
                capturing.setsockopt(SOL_PACKET, PACKET_RX_RING, wanted)
                break
            except OSError:
                if blocks == BLOCKS[-1]:
                    raise
        self._size = block * blocks
        self._memory = mmap.mmap(capturing.fileno(), self._size)
        self._view = memoryview(self._memory)
        self._position = 0
        self._held = -1
        """The frame read last. It is given back with the next call, so that the socket stays readable until then."""
        self.cut = 0
        """Packets left out because they were larger than any frame."""

    def read(self, into: memoryview) -> int:
        """Copy the next packet behind its virtio_net_hdr, without link header; its length. Raises BlockingIOError."""
        view = self._view
        while True:
            if self._held >= 0:
                _HEAD.pack_into(view, self._held, _KERNELS, 0, 0, 0, 0)
                self._held = -1
            position = self._position
            status, whole, length, start, _ = _HEAD.unpack_from(view, position)
            if status == _KERNELS:
                raise BlockingIOError
            self._held = position
            self._position = (position + FRAME) % self._size
            if length < whole:
                self.cut += 1
                continue
            start += position
            body, end = start + self._link_header, start + length
            count: int = VNET_LEN + end - body
            into[:VNET_LEN] = view[start - VNET_LEN : start]
            into[VNET_LEN:count] = view[body:end]
            return count

    def close(self) -> None:
        """Give the memory back; the socket is closed by its owner."""
        self._view.release()
        self._memory.close()
