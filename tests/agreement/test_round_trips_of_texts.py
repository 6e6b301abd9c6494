"""Links, messages and files: what we write is read as what was written, and written again as it was."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import dnslib
from fuzz.targets.settings import _read, as_table, as_toml
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from netbridge.bridge import sshconfig
from netbridge.bridge.agent import dnsask, dnsmsg, resolvconf
from netbridge.bridge.agent.frames import (
    ACK,
    CONTROL,
    PACKET,
    PING,
    Decoder,
    ack_frame,
    control_frame,
    frame_header,
    parse_control,
)
from netbridge.bridge.dns.answer import parse_answer
from netbridge.bridge.dns.exchange import encode
from netbridge.bridge.dns.message import HEADER, failure, parse_query
from netbridge.bridge.dns.resolvconf import parse_resolv_conf
from netbridge.bridge.forward.limitsettings import FIELDS
from netbridge.bridge.joint import proof
from netbridge.bridge.options import Options
from netbridge.bridge.user import User
from netbridge.stack.link import pcapng
from netbridge.stack.link.greeting import MAX_MTU, MIN_MTU, Greeting, Role, parse
from netbridge.stack.vnet import NO_OFFLOAD

few = settings(max_examples=60, deadline=None)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=10,
)
label = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
names = st.lists(label, min_size=1, max_size=5).map(".".join)


@few
@given(
    st.dictionaries(texts, values, max_size=5), texts, st.binary(min_size=10, max_size=200),
    st.integers(0, (1 << 64) - 1),
)
def test_frames_and_control_messages(fields: dict[str, Any], kind: str, packet: bytes, total: int) -> None:
    message = {**fields, "type": kind}
    stream = (
        control_frame(message) + frame_header(PACKET, len(packet)) + packet + ack_frame(total)
        + frame_header(PING, 8) + bytes(8)
    )  # fmt: skip
    found = [(number, bytes(payload)) for number, payload in Decoder().feed(memoryview(stream))]
    assert [number for number, _ in found] == [CONTROL, PACKET, ACK, PING]
    assert parse_control(memoryview(found[0][1])) == message
    assert found[1][1] == packet
    assert struct.unpack(">Q", found[2][1]) == (total,)
    assert b"".join(frame_header(number, len(payload)) + payload for number, payload in found) == stream
    assert control_frame(parse_control(memoryview(found[0][1])))[4:] == found[0][1]


@few
@given(
    st.integers(MIN_MTU, MAX_MTU), st.booleans(), st.sampled_from(Role), st.booleans(),
    st.binary(min_size=8, max_size=8),
)
def test_the_greeting_of_a_link(mtu: int, offload: bool, role: Role, heard: bool, nonce: bytes) -> None:
    made = Greeting(mtu, offload, role, heard, nonce)
    assert parse(made.emit()) == made
    assert parse(made.emit() + b"more") == made


@few
@given(st.sampled_from(proof.Side), st.booleans(), st.binary(min_size=32, max_size=32))
def test_the_first_words_of_a_proof(side: proof.Side, keyed: bool, nonce: bytes) -> None:
    made = proof.Hello(side, keyed, nonce)
    assert proof.parse(made.emit()) == made


@few
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
def test_frames_of_a_websocket(messages: list[bytes]) -> None:
    """As the two ends of `netbridge link` drive the library: what one sends is what the other takes."""
    from websockets.server import ServerProtocol

    client, server = ClientProtocol(parse_uri("wss://host/link")), ServerProtocol()
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    for message in messages:
        client.send_binary(message)
    server.receive_data(b"".join(client.data_to_send()))
    found: list[Any] = server.events_received()
    assert [frame.opcode for frame in found] == [Opcode.BINARY] * len(messages)
    assert [frame.data for frame in found] == messages


@few
@given(names, st.sampled_from((1, 12, 16, 28, 65)), st.integers(0, 65535), st.booleans())
def test_questions(name: str, rtype: int, number: int, edns: bool) -> None:
    theirs = dnslib.DNSRecord(dnslib.DNSHeader(id=number, rd=1), q=dnslib.DNSQuestion(name, rtype))
    if edns:
        theirs.add_ar(dnslib.EDNS0(udp_len=1232, flags="do"))
    query = parse_query(bytes(theirs.pack()))
    sent = encode(query, number, query.question, edns=edns)
    assert parse_query(sent).key == query.key
    assert encode(parse_query(sent), number, query.question, edns=edns) == sent
    read = dnslib.DNSRecord.parse(sent)
    assert str(read.q.qname).rstrip(".") == name
    assert (read.q.qtype, read.header.id) == (rtype, number)
    asked = dnsask.query(name, rtype)
    relayed = dnsmsg.parse(asked)
    assert relayed is not None
    assert relayed.question is not None
    assert relayed.question.name == name
    assert dnsmsg.section(asked, relayed.question).lower() == relayed.question.section
    assert parse_query(asked).question == query.question
    refusal = failure(query, 3)
    assert parse_answer(refusal, query.id, query).rcode == 3
    assert refusal[HEADER.size :].startswith(query.question)


@few
@given(names, st.lists(st.integers(0, (1 << 32) - 1), max_size=8), st.integers(0, 100_000))
def test_answers(name: str, addresses: list[int], age: int) -> None:
    asked = dnslib.DNSRecord.question(name)
    query = parse_query(bytes(asked.pack()))
    reply = asked.reply()
    for number in addresses:
        reply.add_answer(dnslib.RR(name, 1, rdata=dnslib.A(tuple(number.to_bytes(4, "big"))), ttl=300))
    packed = bytes(reply.pack())
    answer = parse_answer(packed, query.id, query)
    assert [int.from_bytes(address, "big") for address, _ in answer.addresses()] == addresses
    assert dnsask.addresses(packed) == [str(dnslib.A(tuple(number.to_bytes(4, "big")))) for number in addresses]
    assert answer.render(query) == packed
    older = parse_answer(answer.render(query, age), query.id, query)
    assert [address for address, _ in older.addresses()] == [address for address, _ in answer.addresses()]
    assert all(ttl == max(0, 300 - age) for _, ttl in older.addresses())


@few
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.sampled_from((1, 2)), st.integers(0, 1 << 62))), label,
)
def test_blocks_of_pcapng(packets: list[tuple[bytes, int, int]], name: str) -> None:
    file = pcapng.section("netbridge", name, "about") + b"".join(
        bytes(piece) for data, direction, now in packets for piece in pcapng.packet(now, direction, NO_OFFLOAD + data)
    ) + pcapng.dropped(1, 2)  # fmt: skip
    assert len(file) % 4 == 0
    at = 0
    while at < len(file):  # each block says its length at both ends
        length = struct.unpack_from("<I", file, at + 4)[0]
        assert struct.unpack_from("<I", file, at + length - 4)[0] == length
        at += length
    stream: Any = io.BytesIO(file)
    with RawPcapNgReader(stream) as reader:
        found: list[tuple[bytes, Any]] = list(reader)
    assert [data for data, _ in found] == [data for data, _, _ in packets]
    assert [(about.tshigh << 32) + about.tslow for _, about in found] == [now for _, _, now in packets]


lines = st.lists(st.sampled_from((
    "nameserver 10.0.0.2", "nameserver fd00::2", "search a.b c", "domain x", "options rotate", "# a comment", "",
    " ; odd",
)), max_size=6)  # fmt: skip


@few
@given(lines, st.booleans(), st.booleans(), st.lists(names, max_size=3))
def test_resolv_conf(original: list[str], ended: bool, alone: bool, search: list[str]) -> None:
    text = "\n".join(original).encode() + (b"\n" if ended and original else b"")
    edited = resolvconf.edit(text, "127.83.0.1", search, alone=alone)
    assert resolvconf.undo(edited) == text
    assert resolvconf.edit(resolvconf.undo(edited), "127.83.0.1", search, alone=alone) == edited
    assert resolvconf.parse(edited).nameservers[0] == "127.83.0.1"
    assert parse_resolv_conf(edited.decode()).nameservers[0] == "127.83.0.1"
    own = resolvconf.parse(text).nameservers
    assert resolvconf.parse(edited).nameservers[1:] == ([] if alone else own)


@few
@given(st.lists(st.tuples(label.filter(lambda it: it[0] != "-"), st.integers(1, 65535)), min_size=1, max_size=4,
                unique_by=lambda it: it[0]), st.text("abc \n#Host*", max_size=60))  # fmt: skip
def test_blocks_of_ssh_config(hosts: list[tuple[str, int]], config: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        user = User("me", 0, 0, (), Path(folder), "/bin/sh", {}, differs=False)
        there, ours = Path(folder, ".ssh", "config"), Path(folder, ".ssh", sshconfig.FILE)
        there.parent.mkdir()
        there.write_text(config)
        ssh = sshconfig.SshFolder(user)
        for name, port in hosts:
            block = sshconfig.block(f"ssh://me@{name}:{port}")
            assert ssh.install(block, ["netbridge"])
            assert not ssh.install(block, ["netbridge"])
            assert block.text(["netbridge"]) in ours.read_text()
        for name, _ in hosts:
            assert ssh.uninstall(name) == [name]
        assert not ours.exists()
        assert there.read_text() == config


networks = st.integers(0, (1 << 24) - 1).map(lambda it: f"10.{it >> 16}.{it >> 8 & 255}.{it & 255}/32")
limits = st.dictionaries(st.sampled_from(sorted(FIELDS)), st.floats(0, 1), max_size=4)


@few
@given(
    st.lists(networks, max_size=4), st.lists(names.filter(lambda it: "-" not in it), max_size=3), st.booleans(),
    st.integers(1280, 65535), st.floats(0, 86400),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), limits,
)  # fmt: skip
def test_options_to_a_file_and_back(
    routes: list[str], suffixes: list[str], everything: bool, mtu: int, grace: float, file: str,
    shares: dict[str, float],
) -> None:
    bounds = {name: FIELDS[name].metadata for name in shares}
    found = {
        name: type(about["default"])(about["least"] + (about["most"] - about["least"]) * shares[name])
        for name, about in bounds.items()
    }
    given_ = Options.gather({
        "route": routes, "dns_domain": suffixes, "capture_all": everything, "mtu": mtu, "grace": grace,
        "log_file": file, "limits": found,
    }, {})  # fmt: skip
    table = as_table(given_)
    again = _read(as_toml(table))
    assert again == given_
    assert as_table(given_) == table
    json.dumps(table)
