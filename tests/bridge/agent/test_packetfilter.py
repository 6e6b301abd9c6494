"""The filter, run by a small interpreter of classic BPF; that a kernel takes it is shown where packets are captured."""

from __future__ import annotations

import ipaddress
import random

import pytest

from netbridge.bridge.agent.netlink import Address, Network
from netbridge.bridge.agent.packetfilter import Instruction, cost, packed, program

OUTGOING, INCOMING = 4, 0


def network(text: str) -> Network:
    return ipaddress.ip_network(text)


def runs(instructions: list[Instruction], destination: Address, *, kind: int = OUTGOING, protocol: int = 0) -> bool:
    """What the program says of a packet to `destination`."""
    header = bytes(16 if destination.version == 4 else 24) + destination.packed + bytes(20)
    protocol = protocol or {4: 0x0800, 6: 0x86DD}[destination.version]
    value, place = 0, 0
    for _ in range(len(instructions)):
        code, yes, no, constant = instructions[place]
        place += 1
        if code == 0x20:
            if constant == 0xFFFFF000:
                value = protocol
            elif constant == 0xFFFFF004:
                value = kind
            else:
                start = constant - 0xFFF00000
                value = int.from_bytes(header[start : start + 4], "big")
        elif code == 0x54:
            value &= constant
        elif code == 0x05:
            place += constant
        elif code == 0x06:
            return constant > 0
        else:
            truth = {0x15: value == constant, 0x25: value > constant, 0x35: value >= constant}[code]
            place += yes if truth else no
    raise AssertionError("the program has no end")


def near(networks: list[Network], chance: random.Random) -> list[Address]:
    """The edges of every network, what lies beside them, and addresses from anywhere."""
    found: list[Address] = []
    for it in networks:
        kind = type(it.network_address)
        for number in (int(it.network_address), int(it.broadcast_address)):
            beside = (number - 1, number, number + 1)
            found += [kind(other) for other in beside if 0 <= other < 1 << it.max_prefixlen]
    found += [ipaddress.IPv4Address(chance.getrandbits(32)) for _ in range(50)]
    return [*found, *(ipaddress.IPv6Address(chance.getrandbits(128)) for _ in range(50))]


@pytest.mark.parametrize("seed", range(20))
def test_takes_exactly_what_is_captured(seed: int) -> None:
    chance = random.Random(seed)
    networks: list[Network] = []
    for _ in range(chance.choice((0, 1, 5, 60))):
        bits = chance.choice((32, 128))
        length, number = chance.randint(0 if seed % 2 else bits // 4, bits), chance.getrandbits(bits)
        if bits == 32:
            networks.append(ipaddress.IPv4Network((number, length), strict=False))
        else:
            networks.append(ipaddress.IPv6Network((number, length), strict=False))
    code = program(networks)
    for address in near(networks, chance):
        wanted = any(address in it for it in networks)
        assert runs(code, address) is wanted, (address, networks)
    assert len(code) <= 16 + sum(map(cost, networks))


def test_only_what_leaves_and_only_ip() -> None:
    code, address = program([network("10.0.0.0/8"), network("fd00::/8")]), ipaddress.ip_address("10.1.2.3")
    assert runs(code, address)
    assert not runs(code, address, kind=INCOMING)
    assert not runs(code, address, protocol=0x0806)


def test_as_the_kernel_takes_it() -> None:
    code = program([network("10.0.0.0/8")])
    assert len(packed(code)) == 8 * len(code)
