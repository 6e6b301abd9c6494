"""`netbridge stack`: the user-space stack alone. Here `loopback`; the two on a TUN are in :mod:`.stack_tun`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from netbridge.bridge.errors import UsageError

from .render import span

if TYPE_CHECKING:
    from netbridge.stack.loopback import Report

app = cyclopts.App(
    name="stack", help="Use the user-space TCP/IP stack alone.", help_format="plaintext", version_flags=(),
)
app.command(
    "netbridge.cli.stack_tun:serve", name="serve", help="Be a host on a TUN device, for the kernel beside it.",
    usage="Usage: netbridge stack serve --tun NAME --address CIDR [OPTIONS]",
)
app.command(
    "netbridge.cli.stack_tun:dial", name="dial", help="Connect standard input and output to a port by a TUN.",
    usage="Usage: netbridge stack dial --tun NAME --address CIDR [OPTIONS] HOST PORT",
)
UNITS = {"k": 1e3, "m": 1e6, "g": 1e9}


@app.command
def loopback(
    *, loss: Annotated[str, Parameter(name="--loss", help="Percent of the packets that are lost, as in 0.5.")] = "0",
    delay: Annotated[str, Parameter(name="--delay", help="Milliseconds that each packet takes, one way.")] = "0",
    reorder: Annotated[str, Parameter(name="--reorder", help="Percent that are overtaken, by 10 ms.")] = "0",
    rate: Annotated[str, Parameter(name="--rate", help="Bits a second that fit through: 500k, 20M, 1G.")] = "",
    seed: Annotated[int, Parameter(name="--seed", help="Of the chances: the same packets are lost again.")] = 0,
    mtu: Annotated[int, Parameter(name="--mtu", help="Bytes of the largest packet (default 1500).")] = 1500,
    offload: Annotated[bool, Parameter(name="--offload", help=(
        "Super-segments, as between the stack and a kernel (the default; never on a line that is bad)."
    ))] = True,
    seconds: Annotated[float, Parameter(name="--seconds", help="Of each of the four measurements (default 2).")] = 2.0,
    json_: Annotated[bool, Parameter(name="--json", negative=(), help="As JSON on standard output.")] = False,
) -> int:
    """Measure two stacks back to back in one process: throughput, round trips, connections.

    Both share one processor, and nothing leaves the process. The line between them can be made bad, both ways alike.
    """
    from netbridge.stack.loopback import Conditions, measure

    conditions = Conditions(
        loss=_number("loss", loss, 100) / 100, delay=_number("delay", delay, 60_000) / 1000,
        reorder=_number("reorder", reorder, 100) / 100, rate=_rate(rate) / 8, seed=seed, mtu=mtu, offload=offload,
    )
    if not 68 <= mtu <= 65535 or not 0 < seconds <= 3600 or conditions.loss >= 1:
        raise UsageError(
            "Nothing can be measured so.", "An MTU is 68 to 65535, the time up to 3600 seconds, the loss below 100 %.",
            "Change that.",
        )
    report = asyncio.run(measure(conditions, seconds=seconds, progress=_told if sys.stderr.isatty() else _silent))
    if json_:
        print(json.dumps(report.as_json()))
    else:
        for line in _lines(report):
            print(line)
    return 0


def _silent(_what: str, _part: float) -> None:
    """Nobody watches."""


def _told(what: str, part: float) -> None:
    """A line on a terminal that is written anew."""
    print(f"\r\033[K{what} {part:.0%}" if part < 1 else "\r\033[K", end="", file=sys.stderr, flush=True)


def _lines(report: Report) -> list[str]:
    from .tables import table

    return table(["MEASURED", ">FIGURE", ""], [
        ["throughput, sending", bits(report.sent), ""],
        ["throughput, receiving", bits(report.received), ""],
        ["round trip, median", _short(report.round_trip), f"99 % within {_short(report.round_trip_99)}"],
        ["connections", f"{report.connections:.0f}/s", f"{report.failed} failed" if report.failed else ""],
        ["sent again", f"{report.retransmitted}", f"{report.lost} lost on the line"],
    ])


def bits(rate: float) -> str:
    """Bits a second for people."""
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if rate < 1000:
            return f"{rate:.3g} {unit}"
        rate /= 1000
    return f"{rate:.3g} Gbit/s"


def _short(seconds: float) -> str:
    """A round trip for people."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else span(seconds)


def _number(option: str, text: str, most: float) -> float:
    try:
        number = float(text.removesuffix("%"))
        if 0 <= number <= most:
            return number
    except ValueError:
        pass
    raise UsageError(f"--{option} is not {text!r}.", f"It is a number from 0 to {most:g}.", "Name one of those.")


def _rate(text: str) -> float:
    """Bits a second; 0 for none."""
    if not text:
        return 0.0
    factor = UNITS.get(text[-1].lower(), 1.0)
    try:
        number = float(text[:-1] if text[-1].lower() in UNITS else text) * factor
        if 1000 <= number < 1e13:
            return number
    except ValueError:
        pass
    raise UsageError(
        f"--rate is not {text!r}.", "It is bits a second, 1k or more, with k, M or G behind them.", "As in --rate 20M.",
    )
