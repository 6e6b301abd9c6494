"""Packets: what we write is read as what was written, and what is canonical is written again as it was read."""

from __future__ import annotations

import random

from fuzz.bed import ListLink
from hypothesis import given, settings
from hypothesis import strategies as st

from netbridge.stack import ipv4, ipv6
from netbridge.stack.fragments import Reassembler, fragment
from netbridge.stack.icmp import wire as icmp
from netbridge.stack.ip_output import IpOutput
from netbridge.stack.link.offload import finish
from netbridge.stack.packet import Fragment, IpPacket, text
from netbridge.stack.tcp.output import HeaderWriter
from netbridge.stack.tcp.segment import (
    IN_MINUTES,
    MAX_SACK_BLOCKS_STAMPED,
    STAMP_LAYOUT,
    STAMPED,
    TCP_HEADER,
    emit_sacks,
    emit_syn_options,
    parse_options,
)
from netbridge.stack.udp import wire as udp
from netbridge.stack.vnet import GSO_NONE, GSO_TCPV4, GSO_TCPV6, NO_OFFLOAD, VNET, VNET_LEN

from .packets import ours
from .readings import by_us

few = settings(max_examples=60, deadline=None)
word, byte, port = st.integers(0, (1 << 32) - 1), st.integers(0, 255), st.integers(1, 65535)
versions = st.sampled_from((4, 6))
payloads = st.binary(max_size=300)


def addresses(version: int) -> st.SearchStrategy[bytes]:
    size = 4 if version == 4 else 16
    return st.binary(min_size=size, max_size=size)


ends = versions.flatmap(lambda version: st.tuples(st.just(version), addresses(version), addresses(version)))
Ends = tuple[int, bytes, bytes]


def parsed(data: bytes) -> IpPacket | Fragment:
    parse = ipv4.parse if data[0] >> 4 == 4 else ipv6.parse
    return parse(memoryview(data), checksum_trusted=False)


@few
@given(ends, byte, byte, byte, st.sampled_from((0, ipv4.DONT_FRAGMENT)), st.integers(0, 65535), payloads)
def test_ip_headers(ends: Ends, protocol: int, ttl: int, tos: int, flags: int, number: int, payload: bytes) -> None:
    version, source, destination = ends
    if version == 4:
        header = ipv4.emit_header(
            source, destination, protocol, len(payload), ttl=ttl, tos=tos, identification=number, flags=flags)
    else:
        protocol = 17 if protocol in ipv6.EXTENSIONS else protocol
        header = ipv6.emit_header(source, destination, protocol, len(payload), ttl=ttl, tos=tos, flow_label=number)
    packet = parsed(header + payload)
    assert isinstance(packet, IpPacket)
    assert (packet.version, packet.source, packet.destination) == ends
    assert (packet.protocol, packet.ttl, packet.tos) == (protocol, ttl, tos)
    assert packet.dont_fragment == (version == 6 or flags != 0)
    assert packet.payload == payload
    assert packet.packet == header + payload


@few
@given(
    st.binary(min_size=16, max_size=16),
    st.lists(st.sampled_from((ipv6.ROUTING, ipv6.DESTINATION_OPTIONS)), max_size=5), st.booleans(), st.integers(0, 3),
    payloads,
)
def test_ipv6_extension_headers(address: bytes, kinds: list[int], first: bool, more: int, payload: bytes) -> None:
    chain = ([ipv6.HOP_BY_HOP] if first else []) + kinds
    headers = b""
    for place, kind in enumerate(chain):
        following = [*chain, 17][place + 1]
        body = bytes((0, 0, 0, 0, 0, 0)) if kind == ipv6.ROUTING else b"\1\4\0\0\0\0"
        headers += bytes((following, more)) + body + (b"\1\6" + bytes(6)) * more
    header = ipv6.emit_header(address, address, [*chain, 17][0], len(headers) + len(payload))
    packet = parsed(header + headers + payload)
    assert isinstance(packet, IpPacket)
    assert packet.protocol == 17
    assert packet.payload == payload
    link, protocol, at = ipv6.transport_of(memoryview(header + headers + payload))
    assert (protocol, at) == (17, 40 + len(headers))
    assert (header + headers)[link] == 17


@few
@given(ends, st.binary(min_size=1, max_size=6000), st.integers(1280, 1600), st.randoms(use_true_random=False))
def test_fragments_in_any_order(ends: Ends, payload: bytes, mtu: int, order: random.Random) -> None:
    version, source, destination = ends
    pieces = fragment(version, source, destination, 253, payload, mtu, ttl=9, tos=0)
    order.shuffle(pieces)
    reassembler, whole = Reassembler(), None
    for piece in pieces:
        assert len(piece) <= mtu
        one = parsed(piece)
        whole = reassembler.add(one, 0.0) if isinstance(one, Fragment) else one
    assert whole is not None
    assert (whole.source, whole.destination, whole.protocol, whole.ttl) == (source, destination, 253, 9)
    assert whole.payload == payload
    assert len(reassembler) == 0


@few
@given(ends, port, port, payloads)
def test_udp(ends: Ends, here: int, there: int, payload: bytes) -> None:
    version, source, destination = ends
    whole = udp.emit(source, here, destination, there, payload)
    link = ListLink()
    assert IpOutput(link, mtu=1500).send_ip(version, source, destination, 17, whole)
    packet = parsed(link.sent[0][VNET_LEN:])
    assert isinstance(packet, IpPacket)
    assert udp.parse(packet) == (here, there, payload)
    for offload in (False, True):  # the checksum left to others comes to the same
        link = ListLink(offload=offload)
        partial = udp.emit_partial(source, here, destination, there, len(payload))
        IpOutput(link, mtu=1500).send_ip(
            version, source, destination, 17, partial, payload, dont_fragment=True, checksum_offset=udp.CHECKSUM_OFFSET)
        (done,) = finish(link.sent[0])
        assert done.endswith(whole)


