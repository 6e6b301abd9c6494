"""The real gh, as far as it goes without GitHub: its options, its words and its exit codes are those we count on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbridge.bridge.errors import BridgeError, NotPermittedError, TargetUnreachableError
from netbridge.bridge.transport import gh_errors
from netbridge.bridge.transport.gh import Gh
from netbridge.bridge.transport.gh_codespace import Codespace

from .gh_api import Api, codespace
from .server import free_port

NAME = "mona-fluffy-robot-7x9"
SCOPES = {"X-OAuth-Scopes": "repo", "X-Accepted-OAuth-Scopes": "codespace"}

pytestmark = pytest.mark.skipif(not shutil.which("gh"), reason="needs gh (Debian package gh)")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    with Api() as api:
        for name in ("GITHUB_TOKEN", "SUDO_UID", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {
            "GITHUB_API_URL": api.url, "GH_TOKEN": "a-token", "HOME": str(tmp_path), "GH_CONFIG_DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        yield api


async def failure() -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await Gh().codespaces()
    assert str(caught.value).isprintable()
    return caught.value


async def test_the_list(api: Api) -> None:
    api.answers.codespaces = [codespace(NAME, "fluffy robot", "Shutdown"), codespace("b", "", "Available")]
    other, found = await Gh().codespaces()
    assert (other.name, other.running) == ("b", True)
    assert found == Codespace(
        name=NAME, display_name="fluffy robot", owner="mona", repository="mona/app", branch="main*",
        state="Shutdown", created_at="2026-11-01T10:00:00Z", last_used_at="2026-11-10T10:00:00Z",
        machine="basicLinux32gb",
    )  # fmt: skip


async def test_an_account_without_codespaces(api: Api) -> None:
    assert await Gh().codespaces() == []


async def test_not_logged_in(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GH_TOKEN")
    error = await failure()
    assert isinstance(error, NotPermittedError)
    assert (error.what, error.todo) == ("gh is not logged in.", "Run `gh auth login -s codespace`.")
    assert not api.answers.asked


async def test_a_login_that_github_does_not_know_any_more(api: Api) -> None:
    api.answers.status, api.answers.message = 401, "Bad credentials"
    error = await failure()
    assert isinstance(error, NotPermittedError)
    assert error.what == "gh is not logged in."
    assert "HTTP 401: Bad credentials" in error.why


@pytest.mark.parametrize(("status", "message"), [(403, "Must have admin rights to Repository."), (404, "Not Found")])
async def test_a_login_without_the_scope(api: Api, status: int, message: str) -> None:
    api.answers.status, api.answers.message, api.answers.headers = status, message, SCOPES
    error = await failure()
    assert isinstance(error, NotPermittedError)
    assert error.why == "It lacks the scope `codespace`."
    assert "gh auth refresh -h github.com -s codespace" in error.todo


async def test_an_organisation_that_wants_single_sign_on(api: Api) -> None:
    api.answers.status, api.answers.message = 403, "Resource protected by organization SAML enforcement."
    error = await failure()
    assert isinstance(error, NotPermittedError)
    assert "SAML" in error.why


@pytest.mark.parametrize(("status", "message"), [
    (403, "API rate limit exceeded for user ID 1."), (429, "Too many requests"), (503, "Service Unavailable"),
])
async def test_a_service_that_does_not_want_now(api: Api, status: int, message: str) -> None:
    api.answers.status, api.answers.message = status, message
    assert isinstance(await failure(), TargetUnreachableError)


async def test_no_way_to_github(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", f"http://127.0.0.1:{free_port()}")
    error = await failure()
    assert isinstance(error, TargetUnreachableError)
    assert error.what == "GitHub is not reachable through gh."
    assert "connection refused" in error.why


@pytest.mark.parametrize("words", [
    ("codespace", "ssh", "--config", "-c", NAME),
    ("codespace", "ssh", "-c", NAME, "--stdio", "--", "-i", "/nowhere/key"),
])
async def test_its_ssh_takes_our_options_and_asks_for_the_name(api: Api, words: tuple[str, ...]) -> None:
    gh = Gh()
    await gh.check()
    answer = await gh.ask(*words, patience=30)
    assert answer.status == 1
    assert api.answers.asked[0].startswith(f"/user/codespaces/{NAME}?")
    error = gh_errors.explain(gh.user, f"the codespace {NAME}", answer.status, answer.stderr)
    assert isinstance(error, TargetUnreachableError)
    assert error.what == f"GitHub does not know the codespace {NAME}."


async def test_what_the_options_exclude(api: Api) -> None:
    """The stand-in (tests/world/gh_standin.py) says the same words."""
    gh = Gh()
    await gh.check()
    for words, said in (  # one call each: they need no service
        (("--stdio",), "`--stdio` requires explicit `--codespace`"),
        (("--stdio", "--config", "-c", NAME), "cannot use `--stdio` with `--config`"),
        (("--no-such-option",), "unknown flag: --no-such-option"),
    ):
        answer = await gh.ask("codespace", "ssh", *words, patience=30)
        assert answer.status == 1
        assert said in answer.stderr
    assert not api.answers.asked


async def test_where_it_would_ask_it_ends(api: Api) -> None:
    """Without a name it wants one to be chosen from a list; the stand-in says the same words."""
    api.answers.codespaces = [codespace("a", "", "Available"), codespace("b", "", "Available")]
    gh = Gh()
    await gh.check()
    answer = await gh.ask("codespace", "select", patience=30)
    assert (answer.status, answer.stderr) == (1, "choosing codespace: error getting answers: no terminal")
    error = gh_errors.explain(gh.user, "the list", answer.status, answer.stderr)
    assert error.what == "gh wants to ask something, and nobody can answer it here."


async def test_auth_status_asks_nothing_either(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not used (`codespace list` says the same and costs no further turn); who is told to run it may."""
    monkeypatch.delenv("GH_TOKEN")
    gh = Gh()
    await gh.check()
    answer = await gh.ask("auth", "status", patience=30)
    assert answer.status == 1
    assert "gh auth login" in answer.stderr
