"""One kind of hostile agent against a real `netbridge up`: how it ended, what it cost, what it said and touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netbridge.bridge import runtime
from netbridge.bridge.control import ask
from netbridge.bridge.errors import BridgeError

from . import bad_control, bad_floods, bad_frames, bad_lives, bad_packets, bad_texts, mutations  # noqa: F401
from .kinds import DONE, KINDS, Kind
from .watched import FIGURES

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0
"""Seconds a trial may take; an agent that falls silent is waited for half a minute by each step of a start."""


@dataclass
class Outcome:
    """How one trial went."""

    kind: Kind
    seed: int
    status: int | None = None
    """Exit status; None: it had to be killed."""
    went_on: bool = False
    """It was there when the worst was over, answered `status`, and was stopped by us."""
    seconds: float = 0.0
    said: str = ""
    """Standard error, bytes that are no UTF-8 as surrogates."""
    state: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def records(self) -> list[dict[str, Any]]:
        """What was said, as JSON; a line that is none is a record of its own kind."""
        found = []
        for line in self.said.splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                record = {"event": "no json", "line": line}
            found.append(record)
        return found

    def faults(self) -> list[str]:
        """What was not as it should be."""
        kind, found = self.kind, []
        records = self.records
        if self.status is None:
            return [f"it did not end:\n{self.said[-3000:]}"]
        if self.went_on:
            if kind.ends and not kind.either:
                found.append("it went on")
            if self.status:
                found.append(f"it was stopped and ended with {self.status}")
            stopped = next((it for it in records if it["event"] == "stopped"), {})
            if kind.stopped and not stopped.get("clean"):
                found.append("the agent's honest `stopped` was not heard")
        else:
            if not kind.ends:
                found.append(f"it ended with {self.status}")
            elif self.status not in kind.ends:
                found.append(f"it ended with {self.status} and not with {' or '.join(map(str, kind.ends))}")
            failed = [it for it in records if it["event"] == "failed"]
            if len(failed) != 1 or not all(failed[0][part].strip() for part in ("what", "why", "todo")):
                found.append(f"it did not say once what, why and what to do: {failed}")
            elif "in a way it should not" in failed[0]["what"]:
                found.append(f"an exception nobody foresaw: {failed[0]}")
        if "Traceback" in self.said:
            found.append("it printed a traceback")
        found += [f"no JSON: {it['line'][:300]}" for it in records if it["event"] == "no json"]
        found += [
            f"it warned of what nobody foresaw: {it['text'][:300]}" for it in records
            if it["event"] == "log" and "in the background" in it["text"]
        ]
        if left := self.figures.get("left"):
            found.append(f"descriptors are left open: {left}")
        return [f"{line}\n{self.said[-2500:]}" for line in found]


def environment(folder: Path) -> dict[str, str]:
    """For netbridge and for its agent; the bridge's runtime folder is the trial's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NETBRIDGE_")}
    return {
        **kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1",
        "NETBRIDGE_RUNTIME_DIR": str(folder / "run"), FIGURES: str(folder / "figures"),
    }


def command(kind: Kind, seed: int, seconds: float, folder: Path, canary: int) -> list[str]:
    """`netbridge up` against this kind."""
    agent = (
        f"exec:{sys.executable} -m tests.hostile.agent --kind {kind.name} --seed {seed} --seconds {seconds}"
        f" --folder {folder} --canary {canary}"
    )
    return [
        sys.executable, "-m", "tests.hostile.watched", "up", agent, "--gui", "false", "--log-format", "json",
        "--grace", str(kind.grace), "--ping-interval", "0.5",
    ]  # fmt: skip


def attempt(
    name: str, *, seed: int = 1, seconds: float = 2.0, canary: int = 9, options: tuple[str, ...] = (),
    prefix: tuple[str, ...] = (),
) -> Outcome:
    """Try one kind. `options` are further ones of `up`; `prefix`: what the whole is run by."""
    kind = KINDS[name]
    outcome = Outcome(kind, seed)
    with tempfile.TemporaryDirectory(prefix="netbridge-hostile-") as place:
        folder = Path(place)
        began = time.monotonic()
        with open(folder / "said", "wb") as said:
            program = subprocess.Popen(
                [*prefix, *command(kind, seed, seconds, folder, canary), *options], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=said, env=environment(folder), cwd=folder, start_new_session=True,
            )
        try:
            while program.poll() is None and not (folder / DONE).exists():
                if time.monotonic() - began > PATIENCE:
                    break
                time.sleep(0.01)
            if program.poll() is None and (folder / DONE).exists():
                deadline = time.monotonic() + 10.0
                while program.poll() is None and not outcome.went_on and time.monotonic() < deadline:
                    time.sleep(0.05)  # an end that was on its way comes before ours
                    outcome.state = _ask(folder)
                    outcome.went_on = outcome.state.get("state") == "running"
                _end(program)
            outcome.status = _wait(program, 10.0)
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
        outcome.seconds = time.monotonic() - began
        outcome.said = (folder / "said").read_bytes().decode("utf-8", "surrogateescape")
        if (folder / "figures").exists():
            outcome.figures = json.loads((folder / "figures").read_text())
    return outcome


def _ask(folder: Path) -> dict[str, Any]:
    with runtime.Folder(folder / "run", owner=os.geteuid()) as open_folder:
        try:
            return ask(open_folder, 0, "status")
        except BridgeError:
            return {}


def _wait(program: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return program.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGTERM)


def table(seed: int, seconds: float, *, only: str = "", slow: bool = False) -> int:
    """Try all kinds, one after the other, and print their figures; 1 when one of them was not as it should be."""
    names = ["honest"]  # first: what the others are compared to
    names += [name for name, kind in KINDS.items() if only in name and name != "honest" and (slow or not kind.slow)]
    if only and len(names) == 1 and only not in "honest":
        print(f"no such kind: {only}; --list tells them, and the slow ones want --slow", file=sys.stderr)
        return 2
    head = f"{'kind':30} {'outcome':9} {'exit':>4} {'over idle MB':>12} {'CPU s':>6} {'stall ms':>8} {'s':>5}"
    print(head, flush=True)
    peak, bad = 0, 0
    for name in names:
        it = attempt(name, seed=seed, seconds=seconds)
        figures, faults = it.figures, it.faults()
        peak = peak or figures.get("peak", 0)
        bad += bool(faults)
        ended = "goes on" if it.went_on else "ends" if it.status is not None else "HANGS"
        print(
            f"{name:30} {ended:9} {it.status if it.status is not None else '-':>4}"
            f" {(figures.get('peak', 0) - peak) / 1e6:12.1f} {figures.get('cpu', 0):6.2f}"
            f" {figures.get('stall', 0) * 1000:8.0f} {it.seconds:5.1f}", flush=True,
        )  # fmt: skip
        for fault in faults:
            print(f"    FAULT {fault}", flush=True)
    print(f"{len(names)} kinds, {bad} not as they should be")
    return 1 if bad else 0