@few
@given(ends, st.sampled_from(list(icmp.Problem)), st.integers(0, 65535), st.binary(max_size=100))
def test_icmp_errors_with_what_they_quote(ends: Ends, problem: icmp.Problem, mtu: int, payload: bytes) -> None:
    version, source, destination = ends
    kind, code = problem.wire(version)
    emit = ipv4.emit_header if version == 4 else ipv6.emit_header
    quoted = emit(destination, source, 17, 8 + len(payload)) + udp.emit(destination, 53, source, 99, payload)
    message = icmp.emit(version, source, destination, kind, code, 0, mtu, quoted)
    packet = parsed(emit(source, destination, icmp.protocol_number(version), len(message)) + message)
    assert isinstance(packet, IpPacket)
    assert icmp.parse(packet) == (kind, code, 0, mtu, quoted)
    assert icmp.problem_of(version, kind, code).wire(version) == (kind, code)  # type: ignore[union-attr]
    found = icmp.parse_quoted(version, memoryview(quoted))
    assert (found.source, found.destination, found.protocol) == (destination, source, 17)
    assert (found.source_port, found.destination_port, found.size) == (53, 99, len(quoted))
    assert icmp.emit(version, source, destination, *icmp.parse(packet)) == message


@few
@given(ends, port, port, word, word, byte, st.integers(0, 65535), payloads, st.sampled_from((0, 2)))
def test_tcp_headers(
    ends: Ends, here: int, there: int, seq: int, ack: int, flags: int, window: int, payload: bytes, tos: int,
) -> None:
    version, source, destination = ends
    options = STAMPED.pack(STAMP_LAYOUT, seq, ack)
    for offload in (False, True):
        writer = HeaderWriter(source, here, destination, there, offload=offload)
        head = writer.write(seq, ack, flags, window, options, payload, 1400, tos)
        (whole,) = finish(head, payload)
        found = by_us(whole[VNET_LEN:])
        assert (found["source"], found["destination"], found["tos"]) == (text(source), text(destination), tos)
        assert (found["ports"], found["seq"], found["ack"]) == ((here, there), seq, ack)
        assert (found["flags"], found["window"], found["stamp"]) == (flags, window, (seq, ack))
        assert found["data"] == payload
        start = VNET_LEN + (20 if version == 4 else 40)
        assert TCP_HEADER.pack(*TCP_HEADER.unpack_from(whole, start)) == whole[start : start + 20]


stamps = st.none() | st.tuples(word, word)


@few
@given(
    st.integers(0, 65535), st.none() | st.integers(0, 14), st.booleans(), stamps, st.integers(0, 40000),
    st.lists(st.tuples(word, word), max_size=MAX_SACK_BLOCKS_STAMPED),
)
def test_tcp_options(
    mss: int, scale: int | None, sack: bool, stamp: tuple[int, int] | None, patience: int,
    blocks: list[tuple[int, int]],
) -> None:
    options = emit_syn_options(mss, scale, sack=sack, stamp=stamp, user_timeout=patience)
    found = parse_options(options)
    assert (found.mss, found.wscale, found.sack_permitted, found.stamp) == (mss, scale, sack, stamp)
    assert found.user_timeout == (patience if patience < IN_MINUTES else round(patience / 60) * 60)
    assert len(options) % 4 == 0
    again = emit_syn_options(
        found.mss or 0, found.wscale, sack=found.sack_permitted, stamp=found.stamp, user_timeout=found.user_timeout)
    assert again == options
    assert list(parse_options(emit_sacks(blocks)).sacks) == blocks
    assert emit_sacks(parse_options(emit_sacks(blocks)).sacks) == emit_sacks(blocks)


@few
@given(st.tuples(byte, byte, *[st.integers(0, 65535)] * 4))
def test_the_virtio_header(fields: tuple[int, ...]) -> None:
    assert VNET.unpack(VNET.pack(*fields)) == fields
    assert len(VNET.pack(*fields)) == VNET_LEN


@few
@given(st.integers(0, 1 << 40), st.integers(100, 1400), st.binary(min_size=1, max_size=5000))
def test_a_super_segment_is_the_segments_it_stands_for(seed: int, mss: int, payload: bytes) -> None:
    rng = random.Random(seed)
    version = rng.choice((4, 6))
    source, destination = rng.randbytes(4 if version == 4 else 16), rng.randbytes(4 if version == 4 else 16)
    head = HeaderWriter(source, 1, destination, 2, offload=True).write(7, 8, 0x18, 9, b"", payload, mss)
    kind = VNET.unpack_from(head)[1]
    assert kind == (GSO_NONE if len(payload) <= mss else GSO_TCPV4 if version == 4 else GSO_TCPV6)
    found = [by_us(piece[VNET_LEN:]) for piece in finish(head, payload)]
    assert b"".join(segment["data"] for segment in found) == payload
    at = 7
    for segment in found:
        assert segment["seq"] == at
        at += len(segment["data"])


@few
@given(st.integers(0, 1 << 40))
def test_what_the_generator_makes_is_finished_already(seed: int) -> None:
    for packet in ours(random.Random(seed)):
        assert finish(NO_OFFLOAD + packet) == [NO_OFFLOAD + packet]
        by_us(packet)
