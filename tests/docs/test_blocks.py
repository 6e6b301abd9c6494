"""Every block of the documentation is marked, and what it shows is so: parsed, read or run."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from netbridge.bridge.back.places import parse_forward, parse_listen
from netbridge.bridge.joint.place import parse as parse_place
from netbridge.bridge.options import Options, key_of
from netbridge.bridge.transport.target import parse_target
from netbridge.bridge.user import helper_user
from netbridge.cli.program import app
from netbridge.cli.service_job import job
from netbridge.cli.up import gathered, joined

from .blocks import COMMANDS, DATA, MARKS, ROOT, Block, blocks, documents, marked

OTHERS = {"docker", "kubectl"}
"""Programs of others in blocks that are only parsed; whose words they are is not ours to test."""


def of_language(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


def test_every_block_is_marked() -> None:
    wrong = []
    for block in blocks():
        if block.language in COMMANDS:
            if block.mark not in MARKS or (block.mark == "parsed") != bool(block.why):
                wrong.append(f"{block}: says not how it is tested, or not why it is only parsed")
        elif block.language not in DATA or block.mark:
            wrong.append(f"{block}: {block.language or 'no language'} {block.mark}")
    assert not wrong, "\n".join(wrong)
    assert len(marked("world")) >= 10


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command, those joined by && and | apart; sudo, variables and redirections left out."""
    for step in block.steps():
        words: list[str] = []
        splitter = shlex.shlex(step.command, posix=True, punctuation_chars="|&;<>")
        splitter.whitespace_split = True
        for word in [*splitter, ";"]:
            if word not in {"&&", "||", "|", ";", ">", "<", "&"}:
                words.append(word)
                continue
            while words and (words[0] in {"sudo", "exec"} or re.match(r"\w+=", words[0])):
                words.pop(0)
            if words:
                yield words
            words = []
            if word in {">", "<"}:
                words = ["true"]


def parse_netbridge(words: list[str]) -> None:
    """Raise what netbridge would for words that it does not understand; nothing is begun."""
    command: tuple[str, ...] = ()
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], tuple(words[cut + 1:])
    function, bound, unparsed = app.parse_args(joined(words), exit_on_error=False, print_error=False)
    name = getattr(function, "__name__", "")
    assert not command or "command" in unparsed, f"{name} takes no COMMAND"
    if name == "up":
        given = {key: value for key, value in bound.arguments.items() if key != "command"}
        if target := gathered(given, helper_user(), command=command).target:
            parse_target(target)
    elif name == "forward":
        for place in bound.arguments["places"]:
            parse_forward(place)
    elif name == "socks" and "listen" in bound.arguments:
        parse_listen(bound.arguments["listen"])
    elif name == "listen" or (name == "connect" and "place" in bound.arguments):
        parse_place(bound.arguments["place"], "listen" if name == "listen" else "connect")
    elif name == "install" and "words" in inspect.signature(function).parameters:
        job(bound.arguments["words"], helper_user())


def parse_gh(words: list[str]) -> None:
    """The real gh knows the command and its options."""
    if not shutil.which("gh"):
        pytest.skip("the program gh is missing: scripts/system-packages test")
    named = [word for word in words if not word.startswith("-")][:2]
    told = subprocess.run(["gh", *named, "--help"], capture_output=True, text=True, check=True, timeout=20).stdout
    assert f"gh {' '.join(named)}" in told, told
    for word in words:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", told), f"gh {named} knows no {word}"


@pytest.mark.parametrize("block", marked("parsed"), ids=str)
def test_what_cannot_be_run_here_is_understood(block: Block) -> None:
    for words in commands(block):
        if words[0] in {"netbridge", ".venv/bin/netbridge"}:
            parse_netbridge(words[1:])
        elif words[0] == "gh":
            parse_gh(words[1:])
        else:
            assert words[0] in OTHERS, f"nobody knows how to test {words[0]}"


@pytest.mark.parametrize("block", marked("make"), ids=str)
def test_verbs_exist(block: Block) -> None:
    for words in commands(block):
        assert words[0] == "make"
        subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True, timeout=20)


