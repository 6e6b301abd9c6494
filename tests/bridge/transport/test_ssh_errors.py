"""What ssh says, in its versions and on its systems, and what the user is told."""

from __future__ import annotations

import pytest

from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetUnreachableError, UsageError
from netbridge.bridge.transport import ssh_errors
from netbridge.bridge.transport.ciphers import preferred
from netbridge.bridge.transport.ssh_errors import from_stderr
from netbridge.bridge.transport.target import SshTarget

TARGET = SshTarget("box", "me", 2222)
FINGERPRINT = "SHA256:" + "a1B2" * 10 + "xyz"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("ssh: Could not resolve hostname box: Name or service not known", TargetUnreachableError, "no host box"),
        (
            "ssh: Could not resolve hostname box: nodename nor servname provided, or not known",
            TargetUnreachableError,
            "no host box",
        ),
        ("ssh: connect to host box port 2222: Connection refused", TargetUnreachableError, "does not accept"),
        ("ssh: connect to host box port 2222: Connection timed out", TargetUnreachableError, "does not answer"),
        ("ssh: connect to host box port 2222: Operation timed out", TargetUnreachableError, "does not answer"),
        ("ssh: connect to host box port 2222: No route to host", TargetUnreachableError, "does not answer"),
        ("Connection timed out during banner exchange", TargetUnreachableError, "does not answer"),
        (
            "No ED25519 host key is known for box and you\nHost key verification failed.",
            NotPermittedError,
            "is not known",
        ),
        (
            f"@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n{FINGERPRINT}.\nHost key verification failed.",
            NotPermittedError,
            "is not the one",
        ),
        ("me@box: Permission denied (publickey,password).", NotPermittedError, "does not let you in"),
        (
            "Received disconnect from ::1 port 22:2: Too many authentication failures",
            NotPermittedError,
            "does not let you in",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by ::1 port 22",
            TargetUnreachableError,
            "closed the connection",
        ),
        (
            "Unable to negotiate with ::1 port 22: no matching host key type found. Their offer: ssh-dss",
            TargetUnreachableError,
            "closed the connection",
        ),
        (
            "/home/me/.ssh/config: line 3: Bad configuration option: foo\nterminating, 1 bad configuration options",
            UsageError,
            "configuration",
        ),
        ("Bad owner or permissions on /home/me/.ssh/config", UsageError, "configuration"),
        ("something never heard of", TargetUnreachableError, "something never heard of"),
        ("", TargetUnreachableError, "could not reach"),
    ],
)
def test_stderr(text: str, kind: type[BridgeError], words: str) -> None:
    error = from_stderr(TARGET, text)
    assert type(error) is kind
    assert words in str(error)
    assert error.todo


def test_the_line_that_ended_ssh_is_the_one_quoted() -> None:
    error = from_stderr(TARGET, "mux: Permission denied earlier\nWarning: x\nme@box: Permission denied (publickey).")
    assert error.why == "ssh: me@box: Permission denied (publickey)."


def test_fingerprint_and_commands_are_told() -> None:
    error = from_stderr(TARGET, f"REMOTE HOST IDENTIFICATION HAS CHANGED\n{FINGERPRINT}.")
    assert FINGERPRINT in error.why
    assert "ssh-keygen -R '[box]:2222'" in error.todo
    assert "`ssh -p 2222 me@box`" in error.todo
    assert "ssh-keygen -R 'box'" in ssh_errors.host_key_changed(SshTarget("box")).todo


def test_ciphers_are_only_reordered() -> None:
    default = ["chacha20-poly1305@openssh.com", "aes128-ctr", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]
    assert preferred(default, aes=True) == [
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
    ]
    assert preferred(default, aes=False) == default
    assert preferred(["aes256-ctr"], aes=True) == ["aes256-ctr"]
