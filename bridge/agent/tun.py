"""Opening a TUN: packets with a virtio_net_hdr in front, and super-segments where the kernel offers them.

The device is never made persistent: it, its addresses and every route on it vanish with the last descriptor, however
the process ends. TUNSETOFFLOAD tells the kernel what it may hand over (linux/if_tun.h): TCP segments of up to 64 KiB
with unfinished checksums. A kernel that refuses gets plain packets, still behind the header.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from typing import Tuple

DEVICE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 0x01, 0x02, 0x04
VNET_LEN = 10


class TunError(Exception):
    """No TUN: `code` is no_tun (no device node), no_net_admin (not permitted) or busy (the name is taken)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def _open_device() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    except PermissionError as error:
        raise TunError("no_tun", "%s may not be opened: %s" % (DEVICE, error.strerror)) from None
    except OSError as error:  # ENXIO, ENODEV: a node without a driver behind it
        raise TunError("no_tun", "%s cannot be opened: %s" % (DEVICE, error.strerror)) from None
    try:
        os.makedirs(os.path.dirname(DEVICE), exist_ok=True)
        os.mknod(DEVICE, stat.S_IFCHR | 0o600, os.makedev(10, 200))
        return os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TunError("no_tun", "there is no %s and none can be made: %s" % (DEVICE, error.strerror)) from None


def open_tun(name: str) -> Tuple[int, str, bool]:
    """Make a TUN: (non-blocking descriptor, name, offload). The kernel numbers a `%d` in `name`. Raises TunError."""
    descriptor = _open_device()
    try:
        request = struct.pack("16sH22x", name.encode()[:15], IFF_TUN | IFF_NO_PI | IFF_VNET_HDR)
        try:
            answer = fcntl.ioctl(descriptor, TUNSETIFF, request)
        except PermissionError:
            raise TunError("no_net_admin", "the kernel refuses to make a TUN: CAP_NET_ADMIN is missing") from None
        except OSError as error:
            code = "busy" if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL) else "no_tun"
            raise TunError(code, "the interface %s cannot be made: %s" % (name, error.strerror)) from None
        fcntl.ioctl(descriptor, TUNSETVNETHDRSZ, struct.pack("i", VNET_LEN))
        try:
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
            offload = True
        except OSError:
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, 0)
            offload = False
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, answer[:16].split(b"\0", 1)[0].decode(), offload
