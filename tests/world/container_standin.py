#!/usr/bin/env -S python3 -I -S
"""A stand-in for `docker`, `kubectl` and `devpod`, by the name it is called: their words, their exit codes and their
streams, with a test (tests/world/containers.py) in place of the engine, the cluster and the provider.

Its state is state.json in its own folder; each call is noted in calls.jsonl. The words on both outputs and the exit
codes are those of docker 28, kubectl 1.32 and devpod 0.6; what docker says was compared with a real engine's.
As the real ones do, docker tells what fails inside the container on standard output, kubectl asks for a user name
where it knows none, and none of them ends the command that it started when it is itself ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import socket
import sys
import termios
import threading
import time
import tty
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
NAME = Path(sys.argv[0]).name


def fail(text: str, status: int = 1) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    os._exit(status)  # a thread may still read


def take(words: list[str], flags: dict[str, bool]) -> tuple[dict[str, str], list[str]]:
    """Options before the first other word, as both programs read them; `flags`: whether each takes a value."""
    found: dict[str, str] = {}
    while words and words[0].startswith("-") and words[0] != "--":
        word, words = words[0], words[1:]
        if word not in flags:
            fail(f"unknown flag: {word}" if word.startswith("--") else f"unknown shorthand flag in {word}", 125)
        found[word] = words.pop(0) if flags[word] else "yes"
    return found, words


def execute(place: str, argv: list[str], options: dict[str, str]) -> int:
    """Let the test run a command at a place; relay until it ends. Its exit status."""
    if "-it" in options:
        if not os.isatty(0):
            fail("the input device is not a TTY")
        ours, theirs = pty.openpty()
        descriptors = [theirs] * 3
    else:
        up, down = socket.socketpair(), socket.socketpair()
        ours, theirs = up[0].detach(), up[1].detach()
        descriptors = [theirs, down[1].fileno(), 2]
        if "-i" not in options:
            os.close(ours)
            ours = -1
    engine = socket.socket(socket.AF_UNIX)
    engine.connect(str(HERE / "engine.sock"))
    socket.send_fds(engine, [json.dumps({"place": place, "argv": argv}).encode()], descriptors)
    os.close(theirs)
    if "-it" in options:
        saved = termios.tcgetattr(0)
        tty.setraw(0)
        try:
            relay(ours, ours)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
    else:
        down[1].close()
        relay(ours, down[0].fileno())
    return int(engine.recv(16) or b"137")


def relay(up: int, down: int) -> None:
    """Carry bytes both ways until the command's output ends; end when none came either way for idle_seconds."""
    idle = load()["idle_seconds"] or float("inf")
    last = time.monotonic()

    def carry_up() -> None:
        nonlocal last
        while data := os.read(0, 65536):
            last = time.monotonic()
            write(up, data)
        socket.socket(fileno=os.dup(up)).shutdown(socket.SHUT_WR)

    if up >= 0:
        threading.Thread(target=carry_up, daemon=True).start()
    while True:
        left = last + idle - time.monotonic()
        if left <= 0:
            note(dropped=True)
            fail("error: unexpected EOF" if NAME == "kubectl" else "unexpected EOF")
        if not select.select([down], [], [], None if left == float("inf") else left)[0]:
            continue
        try:
            data = os.read(down, 65536)
        except OSError:  # the last one let go of the terminal
            return
        if not data:
            return
        last = time.monotonic()
        write(1, data)


def write(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BrokenPipeError:
            return


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "state.json").read_text())
    return found


def note(**what: Any) -> None:
    with open(HERE / "calls.jsonl", "a") as calls:
        fcntl.flock(calls, fcntl.LOCK_EX)
        calls.write(json.dumps({"program": NAME, **what}) + "\n")


def shell_is_missing(place: dict[str, Any], argv: list[str]) -> str:
    if place.get("shell", True) or argv[0] != "sh":
        return ""
    return (
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "sh": executable file not found'
        " in $PATH: unknown"
    )


