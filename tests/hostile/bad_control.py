"""CONTROL messages that lie, are huge, or answer what nobody asked."""

from __future__ import annotations

import json
from typing import Any

from netbridge.bridge.agent.frames import MAX_CONTROL
from netbridge.bridge.link import MOST_PARTS

from .kinds import BROKE, kind
from .wire import CONTROL, HELLO, Wire, frame_header

TEXTS = {
    # name: (text, whether the session goes on)
    "empty-object": ("{}", False), "array": ("[]", False), "number": ("17", False), "no-json": ("{type}", False),
    "cut": ('{"type": "routes_changed", "rou', False), "type-is-no-text": ('{"type": 5}', False),
    "nested-deeply": ('{"type":"x","a":' + "[" * 100_000 + "]" * 100_000 + "}", False),
    "nested": ('{"type":"x","a":' + "[" * 900 + "]" * 900 + "}", False),
    "nested-objects": ('{"type":"x","a":' + '{"a":' * 400 + "1" + "}" * 400 + "}", False),
    "digits": ('{"type":"x","a":' + "9" * 100_000 + "}", False),
    "not-a-number": ('{"type":"x","a":NaN}', False), "infinite": ('{"type":"x","a":-Infinity}', False),
    "overflow": ('{"type":"x","a":1e999}', False),
    "twice": ('{"type":"error","type":"x","type":"names_changed"}', True),
    "lone-surrogates": ('{"type":"x","a":"\\ud800\\udfff\\udc00"}', True),
    "nul": ('{"type":"x","\\u0000":"\\u0000"}', True), "raw-control": ('{"type":"x","a":"\x1b[2J"}', False),
    "surrogates-raw": ('{"type":"x","a":"\ud800"}', True),
    "byte-order-mark": ('\ufeff{"type":"x"}', True),
}


def _text(name: str, text: str, *, goes_on: bool) -> None:
    @kind(f"control-{name}", f"sends a CONTROL message that is {name.replace('-', ' ')}", ends=() if goes_on else BROKE)
    def act(wire: Wire) -> None:
        wire.start()
        wire.text(text)
        wire.alive()


for _name, (_content, _goes_on) in TEXTS.items():
    _text(_name, _content, goes_on=_goes_on)


@kind("control-largest", "sends the largest CONTROL message there may be, of the dearest contents")
def control_largest(wire: Wire) -> None:
    wire.start()
    head, end = b'{"type":"x","a":[', b"{}]}"
    body = head + b'["\\u200b"],' * (MOST_PARTS - 2)
    wire.frame(CONTROL, body + b" " * (MAX_CONTROL - len(body) - len(end)) + end)
    wire.alive()


@kind("control-of-parts", "sends a CONTROL message of as many parts as fit", ends=BROKE)
def control_of_parts(wire: Wire) -> None:
    wire.start()
    wire.text('{"type":"x","a":[' + "{}," * 340_000 + "{}]}")
    wire.alive()


@kind("control-over", "sends a CONTROL message that is a byte too long", ends=BROKE)
def control_over(wire: Wire) -> None:
    wire.start()
    wire.flood([frame_header(CONTROL, MAX_CONTROL + 1) + b" " * (MAX_CONTROL + 1)], seconds=5)


JUNK: tuple[Any, ...] = (
    None, True, -1, 0.5, 10**30, "", "x" * 5000, "10.0.0.0/8", "\u0000", [], {}, [[]], [None], [{}], [1],
    {"a": {"b": 1}},
    ["0.0.0.0/0", "::/0", "garbage", "10.0.0.0/33"], [{"route": [], "reason": {}}],
    [{"route": "x" * 3000}],
)  # fmt: skip


def _lies(fields: dict[str, Any], wire: Wire) -> dict[str, Any]:
    """Some fields of a message replaced by junk."""
    return {
        key: value if key == "type" or wire.random.random() < 0.4 else wire.random.choice(JUNK)
        for key, value in fields.items()
    }


@kind("hello-lies", "says `hello` with junk in its fields", ends=(1, 3, 5), either=True)
def hello_lies(wire: Wire) -> None:
    wire.begin()
    facts = {**HELLO["facts"], "bridges": [], "host": "x"}
    wire.say({**_lies({**HELLO, "version": "9"}, wire), "protocol": 1, "facts": _lies(facts, wire)})
    wire.wait_setup()
    wire.ready()
    wire.alive()


@kind("hello-other-protocol", "speaks another version of the protocol", ends=(1,))
def hello_other_protocol(wire: Wire) -> None:
    wire.begin()
    wire.say({**HELLO, "protocol": "\x1b[31m2"})
    wire.serve()


@kind("hello-no-facts", "knows no facts", ends=(1,))
def hello_no_facts(wire: Wire) -> None:
    wire.begin()
    wire.say({**HELLO, "facts": ["subnets"]})
    wire.serve()


@kind("hello-twice", "says `hello` again and again, with other facts each time")
def hello_twice(wire: Wire) -> None:
    wire.start()
    for number in range(50):
        wire.say({**HELLO, "host": f"other-{number}", "facts": {"subnets": ["0.0.0.0/0"]}})
    wire.alive()


@kind("subnets-everywhere", "has subnets that leave no address for the bridge", ends=(1,))
def subnets_everywhere(wire: Wire) -> None:
    wire.begin()
    wire.say({**HELLO, "facts": {"subnets": ["198.18.0.0/15", "fd6e:6272::/32"]}})
    wire.serve()


