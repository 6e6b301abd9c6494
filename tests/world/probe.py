"""A program that makes socket calls and writes down what each said: run at two places, it tells whether they differ.

Standard input is a JSON list of cases, standard output the list of their results. Every case runs in a thread of its
own, as often as its `times` says, one run after the other:

    {"name": "...", "family": 4, "kind": "tcp" | "udp", "host": "10.0.0.1", "port": 80, "options": {...},
     "steps": ["connect", "recv", ...], "patience": 4.0, "times": 3}

A run ends with its last step or, when the case is of kind "udp", with the first errno: where UDP's errors are told (at
connect, send or recv) depends on who found them, what they are does not. The result has the words of each step
(`transcript`), the first `errno` ("silence" when there was none) and after how many `seconds` of the run it came; of
several runs the fastest counts, and `steady` says whether all said the same.

Standard library only: it runs wherever a Python is.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# linux/in.h, linux/in6.h, linux/socket.h, linux/tcp.h
IP_RECVERR = 11
IPV6_RECVERR = 25
MSG_ERRQUEUE = 0x2000
OPTIONS = {"syncnt": 7, "user_timeout": 18, "keepidle": 4, "keepintvl": 5, "keepcnt": 6}
ESTABLISHED = 1
STILL_WAITING = (errno.EAGAIN, errno.EINPROGRESS)
"""What a call says whose SO_RCVTIMEO or SO_SNDTIMEO is over."""
STAGGER = 0.01
"""Seconds between the starts of two cases: they are not to wait for each other, nor to meet a limit on errors."""
NAMES = ((select.POLLIN, "in"), (select.POLLOUT, "out"), (select.POLLERR, "err"), (select.POLLHUP, "hup"),
         (select.POLLRDHUP, "rdhup"), (select.POLLPRI, "pri"))  # fmt: skip
CHUNK = bytes(65536)


class Run:
    """One run of a case: a socket, and the steps as methods that return what to write down."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.patience: float = case.get("patience", 4.0)
        self.address = (case["host"], case["port"])
        family = socket.AF_INET if case["family"] == 4 else socket.AF_INET6
        udp = case["kind"] == "udp"
        self.sock = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self.be_patient()
        for name, value in case.get("options", {}).items():
            if name == "recverr":
                level, option = (socket.IPPROTO_IP, IP_RECVERR) if case["family"] == 4 else (41, IPV6_RECVERR)
                self.sock.setsockopt(level, option, value)
            else:
                self.sock.setsockopt(socket.IPPROTO_TCP, OPTIONS[name], value)

    def be_patient(self) -> None:
        """Blocking calls, ended by the kernel: Python's own time-outs poll, which is another thing (see `start`)."""
        self.sock.setblocking(True)
        seconds = struct.pack("ll", int(self.patience), int(self.patience % 1 * 1e6))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)

    def connect(self) -> str:
        self.sock.connect(self.address)
        return "ok"

    def start(self) -> str:
        """connect() that does not wait, poll, SO_ERROR.

        Linux wakes poll when the ICMP error is queued, and sets SO_ERROR a moment later: a connect that has not ended
        is polled again.
        """
        self.sock.setblocking(False)
        failed = self.sock.connect_ex(self.address)
        poller = select.poll()
        poller.register(self.sock, select.POLLOUT)
        deadline = time.monotonic() + self.patience
        while failed in (0, errno.EINPROGRESS) and time.monotonic() < deadline:
            poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            state = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]
            failed = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not failed and state == ESTABLISHED:
                self.be_patient()
                return "ok"
        raise OSError(failed or errno.EINPROGRESS, "connect")

    def send(self) -> str:
        return f"{self.sock.send(b'question')} bytes"

    def sendto(self) -> str:
        return f"{self.sock.sendto(b'question', self.address)} bytes"

    def recv(self) -> str:
        return f"{len(self.sock.recv(65536))} bytes"

    def read(self) -> str:
        """Everything up to the end or an error: how many bytes, and which."""
        count = 0
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError as error:
                raise OSError(error.errno, f"{count} bytes, then ") from None
            if not data:
                return f"{count} bytes, then end of file"
            count += len(data)

    def write(self) -> str:
        """Send until it blocks, and until that ends."""
        while True:
            self.sock.sendall(CHUNK)

    def shutdown(self) -> str:
        self.sock.shutdown(socket.SHUT_WR)
        return "ok"

    def pause(self) -> str:
        time.sleep(0.6)
        return "ok"

    def poll(self) -> str:
        """What poll says is ready, without waiting."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN | select.POLLOUT | select.POLLPRI | select.POLLRDHUP)
        mask = dict(poller.poll(0)).get(self.sock.fileno(), 0)
        return "+".join(name for bit, name in NAMES if mask & bit) or "nothing"

    def queue(self) -> str:
        """The entry of the error queue: origin (local or ICMP), type and code."""
        _data, ancillary, _flags, _address = self.sock.recvmsg(512, 512, MSG_ERRQUEUE)
        for _level, _kind, value in ancillary:
            number, origin, kind, code = struct.unpack_from("=IBBB", value)
            return f"{errno.errorcode.get(number, number)} origin {origin} type {kind} code {code}"
        return "no entry"


def run(case: dict[str, Any]) -> dict[str, Any]:
    """One run, from the socket's making on."""
    begun = time.monotonic()
    transcript: list[list[str]] = []
    found, seconds = "silence", 0.0
    attempt = Run(case)
    with attempt.sock:
        for step in case["steps"]:
            action: Callable[[], str] = getattr(attempt, step)
            try:
                said, name = action(), ""
            except OSError as error:
                name = "" if error.errno in STILL_WAITING else errno.errorcode.get(error.errno or 0, repr(error))
                before = (error.strerror or "") if step == "read" else ""
                said = before + (name or "nothing happened")
            if name and found == "silence":
                found, seconds = name, time.monotonic() - begun
            transcript.append([step, said])
            if name and case["kind"] == "udp":
                break
    return {"transcript": transcript, "errno": found, "seconds": seconds or time.monotonic() - begun}


def several(case: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """The runs of a case; what crashes here is a result too."""
    try:
        runs = [run(case) for _number in range(case.get("times", 1))]
    except Exception as error:
        results[case["name"]] = {"transcript": [], "errno": repr(error), "seconds": 0.0, "steady": False}
        return
    best = min(runs, key=lambda each: float(each["seconds"]))
    steady = all(each["transcript"] == best["transcript"] for each in runs)
    results[case["name"]] = {**best, "steady": steady, "runs": [each["transcript"] for each in runs]}


def main() -> None:
    cases: list[dict[str, Any]] = json.load(sys.stdin)
    results: dict[str, dict[str, Any]] = {}
    threads = [threading.Thread(target=several, args=(case, results)) for case in cases]
    for thread in threads:
        thread.start()
        time.sleep(STAGGER)
    for thread in threads:
        thread.join()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
