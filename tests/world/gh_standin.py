#!/usr/bin/env -S python3 -I -S
"""A stand-in for `gh`, for tests without GitHub: its words, its exit codes and its tunnel, but no service behind it.

Its state is state.json in its own folder (tests/world/gh.py writes it); each call is noted in calls.jsonl. It keeps
the real one's habits: `ssh --stdio` needs `-c` and excludes `--config`, starts a stopped codespace, tells the
codespace the public part of the key named by `-i`, and ends with status 1 and `tunnel closed` even when all went
well. Where the real one would ask a question it waits for ever, unless it is told not to prompt and has nothing to
ask on.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
STATE = HERE / "state.json"
LOGIN = (
    "To get started with GitHub CLI, please run:  gh auth login\n"
    "Alternatively, populate the GH_TOKEN environment variable with a GitHub API authentication token."
)


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STATE.read_text())
    return found


def change(**values: Any) -> None:
    """Change fields of the state; whoever reads meanwhile sees the old or the new one."""
    with open(HERE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = {**load(), **values}
        new = HERE / "state.json.new"
        new.write_text(json.dumps(state))
        new.chmod(0o666)
        new.rename(STATE)


def fail(text: str, status: int = 1) -> NoReturn:
    sys.stderr.write(text + "\n")
    sys.exit(status)


def find(state: dict[str, Any], name: str) -> dict[str, Any]:
    for codespace in state["codespaces"]:
        if codespace["name"] == name:
            found: dict[str, Any] = codespace
            return found
    fail(
        f"getting full codespace details: HTTP 404: Not Found (https://api.github.com/user/codespaces/{name}"
        "?internal=true&refresh=true)"
    )


def start(name: str) -> None:
    """Start it when it is stopped, and wait until it runs."""
    state = load()
    if find(state, name)["state"] == "Available":
        return
    if state["start_fails"]:
        fail("error connecting to codespace: error starting codespace: HTTP 402: Payment Required")
    set_state(name, "Starting")
    time.sleep(state["start_seconds"])
    set_state(name, "Available")


def set_state(name: str, value: str) -> None:
    codespaces = load()["codespaces"]
    find({"codespaces": codespaces}, name)["state"] = value
    change(codespaces=codespaces)


def list_codespaces(words: list[str]) -> None:
    options = {words[place]: words[place + 1] for place in range(0, len(words), 2)}
    unknown = set(options) - {"--limit", "--json"}
    if unknown:
        fail(f"unknown flag: {min(unknown)}")
    wanted = options["--json"].split(",")
    found = load()["codespaces"][: int(options.get("--limit", "30"))]
    print(json.dumps([{key: codespace.get(key) for key in wanted} for codespace in found]))


def ssh(words: list[str]) -> None:
    cut = words.index("--") if "--" in words else len(words)
    words, rest = words[:cut], words[cut + 1 :]
    name = words[words.index("-c") + 1] if "-c" in words else ""
    if "--stdio" in words and not name:
        fail("`--stdio` requires explicit `--codespace`")
    if "--stdio" in words and "--config" in words:
        fail("cannot use `--stdio` with `--config`")
    start(name)
    if "--config" in words:
        configuration(name)
    elif "--stdio" in words:
        tunnel(Path(rest[rest.index("-i") + 1]))
    else:
        fail("this stand-in has no terminal")


def configuration(name: str) -> None:
    state = load()
    key = state["key"] or os.path.join(os.environ["HOME"], ".ssh", "codespaces.auto")
    print(f"""Host cs.{name}.{find(state, name)["gitStatus"]["ref"].replace("/", "-")}
\tUser {state["user"]}
\tProxyCommand {sys.argv[0]} cs ssh -c {name} --stdio -- -i {key}
\tUserKnownHostsFile=/dev/null
\tStrictHostKeyChecking no
\tLogLevel quiet
\tControlMaster auto
\tIdentityFile {key}
""")


def tunnel(key: Path) -> None:
    import socket  # the other commands are quicker without
    import threading

    state = load()
    time.sleep(state["tunnel_seconds"])
    try:
        public = key.with_name(key.name + ".pub").read_text()
    except OSError as error:
        fail(f"error getting ssh server details: failed to read public key file: {error}")
    if state["no_sshd"]:
        fail("error getting ssh server details: failed to start SSH server:\nPlease check if an SSH server is "
             "installed in the container.")
    with open(state["authorized_keys"], "a+") as keys:
        keys.seek(0)
        if public not in keys.read():
            keys.write(public)
    server = socket.create_connection((state["address"], state["port"]))

    def up() -> None:
        while True:
            data = os.read(0, 65536)
            if not data:
                break
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)

    threading.Thread(target=up, daemon=True).start()
    try:
        while True:
            data = server.recv(65536)
            if not data:
                break
            while data:
                data = data[os.write(1, data) :]
    except OSError:
        pass
    sys.stderr.write("tunnel closed: EOF\n")
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    words = sys.argv[1:]
    with open(HERE / "calls.jsonl", "a") as calls:
        fcntl.flock(calls, fcntl.LOCK_EX)
        note = {"words": words, "uid": os.getuid(), "home": os.environ.get("HOME"), "tty": os.isatty(0)}
        calls.write(json.dumps(note) + "\n")
    state = load()
    if words == ["--version"]:
        print(f"gh version {state['version']} (2024-10-30)\nhttps://github.com/cli/cli/releases")
        return
    if words[:1] in (["codespace"], ["cs"]):
        words = words[1:]
    else:
        fail(f'unknown command "{words[0]}" for "gh"')
    if state["asks"]:
        if os.isatty(0) or not os.environ.get("GH_PROMPT_DISABLED") or os.read(0, 1):
            time.sleep(3600)
        fail("choosing codespace: error getting answers: no terminal")
    if state["deaf"]:
        time.sleep(3600)
    if not state["logged_in"]:
        fail(LOGIN, 4)
    if state["fails"]:
        fail(state["fails"], state["status"])
    {"list": list_codespaces, "ssh": ssh}[words[0]](words[1:])


main()
