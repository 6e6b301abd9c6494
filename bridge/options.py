"""What one bridge is asked to do, gathered from flags, environment, a TOML file and defaults (in this order).

`Options` is a frozen dataclass; each field carries its converter in its metadata, so a setting is written down once.
A flag is named `--dns-domain`, its variable NETBRIDGE_DNS_DOMAIN, its TOML key `dns-domain` (`dns_domain` is taken
too). A list replaces the list of a weaker source, it does not add to it; in a variable its items are separated by
blanks (or, but for policy rules, by commas). Limits are settings one by one: a stronger source replaces the limits that
it names. The file is `netbridge/config.toml` in the user's configuration folder,
or the one named by `--config` or NETBRIDGE_CONFIG. Under sudo that is the folder of the user who called sudo.

Whatever is wrong becomes a UsageError that names the source, so nobody hunts for the value.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from . import values
from .errors import UsageError
from .forward.limits import Limits
from .user import User

PREFIX = "NETBRIDGE_"
TRACE_LEVELS = ("none", "trace", "debug", "info", "warn", "error")
CONFIG_MAX = 1 << 20
"""Bytes; a larger file is no configuration."""
QUOTED_MAX = 600
"""Characters of a fault that quotes the setting: all of what a person writes, little of a file that is none."""


def _setting(default: Any, convert: Callable[[object], object], flag: str = "") -> Any:
    """A dataclass field that knows its converter and, where it differs from its name, its flag."""
    return field(default=default, metadata={"convert": convert, "flag": flag})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One bridge. Field values are canonical (networks as CIDR text, suffixes in lower case without outer dots)."""

    target: str = _setting("", values.line)
    """TARGET as `up` takes it, e.g. `ssh://dev` or `sandbox`."""
    command: tuple[str, ...] = ()
    """COMMAND to run over there once the bridge is ready; empty: none (in the sandbox: a shell)."""
    route: tuple[str, ...] = _setting((), values.networks)
    """Networks captured besides those found."""
    exclude: tuple[str, ...] = _setting((), values.networks)
    """Networks never captured; stronger than everything else."""
    capture_all: bool = _setting(False, values.truth, "all")
    """Capture everything but the tunnel itself."""
    dns: str = _setting("auto", values.choice("auto", "all", "off"))
    """Who is asked for which name: auto (unresolved names and private suffixes here), all, off."""
    dns_domain: tuple[str, ...] = _setting((), values.domains)
    """Suffixes always asked here."""
    allow: tuple[str, ...] = _setting((), values.allowances)
    """Policy: allowed destinations `CIDR[:PORTS]`, also where the default denies."""
    deny: tuple[str, ...] = _setting((), values.rules)
    """Policy: denied destinations `CIDR[:PORTS]`, or `local`; stronger than `allow`."""
    host_alias: bool = _setting(False, values.truth)
    """host.netbridge.internal reaches this machine's loopback, on the ports that `allow` opens."""
    forward_agent: bool = _setting(False, values.truth)
    """The ssh-agent of this machine (SSH_AUTH_SOCK) can be used over there."""
    limits: Limits = _setting(Limits(), values.limits)  # noqa: RUF009, see _setting
    """What the forwarders and the DNS service may use."""
    ssh: str = _setting("auto", values.choice("auto", "asyncssh", "openssh"))
    """Which SSH carries the link; auto: the faster one that works."""
    capture: str = _setting("auto", values.choice("auto", "tun", "packet"))
    """How packets are captured over there: by a TUN, by a packet socket, or (auto) by a TUN where one is to be had."""
    grace: float = _setting(600.0, values.number(0, 86400))
    """Seconds the target keeps flows, routes and names while the connection is down; 0: it does not outlive it."""
    ping_interval: float = _setting(3.0, values.number(0.5, 3600))
    """Seconds without a word from the target until it is asked whether it is there."""
    keep_awake: bool = _setting(True, values.truth)
    """Ask also while nothing is carried. A codespace counts it as activity, and does not fall asleep."""
    take_over: bool = _setting(False, values.truth)
    """End the bridge that another machine has to the target."""
    mtu: int | None = _setting(None, values.mtu)
    """MTU of the TUN in bytes; None: 1500."""
    gui: bool | None = _setting(None, values.truth)
    """Terminal UI; None: whatever suits the terminal."""
    trace_level: str = _setting("info", values.choice(*TRACE_LEVELS))
    """Verbosity of the log."""
    log_format: str = _setting("text", values.choice("text", "json"))
    """Form of events and log records."""
    log_file: Path | None = _setting(None, values.path)  # noqa: RUF009, see _setting
    """File that gets events and log records besides the terminal."""
    log_size: int = _setting(10 << 20, values.size)
    """Bytes at which `log_file` becomes FILE.1 and a new one is begun; 0: never."""
    pcap: Path | None = _setting(None, values.path)  # noqa: RUF009, see _setting
    """File that gets every packet of the link."""
    pcap_size: int = _setting(0, values.size)
    """Bytes at which `pcap` becomes FILE.1 and a new one is begun; 0: never."""
    metrics: str = _setting("", values.listening)
    """ADDRESS:PORT where Prometheus can read the bridge's numbers; empty: nowhere."""

    @classmethod
    def gather(
        cls, flags: Mapping[str, object], environment: Mapping[str, str], *,
        command: tuple[str, ...] = (), config: Path | None = None, default_config: Path | None = None,
    ) -> Options:
        """Fill every field from its strongest source.

        `flags` maps field names to raw values, None where the flag was not given. `config` must exist;
        `default_config` may be missing. Raises UsageError.
        """
        return cls.traced(flags, environment, command=command, config=config, default_config=default_config)[0]

    @classmethod
    def traced(
        cls, flags: Mapping[str, object], environment: Mapping[str, str], *,
        command: tuple[str, ...] = (), config: Path | None = None, default_config: Path | None = None,
    ) -> tuple[Options, dict[str, str]]:
        """The same, and where each value came from by its key, as `dns-domain` or `limits.tcp-flows`; what is not there
        has its default.
        """
        sources: dict[str, str] = {}
        if config is None and (named := environment.get(PREFIX + "CONFIG")):
            config = Path(named)
        chosen: dict[str, object] = {"command": command}
        limits = Limits()
        settings = {item.name: item for item in dataclasses.fields(cls) if "convert" in item.metadata}
        for source, raw in (
            *_from_file(config or default_config, settings, must_exist=config is not None),
            *_from_environment(environment, settings),
            *((f"the option --{'limit' if name == 'limits' else key_of(settings[name])}", (name, value))
              for name, value in flags.items() if value is not None),
        ):
            name, value = raw
            try:
                made = settings[name].metadata["convert"](value)
                key = key_of(settings[name])
                if name == "limits":
                    sources |= {f"{key}.{one.replace('_', '-')}": source for one in made}
                    limits = replace(limits, **made)
                    made = limits
                else:
                    sources[key] = source
                chosen[name] = made
            except ValueError as error:
                raise UsageError(
                    f"A setting cannot be used: {_cut(str(error))}.", f"It came from {source}.",
                    "Correct it and start again.",
                ) from None
        options = cls(**chosen)  # type: ignore[arg-type]
        if options.dns == "off" and options.dns_domain:
            raise UsageError(
                "--dns off and --dns-domain contradict each other.", "With --dns off no name is asked here.",
                "Leave one of them out.",
            )
        if options.capture == "packet" and options.target == "sandbox":
            raise UsageError(
                "--capture packet and sandbox contradict each other.", "A sandbox always has a TUN.",
                "Leave --capture out.",
            )
        return options, sources