def docker(words: list[str]) -> int:
    if words[:1] != ["exec"]:
        fail(f"docker: '{words[0]}' is not a docker command.\nSee 'docker --help'")
    options, (name, *argv) = take(words[1:], {"-i": False, "-it": False, "-u": True})
    container = load()["containers"].get(name)
    if container is None:
        fail(f"Error response from daemon: No such container: {name}")
    if container["state"] == "exited":
        fail(f"Error response from daemon: container {'c5f0' * 16} is not running")
    if container["state"] == "paused":
        fail(f"Error response from daemon: Container {name} is paused, unpause the container before exec")
    if text := shell_is_missing(container, argv):
        print(text)
        return 127
    return execute(name, argv, options)


def kubectl(words: list[str]) -> int:
    state = load()
    if words == ["config", "get-contexts", "-o", "name"]:
        print("".join(f"{context}\n" for context in state["contexts"]), end="")
        return 0
    options, words = take(words, {"--context": True})
    context = options.get("--context")
    if context is not None and context not in state["contexts"]:
        fail(f'error: context "{context}" does not exist')
    if words[:1] != ["exec"]:
        fail(f'error: unknown command "{words[0]}" for "kubectl"')
    flags = {"-i": False, "-it": False, "-n": True, "-c": True}
    options, (name, *words) = take(words[1:], flags)
    more, words = take(words, flags)
    options.update(more)
    if words[:1] != ["--"]:
        fail("error: exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead")
    if state["asks"]:
        sys.stdout.write("Please enter Username: ")
        sys.stdout.flush()
        os.read(0, 65536)
        sys.stdout.write("Please enter Password: ")
        fail("error: error reading input for Password")
    namespace = options.get("-n", "default")
    pod = state["pods"].get(f"{context or ''}/{namespace}/{name}")
    if pod is None:
        fail(f'Error from server (NotFound): pods "{name}" not found')
    container = options.get("-c", pod["containers"][0])
    if container not in pod["containers"]:
        fail(f"Error from server (BadRequest): container {container} is not valid for pod {name}")
    if pod.get("phase", "Running") != "Running":
        fail(f"error: cannot exec into a container in a completed pod; current phase is {pod['phase']}")
    if "-c" not in options and len(pod["containers"]) > 1:
        sys.stderr.write(f'Defaulted container "{container}" out of: {", ".join(pod["containers"])}\n')
    if text := shell_is_missing(pod, words[1:]):
        fail(f"error: Internal error occurred: error executing command in container: {text}")
    status = execute(pod["place"], words[1:], options)
    if status:
        sys.stderr.write(f"command terminated with exit code {status}\n")
    return status


def devpod(words: list[str]) -> int:
    if words[:1] != ["ssh"]:
        fail(f'fatal unknown command "{words[0]}" for "devpod"')
    _options, (name, *_) = take(words[1:], {"--stdio": False, "--user": True})
    workspace = load()["workspaces"].get(name)
    if workspace is None:
        fail(f"[03:14:15] fatal workspace {name} doesn't exist")
    if workspace["state"] == "Stopped":
        fail("[03:14:15] fatal DevPod workspace is stopped")
    if workspace["state"] == "NotFound":
        fail("[03:14:15] fatal DevPod workspace wasn't found")
    server = socket.create_connection((workspace["address"], workspace["port"]))
    relay(server.fileno(), server.fileno())
    return 0


def main() -> None:
    note(words=sys.argv[1:], uid=os.getuid(), home=os.environ.get("HOME"), tty=os.isatty(0))
    said = load()["says"].get(NAME)
    if said is not None and sys.argv[1:2] != ["config"]:
        time.sleep(said.get("seconds", 0))
        sys.stdout.write(said.get("out", ""))
        sys.stdout.flush()
        fail(said.get("err", ""), said.get("status", 1))
    status = {"docker": docker, "kubectl": kubectl, "devpod": devpod}[NAME](sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # a thread may still read


main()
