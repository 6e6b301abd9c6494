"""TARGET strings, well meant and hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbridge.bridge.errors import BridgeError, UsageError
from netbridge.bridge.transport import make_transport
from netbridge.bridge.transport.target import CodespaceTarget, ExecTarget, SandboxTarget, SshTarget, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ssh://host", SshTarget("host")),
        ("ssh://host/", SshTarget("host")),
        ("ssh://me@host", SshTarget("host", "me")),
        ("ssh://me@host.example.com:2222", SshTarget("host.example.com", "me", 2222)),
        ("ssh://cs.name-with-dash.main", SshTarget("cs.name-with-dash.main")),
        ("ssh://[fd00::1]", SshTarget("fd00::1")),
        ("ssh://me@[fe80::1%eth0]:22", SshTarget("fe80::1%eth0", "me", 22)),
        ("ssh://10.0.0.1:65535", SshTarget("10.0.0.1", None, 65535)),
        ("ssh://me@realm@host", SshTarget("host", "me@realm")),
        ("ssh://DOMAIN%5Cme@host", SshTarget("host", "DOMAIN\\me")),
        ("sandbox", SandboxTarget()),
        ("fluffy-space-train", CodespaceTarget("fluffy-space-train")),
        ("Fluffy räksmörgås", CodespaceTarget("Fluffy räksmörgås")),
        ("exec:sh", ExecTarget(("sh",))),
        ("exec:docker exec -i 'my box' sh", ExecTarget(("docker", "exec", "-i", "my box", "sh"))),
    ],
)
def test_good(text: str, target: object) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=x",
        "ssh://",
        "ssh:///",
        "ssh://-oProxyCommand=x",
        "ssh://-l@host",
        "ssh://me@-h",
        "ssh://@host",
        "ssh://host:",
        "ssh://host:0",
        "ssh://host:65536",
        "ssh://host:-1",
        "ssh://host:2x",
        "ssh://host:٢٢",
        "ssh://host:1:2",
        "ssh://fd00::1",
        "ssh://[fd00::1",
        "ssh://[host]",
        "ssh://[fd00::1]x",
        "ssh://ho st",
        "ssh://host;id",
        "ssh://$(id)",
        "ssh://%h",
        "ssh://a/b",
        "ssh://me`id`@host",
        "ssh://%2dl@host",
        "ssh://me%0a@host",
        "ssh://host\n",
        "ssh://host\x1b[2J",
        "ssh://ho\u200bst",
        "exec:",
        "exec: ",
        "exec:''",
        "exec:'unclosed",
        "exec:-x",
        "http://x",
        "user@host",
        "a:b",
        "./x",
        "x" * 5000,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert caught.value.what
    assert str(caught.value).isprintable()


@given(st.text(max_size=60) | st.from_regex(r"ssh://[^/]{0,30}(:[0-9]{0,6})?", fullmatch=True))
def test_whatever_is_accepted_is_harmless(text: str) -> None:
    try:
        target = parse_target(text)
    except UsageError:
        return
    if isinstance(target, SshTarget):
        for word in (target.host, target.user or "x"):
            assert not word.startswith("-")
            assert not set(word) & set(" ;|&$`'\"<>(){}*?!#~\n")
        assert target.port is None or 1 <= target.port <= 65535
        assert parse_target(f"ssh://{target}".replace("\\", "%5C")) == target


def test_text_form_brackets_ipv6() -> None:
    assert str(SshTarget("fd00::1", "me", 22)) == "me@[fd00::1]:22"


def test_transport_of_each_target() -> None:
    names = {
        "ssh://h": "OpenSshTransport",
        "exec:sh": "ExecTransport",
        "sandbox": "SandboxTransport",
        "fluffy": "CodespaceTransport",
    }
    for text, name in names.items():
        assert type(make_transport(text, ssh="openssh", log=print, interactive=False)).__name__ == name
    assert type(make_transport("ssh://h", ssh="asyncssh", log=print, interactive=False)).__name__ == "AsyncsshTransport"
    with pytest.raises(BridgeError, match="no SSH called"):
        make_transport("ssh://h", ssh="putty", log=print, interactive=False)


def test_without_an_ssh_program_asyncssh_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert type(make_transport("ssh://h", ssh=None, log=print, interactive=False)).__name__ == "AsyncsshTransport"
