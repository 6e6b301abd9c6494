"""From what an SSH program says to what the user should do; shared by both SSHes so that their errors read alike."""

from __future__ import annotations

import re

from ..errors import BridgeError, NotPermittedError, TargetLacksError, TargetUnreachableError, UsageError
from .target import SshTarget

SSH_FAILED = 255
"""ssh's own failure; a remote command's exit status otherwise (ssh(1), EXIT STATUS)."""


def ssh_command(target: SshTarget) -> str:
    """The command a person would type to reach the target."""
    words = ["ssh"]
    if target.port is not None:
        words += ["-p", str(target.port)]
    words.append(f"{target.user}@{target.host}" if target.user else target.host)
    return " ".join(words)


def unknown_host(target: SshTarget, why: str = "") -> BridgeError:
    return TargetUnreachableError(
        f"There is no host {target.host}.", why or "Its name does not resolve.", "Check the name, or the VPN it needs."
    )


def refused(target: SshTarget, why: str = "") -> BridgeError:
    return TargetUnreachableError(
        f"{target} does not accept connections.",
        why or "Connection refused.",
        "Check the port, and that an SSH server runs there.",
    )


def no_answer(target: SshTarget, why: str = "") -> BridgeError:
    return TargetUnreachableError(
        f"{target} does not answer.", why, "Check the address, the VPN and firewalls on the way."
    )


def closed_early(target: SshTarget, why: str = "") -> BridgeError:
    return TargetUnreachableError(
        f"{target} closed the connection before the login was complete.",
        why,
        f"Check with `{ssh_command(target)}` that an SSH server answers there and lets you in.",
    )


def host_key_unknown(target: SshTarget, fingerprint: str = "") -> BridgeError:
    port = f"-p {target.port} " if target.port else ""
    return NotPermittedError(
        f"The host key of {target} is not known.",
        f"It is {fingerprint}." if fingerprint else "No known_hosts file holds it.",
        f"Run `{ssh_command(target)}` once, compare the fingerprint and answer yes. Where nobody can answer, compare "
        f"and put into ~/.ssh/known_hosts what `ssh-keyscan {port}{target.host}` prints.",
    )


def host_key_changed(target: SshTarget, fingerprint: str = "", host: str = "", port: int | None = None) -> BridgeError:
    """`host`, `port`: what known_hosts knows it by, where that is known; else as in the target."""
    host, port = host or target.host, port or target.port
    name = f"[{host}]:{port}" if port not in (None, 22) else host
    return NotPermittedError(
        f"The host key of {target} is not the one that is known.",
        "Either the host was made anew, or someone else answers in its place."
        + (f" It is {fingerprint}." if fingerprint else ""),
        f"If you know why it changed, run `ssh-keygen -R '{name}'` and then `{ssh_command(target)}` once.",
    )


def not_let_in(target: SshTarget, why: str = "") -> BridgeError:
    return NotPermittedError(
        f"{target} does not let you in.",
        why,
        f"Check that `{ssh_command(target)}` works: the user name, the key (ssh-add -l), the server's authorized_keys.",
    )


def lost(target: SshTarget, why: str = "") -> BridgeError:
    return TargetUnreachableError(
        f"The connection to {target} was lost.", why, "Check the network and start the bridge again."
    )


def no_ssh_program() -> BridgeError:
    return TargetLacksError(
        "There is no ssh program on this machine.",
        "It is not on the PATH.",
        "Install the OpenSSH client, or use --ssh asyncssh.",
    )


def _any(*texts: str) -> re.Pattern[str]:
    return re.compile("|".join(texts))


_CHANGED = _any("REMOTE HOST IDENTIFICATION HAS CHANGED", "differs from the key for the IP address", "REVOKED HOST KEY")
_NO_NAME = ("Could not resolve hostname", "Name or service not known", "nodename nor servname", "failure in name resol")
_NO_WAY = (
    "timed out during banner",
    "Connection timed out",
    "Operation timed out",
    "No route to host",
    "is unreachable",
)
_NOT_LET_IN = ("Permission denied", "Too many auth", "No supported authentication", "Authentication failed")
_CLOSED = ("kex_exchange_identification", "banner exchange", "Connection (?:closed|reset) by", "Unable to negotiate")
_RULES = (
    (_any(*_NO_NAME), unknown_host),
    (_any("Host key verification failed", "host key is known for"), host_key_unknown),
    (_any(*_NOT_LET_IN), not_let_in),
    (_any("Connection refused"), refused),
    (_any(*_NO_WAY), no_answer),
    (_any(*_CLOSED), closed_early),
)
_CONFIGURATION = _any(
    r"Bad (?:configuration )?option", r"\d+ bad configuration", "Bad owner or permissions", r"line \d+: "
)


def from_stderr(target: SshTarget, text: str) -> BridgeError:
    """The error that ssh's standard error tells of, when it failed to log in. `text` is untrusted."""
    lines = [line for line in text.splitlines() if line.strip()]
    if _CHANGED.search(text):
        return host_key_changed(target, _fingerprint(text))
    for pattern, make in _RULES:
        # The last line that fits: what ended ssh stands below what only preceded it.
        for line in reversed(lines):
            if pattern.search(line):
                why = _fingerprint(text) if make is host_key_unknown else f"ssh: {line.removeprefix('ssh: ')}"
                return make(target, why)
    for line in lines:
        if _CONFIGURATION.search(line):
            return UsageError("ssh does not accept its configuration.", line, "Correct ~/.ssh/config.")
    why = f"ssh: {lines[-1]}" if lines else "ssh gave no reason."
    return TargetUnreachableError(f"ssh could not reach {target}.", why, f"Check with `{ssh_command(target)}`.")


def _fingerprint(text: str) -> str:
    found = re.search(r"SHA256:[A-Za-z0-9+/=]{20,60}", text)
    return found.group(0) if found else ""