@kind("subnets-by-the-thousand", "has as many subnets as a message holds")
def subnets_by_the_thousand(wire: Wire) -> None:
    wire.begin()
    subnets = [f"10.{number >> 8 & 255}.{number & 255}.0/24" for number in range(30_000)]
    wire.say({**HELLO, "facts": {"subnets": subnets}})
    wire.wait_setup()
    wire.ready()
    wire.alive()


@kind("bridges-of-others", "says that somebody else bridges it already", ends=(1,))
def bridges_of_others(wire: Wire) -> None:
    wire.begin()
    machine = {"id": "other", "user": "\x1b]0;owned\x07", "name": "x" * 5000}
    wire.say({**HELLO, "facts": {"subnets": [], "bridges": [{"session": "a" * 32, "machine": machine}]}})
    wire.serve()


@kind("bridges-by-the-thousand", "has thousands of old bridges, with junk for names", either=True, ends=(1,))
def bridges_by_the_thousand(wire: Wire) -> None:
    wire.begin()
    bridges = [{"session": f"{number:x}\x00../../x", "machine": {}} for number in range(15_000)]
    wire.say({**HELLO, "facts": {"subnets": [], "bridges": bridges}})
    wire.wait_setup()
    wire.ready()
    wire.alive()


READY: dict[str, Any] = {
    "type": "ready", "tun": "nb0", "offload": True, "routes": ["10.0.0.0/8"], "skipped": [], "own": [], "dns": True,
    "listen": "127.83.0.1", "capture": "tun", "took": {"TUN": 0.1}, "dns_reason": "", "containers": [],
    "containers_reason": "", "ssh_agent": "/tmp/x", "ssh_agent_reason": "", "sources": [], "sums": 0, "no_tun": "",
    "mtu": 9000, "addresses": ["10.0.0.1/8"],
}  # fmt: skip


@kind("ready-lies", "says `ready` with junk in its fields")
def ready_lies(wire: Wire) -> None:
    wire.hello()
    wire.wait_setup()
    wire.say(_lies(READY, wire))
    wire.alive()


@kind("ready-by-packets", "says that it captures by packets, from any address there is")
def ready_by_packets(wire: Wire) -> None:
    sources = ["0.0.0.0/0", "::/0", "127.0.0.0/8", *(f"10.0.{number}.0/24" for number in range(200))]
    wire.start(capture="packet", sources=sources, sums=True, no_tun="\x1b[2J" * 200)
    wire.alive()


@kind("ready-for-ever", "took so long that no clock can show it", ends=BROKE)
def ready_for_ever(wire: Wire) -> None:
    wire.hello()
    wire.wait_setup()
    wire.text('{"type":"ready","tun":"nb0","took":{"TUN":1e999,"routes":-1e308,"names":1e308}}')
    wire.alive()


@kind("ready-of-ages", "took ten billion years")
def ready_of_ages(wire: Wire) -> None:
    wire.hello()
    wire.wait_setup()
    wire.text('{"type":"ready","tun":"nb0","took":{"TUN":1e300,"routes":-1e300,"names":1e-300}}')
    wire.alive()


@kind("networks-change", "says unasked that everything about its networks is otherwise, as often as it can")
def networks_change(wire: Wire) -> None:
    wire.start()
    for number in range(200):
        own = [f"10.{number}.{net}.0/24" for net in range(200)]
        wire.say({"type": "routes_changed", "routes": own, "own": own, "skipped": [
            {"route": net, "reason": f"because {number}"} for net in own
        ]})
    wire.alive()


@kind("networks-by-the-thousand", "has as many networks of its own as a message holds")
def networks_by_the_thousand(wire: Wire) -> None:
    wire.start()
    own = [f"10.{number >> 8 & 255}.{number & 255}.0/24" for number in range(30_000)]
    wire.say({"type": "routes_changed", "routes": [], "own": own, "skipped": []})
    wire.say({"type": "routes_changed", "routes": own, "own": [], "skipped": []})
    skipped = [{"route": net, "reason": "no"} for net in own[:15_000]]
    wire.say({"type": "routes_changed", "routes": [], "own": [], "skipped": skipped})
    wire.alive()


TYPES = (
    "hello", "setup", "ready", "resume", "resumed", "routes", "routes_changed", "host_routes", "host_routes_changed",
    "names", "names_changed", "dial", "hang_up", "trace", "traced", "probe", "probed", "stop", "stopped", "x", "",
)  # fmt: skip


@kind("unasked", "sends every message there is, asked or not, with junk in it")
def unasked(wire: Wire) -> None:
    wire.start()
    for number in range(20):
        for type_ in TYPES:
            wire.say({
                "type": type_, "number": wire.random.choice([*JUNK, number, 1, 2, 3]),
                "taken": wire.random.choice(JUNK),
                "routes": wire.random.choice(JUNK), "skipped": wire.random.choice(JUNK),
                "own": wire.random.choice(JUNK), "sources": wire.random.choice(JUNK), "code": wire.random.choice(JUNK),
            })  # fmt: skip
    wire.alive()


@kind("errors-junk", "reports errors whose fields are junk")
def errors_junk(wire: Wire) -> None:
    wire.start()
    for item in JUNK:
        wire.say({"type": "error", "code": item, "detail": item, "number": item})
    wire.alive()


@kind("answers-of-others", "answers each question with the number of another")
def answers_of_others(wire: Wire) -> None:
    wire.start()
    for number in range(1, 500):
        wire.text(json.dumps({"type": "names_changed", "number": number}))
        wire.text(json.dumps({"type": "traced", "number": number, "answers": []}))
        wire.text(json.dumps({"type": "host_routes_changed", "number": number, "skipped": "x"}))
    wire.alive()
