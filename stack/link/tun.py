"""A Linux TUN device as a link: the kernel's own TCP/IP is the peer.

Opened with `IFF_VNET_HDR` and checksum and TCP segmentation offload, the kernel hands over and takes super-segments
of up to 64 KiB with unfinished checksums, which is what makes Python fast enough. Each wake-up reads a burst of
packets, each straight into one buffer that is used again for the next, so nothing is copied or allocated on the way in;
`writev` joins header and payload on the way out.

What the kernel says no to: EAGAIN (its queue is full: the packet is dropped, `ready` turns False until it has room),
EINVAL for a super-segment (kernels since 6.10.3 check the header strictly, very old ones know no offload: it is cut in
software and sent in pieces), anything else counts as a drop: a device that is down refuses writes with EIO, and TCP
will send again when it is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import sys
from errno import EINVAL

from ..errors import WireError
from ..packet import Buffer
from ..vnet import VNET_LEN
from .base import Link, LinkError, LinkUser
from .offload import finish

TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
IFF_UP = 1
TUN_F_CSUM = 1
TUN_F_TSO4 = 2
TUN_F_TSO6 = 4
TUN_F_TSO_ECN = 8
"""Super-segments with CWR as well: without it the kernel cuts those itself."""

BURST = 2 << 20
"""Bytes read in one wake-up before others get their turn: 32 super-segments, or some hundreds of small packets."""
PACKET_COST = 4096
"""Bytes that the work for a packet of any size counts for: else a flood of SYNs would be read for a second."""
BUFFER = 1 << 17
"""Above any packet: 10 bytes of virtio_net_hdr and 64 KiB of packet behind its IPv6 header."""


class TunLink(Link):
    """A link over the file descriptor of a TUN device that has `IFF_NO_PI` and `IFF_VNET_HDR` (10 bytes) set."""

    def __init__(self, fd: int, *, mtu: int = 1500, offload: bool = True, name: str = "") -> None:
        """Takes over `fd`. `offload` says whether the device's owner has set TUNSETOFFLOAD."""
        self.mtu = mtu
        self.offload = offload
        self.name = name
        self.dropped = 0
        """Packets the kernel did not take."""
        self.resegmented = 0
        """Super-segments the kernel refused, sent in pieces."""
        self._fd = fd
        self._buffer = memoryview(bytearray(BUFFER))
        self._buffers = [self._buffer]
        self._user: LinkUser | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = True
        os.set_blocking(fd, False)

    def __repr__(self) -> str:
        return f"<TunLink {self.name or '?'} fd {self._fd} mtu {self.mtu}{' offload' if self.offload else ''}>"

    def start(self, user: LinkUser) -> None:
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable, user)

    def _readable(self, user: LinkUser) -> None:
        readv = os.readv
        buffers = self._buffers
        view = self._buffer
        received = user.packet_received
        try:
            left = BURST
            while left > 0:
                size = readv(self._fd, buffers)
                left -= size + PACKET_COST
                if not size:  # never of a device, but of a socket handed over in its place
                    self._finish(LinkError(f"{self.name or 'the TUN device'} was closed"))
                    return
                received(view[:size])
                if self._fd < 0:  # closed from inside
                    return
        except BlockingIOError:
            pass
        except OSError as error:
            self._finish(LinkError(error.errno, f"reading {self.name or 'the TUN device'}: {error.strerror}"))
            return
        user.burst_ended()

    def send(self, header: Buffer, payload: Buffer = b"") -> None:
        if not self.offload and (header[0] or header[1]):
            self._send_pieces(header, payload)
            return
        try:
            if payload:
                os.writev(self._fd, (header, payload))
            else:
                os.write(self._fd, header)
        except BlockingIOError:
            self._full()
        except OSError as error:
            if error.errno == EINVAL and header[1]:
                self.resegmented += 1
                self._send_pieces(header, payload)
            else:
                self.dropped += 1

    def _send_pieces(self, header: Buffer, payload: Buffer) -> None:
        try:
            for packet in finish(header, payload):
                os.write(self._fd, packet)
        except BlockingIOError:
            self._full()
        except (OSError, WireError):
            self.dropped += 1

    def _full(self) -> None:
        self.dropped += 1
        if self._ready and self._loop is not None:
            self._ready = False
            self._loop.add_writer(self._fd, self._writable)

    def _writable(self) -> None:
        assert self._loop is not None
        assert self._user is not None
        self._loop.remove_writer(self._fd)
        self._ready = True
        self._user.link_ready()

    @property
    def ready(self) -> bool:
        return self._ready

    def close(self) -> None:
        self._finish(None)

    def _finish(self, error: LinkError | None) -> None:
        if self._fd < 0:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            if self._user is not None:
                self._loop.call_soon(self._user.link_lost, error)
        os.close(self._fd)
        self._fd = -1


def enable_offload(fd: int) -> bool:
    """Set what this link needs on a TUN's descriptor; whether the kernel offers segmentation offload.

    The mask belongs to the device and outlives descriptors of a persistent one, so it is set either way.
    """
    fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_LEN))
    try:
        fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
    except OSError:
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
        return False
    return True


def open_tun(name: str = "", *, mtu: int | None = 1500, offload: bool = True) -> TunLink:
    """Create (or attach to) the TUN device `name`, bring it up, and return the link on it.

    That needs CAP_NET_ADMIN, but for a device that was made persistent for this user and is up already. An empty name
    lets the kernel choose one; `mtu` None leaves the device's as it is. Addresses and routes are the caller's. The
    device vanishes with the link unless it was made persistent by others. Raises LinkError, with the kernel's errno.
    """
    if sys.platform != "linux":
        raise LinkError("TUN devices are supported on Linux only")
    import pytun  # not there on other systems

    try:
        device = pytun.TunTapDevice(name, pytun.IFF_TUN | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR)
    except (pytun.Error, OSError) as error:
        raise _failed(f"cannot open TUN device {name!r}", error) from error
    fd = -1
    try:
        if mtu is not None and device.mtu != mtu:
            device.mtu = mtu
        fd = os.dup(device.fileno())
        if offload:
            offload = enable_offload(fd)
        else:
            fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_LEN))
            fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
        if not _is_up(device.name):
            device.up()
        return TunLink(fd, mtu=device.mtu, offload=offload, name=device.name)
    except (pytun.Error, OSError) as error:
        if fd >= 0:
            os.close(fd)
        raise _failed(f"cannot set up TUN device {name!r}", error) from error
    finally:
        device.close()


def _failed(what: str, error: Exception) -> LinkError:
    """The exceptions of pytun keep the errno as their first argument."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if number is None:
        return LinkError(f"{what}: {error}")
    return LinkError(number, f"{what}: {os.strerror(number)}")


def _is_up(name: str) -> bool:
    try:
        with open(f"/sys/class/net/{name}/flags", encoding="ascii") as file:
            return bool(int(file.read(), 16) & IFF_UP)
    except OSError:  # /sys shows another namespace's devices
        return False
