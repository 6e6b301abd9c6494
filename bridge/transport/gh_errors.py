"""From what `gh` says to what the user should do.

gh tells by its exit status only that it is not logged in (4) or was cancelled (2); everything else is 1, also the
end of a tunnel that ended in peace. So its words are read. They come in part from the service and from the codespace
and are untrusted.
"""

from __future__ import annotations

import re

from ..errors import BridgeError, NotPermittedError, TargetLacksError, TargetUnreachableError
from ..user import User
from .words import MAX_TEXT, any_of, path_of

NEEDED = (2, 13, 0)
"""The first gh whose `ssh --config` names the key that it makes itself (~/.ssh/codespaces.auto)."""
CANCELLED, NOT_LOGGED_IN = 2, 4
"""gh's exit statuses (gh help exit-codes)."""
TUNNEL_CLOSED = "tunnel closed"
"""How every `ssh --stdio` ends, with status 1, whatever the reason."""
SSHD_FEATURE = '"features": {"ghcr.io/devcontainers/features/sshd:1": {}}'


def version_text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def missing(user: User) -> BridgeError:
    return TargetLacksError(
        "There is no gh program on this machine.", f"Codespaces are reached through it, and {path_of(user)} lacks it.",
        f"Install GitHub's command line, version {version_text(NEEDED)} or newer (https://cli.github.com), then run"
        " `gh auth login -s codespace`.",
    )


def too_old(found: str) -> BridgeError:
    return TargetLacksError(
        "gh is too old to reach codespaces.", f"This is {found}; {version_text(NEEDED)} is needed.",
        "Install a newer one (https://cli.github.com).",
    )


def not_logged_in(user: User, why: str = "") -> BridgeError:
    return NotPermittedError(
        "gh is not logged in.", why or "It knows no account on GitHub.", f"Run `gh auth login -s codespace`{_as(user)}."
    )


def lacks_scope(user: User) -> BridgeError:
    return NotPermittedError(
        "gh's login may not use codespaces.", "It lacks the scope `codespace`.",
        f"Run `gh auth refresh -h github.com -s codespace`{_as(user)}; a token in GH_TOKEN or GITHUB_TOKEN must be made"
        " with that scope.",
    )


def not_let_in(label: str, why: str = "") -> BridgeError:
    return NotPermittedError(
        f"The SSH server of {label} does not let you in.", why,
        "See whether `gh codespace ssh` does; if not, remove ~/.ssh/codespaces.auto and try again.",
    )


def silent(words: str, seconds: float) -> BridgeError:
    return TargetUnreachableError(
        f"`gh {words}` did not end within {seconds:g} s.", "It may wait for GitHub, or for an answer nobody can give.",
        f"Run `gh {words}` by hand and see what it waits for.",
    )


def lost(label: str, why: str = "") -> BridgeError:
    """The tunnel ended under a running bridge."""
    return TargetUnreachableError(
        f"The tunnel to {label} ended.", why or "gh closed it without a word.",
        "See with `netbridge list` whether it still runs (a codespace stops when idle), and start the bridge again.",
    )


def _as(user: User) -> str:
    return f" as {user.name}, without sudo" if user.differs else ""


_TOO_OLD = any_of("unknown flag", "unknown shorthand flag", "unknown command", "unknown json field")
_SCOPE = any_of(r"needs the \"codespace\" scope", r"-s codespace\b", "missing required scope.*codespace")
_LOGIN = any_of("gh auth login", "HTTP 401", "bad credentials")
_CREDENTIALS = any_of("HTTP 401", "bad credentials")
_BUSY = any_of("rate limit", "HTTP 429")
_UNPAID = any_of("HTTP 402", "payment required", "spending limit")
_REFUSED = any_of("HTTP 403", "SAML")
_NOT_FOUND = any_of("HTTP 404", "codespace not found")
_NO_NETWORK = any_of(
    "dial tcp", "no such host", "connection refused", "i/o timeout", "network is unreachable",
    "error connecting to (?!codespace)", "TLS handshake", "x509:", "HTTP 5[0-9][0-9]", "deadline exceeded",
    "timed? ?out",
)  # fmt: skip
_NO_SSHD = any_of("ssh server details", "start ssh server", "ssh server.*not", "check if an ssh server is installed")
_QUESTION = any_of("no terminal", "error getting answers", "prompt", "interactive", "not a terminal")
_PERMISSION = any_of(r"permission denied \(", "too many authentication failures")


def explain(user: User, label: str, status: int | None, text: str) -> BridgeError:
    """Why gh (or ssh over it) failed. `label` names what was asked for; `text` is its standard error, untrusted."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]

    def said(pattern: re.Pattern[str]) -> str:
        line = next((line for line in reversed(lines) if pattern.search(line)), "")
        return f"gh says: {line[:MAX_TEXT]}"

    if _TOO_OLD.search(text):
        return too_old(f"one that says: {said(_TOO_OLD).removeprefix('gh says: ')}")
    # Before 404 and 403: to a token without the scope GitHub denies that the codespace exists.
    if _SCOPE.search(text):
        return lacks_scope(user)
    if status == NOT_LOGGED_IN or _LOGIN.search(text):
        return not_logged_in(user, said(_CREDENTIALS) if _CREDENTIALS.search(text) else "")
    if _BUSY.search(text):
        return TargetUnreachableError("GitHub wants to be asked less often.", said(_BUSY), "Wait some minutes.")
    if _UNPAID.search(text):
        return NotPermittedError(
            f"GitHub does not start {label}.", said(_UNPAID),
            "What codespaces may cost is set on https://github.com/settings/billing (or by the organisation).",
        )
    if _REFUSED.search(text):
        return NotPermittedError(
            f"GitHub does not let gh use {label}.", said(_REFUSED),
            f"See `gh auth status`{_as(user)}; an organisation with single sign-on must have authorised the login.",
        )
    if _NOT_FOUND.search(text):
        return TargetUnreachableError(f"GitHub does not know {label}.", said(_NOT_FOUND), "See `netbridge list`.")
    if _NO_SSHD.search(text):
        return TargetLacksError(
            f"In {label} no SSH server could be started.", said(_NO_SSHD),
            f"Add {SSHD_FEATURE} to devcontainer.json and rebuild the codespace.",
        )
    if _PERMISSION.search(text):
        return not_let_in(label, said(_PERMISSION).removeprefix("gh says: "))
    if _NO_NETWORK.search(text):
        return TargetUnreachableError(
            "GitHub is not reachable through gh.", said(_NO_NETWORK), "Check the network, the VPN and HTTPS_PROXY."
        )
    if _QUESTION.search(text):
        return BridgeError(
            "gh wants to ask something, and nobody can answer it here.", said(_QUESTION),
            "Run `gh codespace list` on a terminal, answer, and try again.",
        )
    last = f"gh says: {lines[-1][:MAX_TEXT]}" if lines else "It gave no reason."
    if status == CANCELLED:
        return BridgeError("gh was cancelled.", last, "Try again.")
    if TUNNEL_CLOSED in text:
        return TargetUnreachableError(
            f"The tunnel to {label} was closed before the login was complete.", said(any_of(TUNNEL_CLOSED)),
            "See with `netbridge list` whether it runs, and try again.",
        )
    return TargetUnreachableError(
        f"{label[:1].upper()}{label[1:]} could not be reached through gh.", last,
        "See what `gh codespace list` and `gh codespace ssh` say.",
    )
