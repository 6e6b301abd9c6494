"""`netbridge capture`: the packets of a running bridge, for Wireshark and its kin."""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

from cyclopts import Parameter

from netbridge.bridge.errors import BridgeError, UsageError

if TYPE_CHECKING:
    from netbridge.bridge.runtime import Folder

CHUNK = 1 << 18


def capture(
    target: str | None = None, /, *,
    filter_: Annotated[list[str] | None, Parameter(name=["--filter", "-f"], negative=(), help=(
        "Only packets of which all these words are true: tcp, udp, icmp, host ADDRESS or NETWORK, port PORT; commas"
        " separate alternatives. As in: --filter 'tcp host 10.20.0.0/16 port 80,443'."
    ))] = None,
    write: Annotated[Path | None, Parameter(name=["--write", "-w"], help=(
        "Write them to this file (default: standard output, to be read by another program)."
    ))] = None,
) -> int:
    """Show the packets of a running bridge to Wireshark or tshark (pcapng), until ctrl-c or the bridge's end.

    As in: netbridge capture | tshark -r -

    Parameters
    ----------
    target
        TARGET of the bridge, or its number. Not needed when only one runs.
    """
    from netbridge.bridge import runtime
    from netbridge.bridge.back.door import find
    from netbridge.bridge.capturefilter import parse_filter

    wanted = " ".join(filter_ or ())
    parse_filter(wanted)
    if write is None and os.isatty(sys.stdout.fileno()):
        raise UsageError(
            "Packets are not for a terminal.", "They are written as pcapng.",
            "Let a program read them (`netbridge capture | tshark -r -`), or name a file by --write.",
        )
    folders = runtime.folders()
    try:
        folder, number = find(folders, target)
        with _opened(write) as out, suppress(KeyboardInterrupt, BrokenPipeError):
            _copy(folder, number, wanted, out)
    finally:
        for each in folders:
            each.close()
    return 0


def _opened(write: Path | None) -> BinaryIO:
    from netbridge.bridge.runtime import open_private

    if write is None:
        return open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
    try:
        return open(write, "wb", buffering=0, opener=open_private)
    except OSError as error:
        raise UsageError(f"{write} cannot be written.", f"{error.strerror}.", "Name another by --write.") from error


def _copy(folder: Folder, number: int, wanted: str, out: BinaryIO) -> None:
    import socket

    from netbridge.bridge.back.door import gone

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(folder.address(f"{number}.sock"))
            folder.check_peer(connection)
            connection.sendall(json.dumps({"ask": "capture", "filter": wanted}).encode() + b"\n")
            with connection.makefile("rb", buffering=0) as stream:
                answer = json.loads(stream.readline() or b"{}")
                if not answer.get("capturing"):
                    raise BridgeError(
                        "The bridge shows no packets.", f"{answer.get('error') or 'It hung up'}.",
                        "Try again; `netbridge status` tells how it is.",
                    )
        except (OSError, ValueError) as error:
            raise gone(error) from error
        print("Capturing; ctrl-c ends it.", file=sys.stderr, flush=True)
        reader = out.fileno()
        gone_away = select.poll()
        gone_away.register(reader, 0)  # a pipe that nobody reads any more, while there are no packets to notice it by
        gone_away.register(connection, select.POLLIN)
        while True:
            ready = dict(gone_away.poll())
            if ready.get(reader, 0) & (select.POLLERR | select.POLLHUP):
                return
            data = memoryview(connection.recv(CHUNK))
            if not data:
                return
            while data:
                data = data[out.write(data) or 0:]
