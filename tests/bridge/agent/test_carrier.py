"""Whom the agent leaves alone while there is no connection: a place made of lists."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from netbridge.bridge.agent import carrier, sockdiag
from netbridge.bridge.agent.sockets import ESTABLISHED, SYN_SENT, Socket

DATABASE, RELAY, HERE = "10.20.0.5", "203.0.113.7", "198.18.0.2"
CURL, SSHD = 700, 800


class Place:
    """Sockets, and the processes that have them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sockets: list[Socket] = []
        self.owners: dict[int, set[int]] = {SSHD: set()}
        self.ended: list[Socket] = []
        monkeypatch.setattr(carrier, "sockets", lambda *_names: list(self.sockets))
        monkeypatch.setattr(carrier, "processes", lambda: list(self.owners))
        monkeypatch.setattr(carrier, "owned", lambda process: self.owners.get(process, set()))
        monkeypatch.setattr(sockdiag, "destroy", self.ended.append)
        self.carrier = carrier.Carrier(self, "", lambda: None)  # type: ignore[arg-type]
        self.carrier.own = [ipaddress.ip_address(HERE)]

    def call_later(self, _seconds: float, _callback: Any) -> Any:
        return None

    def reaches(self, inode: int, remote: str) -> None:
        """A socket is being connected."""
        here, there = ipaddress.ip_address(HERE), ipaddress.ip_address(remote)
        self.sockets.append(Socket(here, 40_000 + inode, there, 443, SYN_SENT, inode))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(monkeypatch)


def test_a_relay_outside_is_left_alone_when_it_is_seen_twice(place: Place) -> None:
    place.reaches(1, RELAY)
    place.carrier.cut()
    assert place.carrier.addresses == []
    place.carrier._look()
    assert place.carrier.addresses == [RELAY]
    assert place.ended == place.sockets


def test_a_program_of_the_place_is_no_relay(place: Place) -> None:
    place.reaches(1, DATABASE)
    place.owners[CURL] = {1}
    place.carrier.cut()
    place.carrier._look()
    assert place.carrier.addresses == []
    assert place.ended == []


def test_a_program_that_ends_between_two_looks_is_none_either(place: Place) -> None:
    """Its socket is still listed and its process is not; the next look finds another one in its place."""
    for inode in range(1, 5):
        place.sockets.clear()
        place.reaches(inode, DATABASE)
        place.carrier.cut() if inode == 1 else place.carrier._look()
    assert place.carrier.addresses == []
    assert place.ended == []


def test_once_there_is_a_connection_who_has_none_is_forgotten(place: Place) -> None:
    place.reaches(1, RELAY)
    place.carrier.cut()
    place.carrier._look()
    place.sockets = [place.sockets[0]._replace(state=ESTABLISHED)]
    place.carrier.tied("")
    assert place.carrier.addresses == [RELAY]
    place.sockets.clear()
    place.carrier.tied("")
    assert place.carrier.addresses == []
