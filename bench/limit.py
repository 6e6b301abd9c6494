"""The limit: raw bytes through the very ssh that netbridge over openssh uses, both ways."""

from __future__ import annotations

from tests.world import World
from tests.world.addresses import CODESPACE

from .loads import Reason, first_number
from .paths import SSH

CLOCKED = "date +%s.%N >&2; {command}; date +%s.%N >&2"


def raw_cat(world: World, seconds: float, *, up: bool) -> tuple[float, float]:
    """(Gbit/s, gigabytes) of `cat /dev/zero` through ssh; the login is not counted."""
    ssh = " ".join((*SSH, f"root@{CODESPACE[4]}"))
    source = f"timeout {seconds:g} cat /dev/zero"
    if up:
        script = f"{ssh} '{CLOCKED.format(command=source)}' | wc -c"
    else:
        # The sender begins when the other end says it is ready.
        script = (
            f"rm -f /run/ready; mkfifo /run/ready; (read line < /run/ready; {CLOCKED.format(command=source)}) | "
            f"{ssh} 'echo >&2; exec wc -c' 2>/run/ready"
        )
    try:
        output = world.laptop.shell(script, timeout=seconds + 15)
    except TimeoutError:
        raise Reason("ssh did not end in time") from None
    stamps = [float(word) for word in output.stderr.split() if word.replace(".", "").isdigit()]
    if output.code or len(stamps) < 2:
        raise Reason(f"ssh: {output.stderr.strip() or output.code}"[:160])
    moved = first_number(r"(\d+)", output.stdout)
    return moved * 8 / (stamps[-1] - stamps[0]) / 1e9, moved / 1e9