def default_config(user: User) -> Path:
    """The configuration file of `user`, who need not be the one this process runs as."""
    if user.differs and sys.platform == "linux":
        return Path(user.environment.get("XDG_CONFIG_HOME") or user.home / ".config", "netbridge", "config.toml")
    path = platformdirs.user_config_path("netbridge", appauthor=False) / "config.toml"
    own_home = Path.home()
    return user.home / path.relative_to(own_home) if user.differs and path.is_relative_to(own_home) else path


def key_of(setting: dataclasses.Field[Any]) -> str:
    """The name of a field as a flag and as a TOML key."""
    return str(setting.metadata["flag"]) or setting.name.replace("_", "-")


def _cut(text: str) -> str:
    return text if len(text) <= QUOTED_MAX else f"{text[: QUOTED_MAX - 1]}…"


_Raw = tuple[str, tuple[str, object]]


def _from_environment(environment: Mapping[str, str], settings: Mapping[str, dataclasses.Field[Any]]) -> list[_Raw]:
    found: list[_Raw] = []
    for name, setting in settings.items():
        variable = PREFIX + key_of(setting).replace("-", "_").upper()
        value = environment.get(variable)
        if value:  # an empty variable is an unset one
            found.append((f"the environment variable {variable}", (name, value)))
    return found


def _from_file(
    file: Path | None, settings: Mapping[str, dataclasses.Field[Any]], *, must_exist: bool,
) -> list[_Raw]:
    if file is None:
        return []
    try:
        with file.open("rb") as stream:
            data = stream.read(CONFIG_MAX + 1)
        if len(data) > CONFIG_MAX:
            raise ValueError(f"it is larger than {CONFIG_MAX} bytes")
        table = tomllib.loads(data.decode())
    except (FileNotFoundError, NotADirectoryError):
        if not must_exist:
            return []
        raise UsageError(
            f"There is no configuration file {file}.", "It was named by --config or NETBRIDGE_CONFIG.",
            "Name one that exists or leave it out.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, RecursionError):
            why = "Its lists are nested too deep"
        raise UsageError(
            f"The configuration file {file} cannot be read.", f"{why}.",
            "Correct the file or name another by --config.",
        ) from None
    names = {key_of(setting): name for name, setting in settings.items()}
    found: list[_Raw] = []
    for key, value in table.items():
        name = names.get(key.replace("_", "-"))
        if name is None:
            near = difflib.get_close_matches(_cut(key), names, 1)
            raise UsageError(
                f"The configuration file {file} has an unknown key {_cut(key)!r}.",
                f"Known are {', '.join(sorted(names))}.",
                f"Perhaps {near[0]!r} was meant." if near else "Remove it.",
            )
        found.append((f"{file}, key {key}", (name, value)))
    return found