@pytest.mark.parametrize("block", marked("here"), ids=str)
def test_what_needs_no_other_machine_is_run(block: Block, tmp_path: Path) -> None:
    program = tmp_path / "bin/netbridge"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m netbridge \"$@\"\n")
    program.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NETBRIDGE_", "SUDO_"))}
    environment |= {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"), "NETBRIDGE_RUNTIME_DIR": str(tmp_path / "run"), "COLUMNS": "120",
    }
    for step in block.steps():
        done = subprocess.run(
            ["sh", "-c", f"exec 2>&1; {step.command}"], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{step.command}\n{done.stdout}"
        assert step.expected is None or step.pattern().fullmatch(done.stdout), f"{step.command}\n{done.stdout}"


@pytest.mark.parametrize("block", of_language("toml"), ids=str)
def test_settings_are_settings(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(block.text)
    assert Options.gather({}, {}, config=file) != Options()
    shown = [re.match(r"(?:# )?(\[\w+\]$|[\w-]+ = .*)", line) for line in block.lines]
    file.write_text("\n".join(line[1] for line in shown if line))
    Options.gather({}, {}, config=file)  # those that are commented out, too


def test_the_example_has_every_setting() -> None:
    """And shows the default of each that it does not set."""
    (block,) = (block for block in of_language("toml") if block.file == "docs/settings.md")
    lines = [re.match(r"(?:# )?([\w-]+) = (.*?)(?:\s+#.*)?$", line) for line in block.lines]
    named = {found[1]: found[2] for found in lines if found}
    commented = {found[1] for line in block.lines if (found := re.match(r"# ([\w-]+) = ", line))}
    known = {key_of(item): item for item in dataclasses.fields(Options) if "convert" in item.metadata}
    missing = set(known) - set(named) - {"limits", "gui", "pcap"}
    assert not missing, missing
    for key in commented - {"mtu"}:  # whose default is chosen over there
        value = known[key].metadata["convert"](tomllib.loads(f"value = {named[key]}")["value"])
        assert value == known[key].default, key


@pytest.mark.parametrize("block", [*of_language("json"), *of_language("yaml")], ids=str)
def test_other_files_are_whole(block: Block) -> None:
    assert isinstance(json.loads(block.text) if block.language == "json" else yaml.safe_load(block.text), dict)


DEVICE = "192.168.1.1"
"""On the local network of whoever reads. A program that names it is run where there is such a device."""


@pytest.mark.parametrize("block", [it for it in of_language("python") if DEVICE not in it.text], ids=str)
def test_programs_run(block: Block) -> None:
    runs(block, sys.executable)


@pytest.mark.net
@pytest.mark.parametrize("block", [it for it in of_language("python") if DEVICE in it.text], ids=str)
def test_programs_that_reach_a_device_run(block: Block, tmp_path: Path) -> None:
    """In a network namespace whose own address that is, with a web server on it."""
    (tmp_path / "index.html").write_text("the device")
    script = (
        f"ip link set lo up; ip addr add {DEVICE}/24 dev lo\n"
        f"{sys.executable} -m http.server 80 --bind {DEVICE} --directory {tmp_path} >{tmp_path}/log 2>&1 & server=$!\n"
        f"until (exec 3<>/dev/tcp/{DEVICE}/80) 2>/dev/null; do kill -0 $server || exit 99; sleep 0.05; done\n"
        f'{sys.executable} "$@"; status=$?; kill $server; exit $status'
    )
    runs(block, "unshare", "--net", "bash", "-c", script, "program")


def runs(block: Block, *how: str) -> None:
    """Run a program, and compare what it prints with what is said behind each `print`."""
    done = subprocess.run(
        [*how, "-W", "error", "-c", block.text], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    shown = [line.partition("# ")[2] for line in block.lines if "print(" in line]
    for line, expected in zip(done.stdout.splitlines(), shown, strict=True):
        assert re.fullmatch(".*".join(re.escape(part) for part in expected.split("…")), line), (line, expected)


def test_the_readme_is_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 126


def test_pages_that_are_named_exist() -> None:
    """Links in the README are no part of the site, whose own are checked by `make docs`."""
    missing = [
        name for name in re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / "README.md").read_text())
        if not (ROOT / name).exists()
    ]
    assert not missing


def test_pictures_say_what_they_show() -> None:
    for path in documents():
        for alternative, _name in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text()):
            assert len(alternative) > 20, f"{path.name}: who cannot see it is told nothing"
