"""The real UI of a real bridge in a real terminal (tmux, with a shell and its job control): how it comes, how it goes,
and that the bridge does not mind.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import Machine, wait_until
from tests.cli.tmux import Tmux

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is missing (scripts/system-packages test)"),
]
NETBRIDGE = (sys.executable, "-m", "netbridge")
SHOWN = "q stop"
"""In the last line of the UI."""


@pytest.fixture(name="machine")
def own_machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine
        wait_until(lambda: not machine.pids(), "the end of all that was started")


@pytest.fixture(name="place")
def exec_target(tmp_path: Path) -> str:
    """A shell in namespaces of its own, with a resolv.conf of its own."""
    script = tmp_path / "place.sh"
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    script.write_text(f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec sh\n")
    return f"exec:unshare --net --mount --propagation private sh {script}"


@pytest.fixture(name="tmux")
def terminal(machine: Machine) -> Iterator[Tmux]:
    with Tmux(machine.words()[:-1], machine.folder, machine.environment) as tmux:
        tmux.until("shell>")
        yield tmux


def processes(machine: Machine, words: str) -> list[int]:
    """Processes of this machine that were started with these words."""
    found = []
    for pid in machine.pids():
        try:
            if words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                found.append(pid)
        except OSError:
            continue
    return found


def the_ui(machine: Machine) -> int:
    (pid,) = processes(machine, "netbridge.cli.ui")
    return pid


def start(tmux: Tmux, place: str, *options: str) -> None:
    tmux.run(*NETBRIDGE, "up", place, *options)
    tmux.until(SHOWN, "running")


def test_up_shows_it_with_flows_and_names_and_q_stops_the_bridge(machine: Machine, tmux: Tmux, place: str) -> None:
    tmux.run(*NETBRIDGE, "up", place)
    tmux.until("reaching the target")
    tmux.until(SHOWN, "● running", "LOG", "ready")
    with machine.web_server() as url:
        done = subprocess.run(
            ["nsenter", "-t", str(inside(place)), "-n", "-m", "curl", "-sS", "-m", "5", url],
            capture_output=True, text=True, check=False,
        )
        assert done.stdout == "hello\n", done.stderr
        screen = tmux.until("10.88.0.1:", "closed")
    assert re.search(r"tcp  :\d+ +10\.88\.0\.1:\d+ +closed", screen), screen
    tmux.press("q")
    screen = tmux.until("shell>", "stopped after")
    assert "stopping: q was pressed" in screen
    assert tmux.value("#{alternate_on}") == "0"
    assert tmux.value("#{cursor_flag}") == "1"
    assert machine.status() == []
    tmux.run("stty", "-a")
    assert " echo " in tmux.until("-brkint", "icanon")


def inside(place: str) -> int:
    """A process in the target's namespaces."""
    folder = Path(place.rsplit(maxsplit=1)[-1]).parent
    mounted = f"{folder.parent.name}/{folder.name}/resolv.conf /etc/resolv.conf"
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if mounted in Path(f"/proc/{name}/mountinfo").read_text():
                return int(name)
        except OSError:
            continue
    raise AssertionError("nothing runs over there")


def test_detached_the_bridge_tells_by_lines_and_u_shows_it_again(machine: Machine, tmux: Tmux, place: str) -> None:
    start(tmux, place)
    tmux.press("d")
    tmux.until("u shows the terminal UI")
    assert machine.status()[0]["state"] == "running"
    tmux.press("u")
    tmux.until(SHOWN, "● running")
    tmux.press("C-c")
    tmux.until("stopped after", "shell>")


def test_a_ui_that_is_killed_leaves_the_terminal_usable_and_the_bridge_running(
    machine: Machine, tmux: Tmux, place: str,
) -> None:
    start(tmux, place)
    os.kill(the_ui(machine), signal.SIGKILL)
    screen = tmux.until("the terminal UI ended with SIGKILL; the bridge goes on")
    assert "NAT" not in screen
    assert (tmux.value("#{alternate_on}"), tmux.value("#{cursor_flag}")) == ("0", "1")
    assert tmux.value("#{mouse_any_flag}#{mouse_button_flag}#{mouse_sgr_flag}") == "000"
    tmux.press("q")
    tmux.until("stopped after", "shell>")


def test_suspended_and_continued_it_is_drawn_anew(machine: Machine, tmux: Tmux, place: str) -> None:
    start(tmux, place)
    tmux.press("C-z")
    tmux.until("Stopped", "shell>")
    assert tmux.value("#{alternate_on}") == "0"
    tmux.run("fg")
    tmux.until(SHOWN, "● running")
    tmux.press("q")
    tmux.until("stopped after", "shell>")


