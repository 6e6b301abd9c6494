"""`netbridge up`: one bridge in the foreground, shown by the terminal UI or told line by line.

It lives until `q`, ctrl-c, SIGTERM, SIGHUP, `netbridge down`, the end of COMMAND or the loss of the target.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import Parameter

from netbridge.bridge import events
from netbridge.bridge.notify import Notify
from netbridge.bridge.options import Options, default_config
from netbridge.bridge.user import User, helper_user, step_down

from . import beside, rights
from .choose import choose_target, named
from .output import Output

List = list[str] | None
T = TypeVar("T")


@rights.by_itself
def up(
    target: Annotated[str | None, Parameter(help=(
        "What to bridge: a codespace's name (without TARGET a dialog to choose one), ssh://[user@]host[:port],"
        " docker://CONTAINER, k8s://[CONTEXT/]NAMESPACE/POD[/CONTAINER], devpod://WORKSPACE, exec:COMMAND (any that"
        " reaches a shell), or sandbox (a private network namespace on this machine; without COMMAND a shell in it)."
    ))] = None,
    /,
    *,
    codespace: Annotated[str | None, Parameter(
        name=["--codespace", "-c"], metavar="NAME", help="The codespace to bridge; the same as TARGET.")] = None,
    route: Annotated[List, Parameter(
        name=["--route", "-r"], metavar="CIDR", negative=(),
        help="Capture this network (CIDR) too. Repeatable.")] = None,
    exclude: Annotated[List, Parameter(
        name=["--exclude", "-x"], metavar="CIDR", negative=(),
        help="Never capture this network (CIDR). Repeatable.")] = None,
    capture_all: Annotated[bool | None, Parameter(
        name="--all", negative="--no-all", help="Capture everything but the tunnel itself.")] = None,
    dns: Annotated[str | None, Parameter(
        name="--dns", metavar="WHO", help="Who is asked for which name: auto, all or off.")] = None,
    dns_domain: Annotated[List, Parameter(
        name="--dns-domain", metavar="SUFFIX", negative=(),
        help="Names below this suffix are always asked here. Repeatable.")] = None,
    allow: Annotated[List, Parameter(
        name="--allow", metavar="RULE", negative=(),
        help="Allow CIDR[:PORTS], also where the default denies. Repeatable.")] = None,
    deny: Annotated[List, Parameter(
        name="--deny", metavar="RULE", negative=(), help=(
            "Deny CIDR[:PORTS], or local[:PORTS]: this machine's own addresses; wins over --allow. Repeatable."
        ))] = None,
    host_alias: Annotated[bool | None, Parameter(
        name="--host-alias", negative="--no-host-alias", help=(
            "host.netbridge.internal reaches this machine's loopback, on ports opened by --allow 127.0.0.1:PORTS."
        ))] = None,
    forward_agent: Annotated[bool | None, Parameter(
        name="--forward-agent", negative="--no-forward-agent", help=(
            "Let the user over there (and root) use this machine's ssh-agent, SSH_AUTH_SOCK, while the bridge runs."
        ))] = None,
    limit: Annotated[List, Parameter(
        name="--limit", metavar="NAME=VALUE", negative=(), help=(
            "How much a bridge may use: NAME=VALUE, names as in docs/limits.md and status --json. Repeatable."
        ))] = None,
    ssh: Annotated[str | None, Parameter(
        name="--ssh", metavar="WHICH", help="Which SSH carries the link: asyncssh, openssh, or auto.")] = None,
    capture: Annotated[str | None, Parameter(
        name="--capture", metavar="HOW",
        help="How packets are captured over there: by a tun, by a packet socket, or auto.")] = None,
    grace: Annotated[str | None, Parameter(name="--grace", metavar="SECONDS", help=(
        "Seconds the target keeps flows while the connection is down (default 600; 0: the bridge ends with it)."
    ))] = None,
    ping_interval: Annotated[str | None, Parameter(name="--ping-interval", metavar="SECONDS", help=(
        "Seconds of silence after which the target is asked whether it is there (default 3)."
    ))] = None,
    keep_awake: Annotated[Literal["yes", "no"] | None, Parameter(name="--keep-awake", negative=(), help=(
        "no: ask only while something is carried, so that an idle codespace falls asleep (default yes)."
    ))] = None,
    take_over: Annotated[bool | None, Parameter(
        name="--take-over", negative=(), help="End the bridge that another machine has to the target.")] = None,
    mtu: Annotated[str | None, Parameter(name="--mtu", metavar="BYTES", help="MTU of the TUN over there.")] = None,
    gui: Annotated[bool | None, Parameter(
        name="--gui", negative="--no-gui", help=(
            "Terminal UI, or (false) a line for each event; true on a terminal that no COMMAND has."
            " Also --gui true|false."
        ))] = None,
    trace_level: Annotated[str | None, Parameter(
        name="--trace-level", metavar="LEVEL",
        help="Verbosity of the log: none, trace, debug, info, warn or error.")] = None,
    log_format: Annotated[str | None, Parameter(name="--log-format", metavar="FORM", help="text or json.")] = None,
    log_file: Annotated[str | None, Parameter(name="--log-file", metavar="FILE",
        help="Write events and log to this file too.")] = None,
    log_size: Annotated[str | None, Parameter(
        name="--log-size", metavar="SIZE", help=(
            "Size at which the log file becomes FILE.1 and a new one is begun, three old ones being kept; 0: never"
            " (default: 10MiB)."
        ))] = None,
    pcap: Annotated[str | None, Parameter(name="--pcap", metavar="FILE", help=(
        "Write every packet of the link to this file (pcapng, as Wireshark and tshark read it)."
    ))] = None,
    pcap_size: Annotated[str | None, Parameter(name="--pcap-size", metavar="SIZE", help=(
        "Size at which that file becomes FILE.1 and a new one is begun, three old ones being kept (default: never)."
    ))] = None,
    metrics: Annotated[str | None, Parameter(name="--metrics", metavar="[ADDRESS:]PORT", help=(
        "[ADDRESS:]PORT where Prometheus can read the bridge's numbers; without ADDRESS only from this machine."
    ))] = None,
    config: Annotated[str | None, Parameter(
        name="--config", metavar="FILE",
        help="TOML file with settings (default: netbridge/config.toml among the user's).")] = None,
    command: Annotated[tuple[str, ...], Parameter(parse=False)] = (),
) -> int:
    """Bridge TARGET to this machine until q, ctrl-c or COMMAND ends.

    What follows -- is COMMAND: it runs over there once the bridge is ready, and the bridge ends with it, with its exit
    status. Options can also stand in a TOML file and in the environment as NETBRIDGE_*.
    """
    manager = Notify(os.environ)  # first of all: no child of ours shall have the variables
    options = gathered({
        "target": target, "codespace": codespace, "route": route, "exclude": exclude, "capture_all": capture_all,
        "dns": dns, "dns_domain": dns_domain, "allow": allow, "deny": deny, "host_alias": host_alias,
        "forward_agent": forward_agent, "limit": limit,
        "ssh": ssh, "capture": capture, "grace": grace, "ping_interval": ping_interval, "keep_awake": keep_awake,
        "take_over": take_over, "mtu": mtu, "gui": gui, "trace_level": trace_level, "log_format": log_format,
        "log_file": log_file, "log_size": log_size, "pcap": pcap, "pcap_size": pcap_size,
        "metrics": metrics, "config": config,
    }, helper_user(), command=command)
    # A sandbox's namespaces are root's work; its transport steps down when they are there.
    stays_root = "" if options.target == "sandbox" else step_down()
    if not options.target:
        options = replace(options, target=choose_target())
    output = Output(options, manager)
    if manager.watchdog:
        faulthandler.enable()  # killed for its silence, it says where it hung
    try:
        if stays_root:
            output.event(events.Hint(f"this runs as root: {stays_root}"))
        if options.gui and (reason := beside.why_not(options)):
            output.event(events.Hint(reason))
        return run_loop(_bridge(options, output, manager))
    except Exception as error:
        return output.failure(error)
    finally:
        output.close()
        manager.close()


def joined(words: Sequence[str]) -> list[str]:
    """`--gui true` and `--gui false`, as gh net has them, in one word; `--gui` alone stays, and means true."""
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--gui" and word.lower() in {"true", "false"}:
            found[-1] = f"--gui={word.lower()}"
        else:
            found.append(word)
    return found


def gathered(given: Mapping[str, Any], user: User, *, command: tuple[str, ...] = ()) -> Options:
    """Options from the arguments of `up`, by their names there, and from weaker sources. Raises UsageError."""
    flags = dict(given)
    codespace, config = flags.pop("codespace", None), flags.pop("config", None)
    flags["limits"] = flags.pop("limit", None)
    if codespace is not None:
        flags["target"] = named(codespace, flags.get("target"))
    return Options.gather(
        flags, user.environment, command=command, config=Path(config) if config else None,
        default_config=default_config(user),
    )


async def _bridge(options: Options, output: Output, manager: Notify) -> int:
    from netbridge.bridge.session import Session

    gui = not beside.why_not(options) if options.gui else options.gui is None and beside.suits(options)
    with contextlib.ExitStack() as terminal, manager:
        def tell(event: events.Event) -> None:
            output.event(event)
            match event:
                case events.Ready() if not session.takes_terminal:
                    screen.begin()
                case events.Interrupted() if not session.takes_terminal:
                    screen.interrupted()
                case events.Resumed() if not session.takes_terminal:
                    screen.resumed()
                case events.CommandStarted():
                    signals.command_has_terminal = sys.stdin is not None and sys.stdin.isatty()
                case events.CommandEnded() | events.Stopping():
                    signals.command_has_terminal = False

        session = Session(options, tell)
        signals = terminal.enter_context(_Signals(session.stop, session.hurry))
        screen = beside.Beside(session, output, session.stop, gui=gui)
        output.watcher = session.feed.log
        try:
            return await session.run()
        finally:
            await screen.close()


class _Signals:
    """Signals become a stop; the second ctrl-c a stop without waiting, the third the end of the process."""

    def __init__(self, stop: Callable[[str], None], hurry: Callable[[], None]) -> None:
        self._stop = stop
        self._hurry = hurry
        self.command_has_terminal = False
        """COMMAND reads the keyboard: a ctrl-c is meant for it, and its end ends the bridge."""
        self._interrupts = 0
        self._loop = asyncio.get_running_loop()
        self._handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __enter__(self) -> _Signals:
        for number in self._handled:
            self._loop.add_signal_handler(number, self._caught, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._handled:
            self._loop.remove_signal_handler(number)

    def _caught(self, number: signal.Signals) -> None:
        if number != signal.SIGINT:
            self._stop(f"{number.name} came")
            return
        if self.command_has_terminal:
            return
        self._interrupts += 1
        if self._interrupts == 1:
            self._stop("ctrl-c was pressed")
        elif self._interrupts == 2:
            self._hurry()
        else:
            os._exit(1)


def run_loop(work: Coroutine[None, None, T]) -> T:
    """Run the loop. Threads that still wait for the system's resolver are left behind rather than waited for."""
    loop = _new_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not made for every system
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