def test_in_the_background_the_bridge_runs_without_its_ui(machine: Machine, tmux: Tmux, place: str) -> None:
    start(tmux, place)
    tmux.press("C-z")
    tmux.until("Stopped", "shell>")
    tmux.run("bg")
    wait_until(lambda: machine.status()[0]["state"] == "running", "the bridge in the background")
    tmux.run("echo", "the shell has the terminal")
    tmux.until("\nthe shell has the terminal")
    tmux.run("fg")
    tmux.until(SHOWN, "● running")
    tmux.press("q")
    tmux.until("stopped after", "shell>")


def test_it_follows_the_size_of_its_window(tmux: Tmux, place: str) -> None:
    """Whatever size the shell has exported."""
    tmux.run("export", "COLUMNS=80", "LINES=24")
    start(tmux, place)
    assert "IDLE" not in tmux.screen
    tmux.resize(140, 40)
    screen = tmux.until("IDLE", "ADDRESS", "AGO")
    assert len(screen.splitlines()) == 40
    tmux.resize(50, 12)
    tmux.until("IDLE", gone=True)
    tmux.press("q")
    tmux.until("stopped after")


def test_an_end_from_elsewhere_ends_it_too(machine: Machine, tmux: Tmux, place: str) -> None:
    start(tmux, place)
    done = machine.netbridge("down")
    assert done.returncode == 0, done.stderr
    tmux.until("stopped after", "asked by netbridge down", "shell>")


def test_a_bridge_that_is_killed_leaves_no_ui_and_a_usable_terminal(machine: Machine, tmux: Tmux, place: str) -> None:
    start(tmux, place, "--grace", "1")
    os.kill(machine.status()[0]["pid"], signal.SIGKILL)
    wait_until(lambda: not processes(machine, "netbridge.cli.ui"), "the end of the UI")
    assert tmux.value("#{alternate_on}") == "0"
    tmux.run("echo", "still here")  # the shell's prompt may have gone with the UI's screen
    tmux.until("\nstill here")


def test_a_window_that_is_closed_stops_the_bridge(machine: Machine, tmux: Tmux, place: str) -> None:
    start(tmux, place)
    tmux.__exit__()
    wait_until(lambda: not processes(machine, "netbridge"), "the end of the bridge", 15)


def test_gui_false_is_lines_and_a_command_has_the_terminal(tmux: Tmux, place: str) -> None:
    tmux.run(*NETBRIDGE, "up", place, "--gui", "false")
    tmux.until("ready", "q or ctrl-c stops the bridge")
    assert tmux.value("#{alternate_on}") == "0"
    tmux.press("q")
    tmux.until("stopped after", "shell>")
    tmux.run(*NETBRIDGE, "up", place, "--gui", "true", "--", "echo", "from", "there")
    tmux.until("hint: the terminal is the command's", "\nfrom there", "shell>")


def test_attach_shows_a_bridge_that_runs_elsewhere_and_d_leaves_it(machine: Machine, tmux: Tmux, place: str) -> None:
    with machine.running("up", place) as program:
        program.until(b"ready\n")
        tmux.run(*NETBRIDGE, "attach")
        tmux.until(SHOWN, "● running")
        tmux.press("d")
        tmux.until(SHOWN, gone=True)
        assert machine.status()[0]["state"] == "running"
        tmux.run(*NETBRIDGE, "attach", place)
        tmux.until(SHOWN, "● running")
        tmux.press("q")
        assert program.ended(8) == 0
        tmux.until("The bridge ended.")


def test_attach_says_what_it_lacks(machine: Machine, tmux: Tmux) -> None:
    tmux.run(*NETBRIDGE, "attach")
    tmux.until("netbridge: No bridge is running.", "netbridge up")
    done = machine.netbridge("attach")
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr


def test_without_colour_there_are_no_colours(machine: Machine, tmux: Tmux, place: str) -> None:
    tmux.run("export", "NO_COLOR=1")
    start(tmux, place)
    time.sleep(0.5)
    coloured = tmux.coloured
    found = {code for codes in re.findall(r"\x1b\[([\d;]*)m", coloured) for code in codes.split(";")}
    assert not found & {str(number) for number in (*range(30, 38), *range(40, 48), *range(90, 98), 38, 48)}, found
    assert "7" in found, "the titles are told by reverse video"
    tmux.press("q")
    tmux.until("stopped after")
