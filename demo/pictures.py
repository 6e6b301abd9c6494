"""`make pictures`: the terminal UI of a real bridge, with real programs at work behind it, as docs/pictures/*.svg.

Needs root: the machines are those of the tests (`tests/world`), the bridge goes over OpenSSH from one to another. The
screen is the one that `netbridge attach` shows; it is only drawn into a picture instead of onto a terminal.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from netbridge.bridge.runtime import Folder
from netbridge.cli.ui.app import BridgeApp
from netbridge.cli.ui.source import BridgeSource
from tests.world import Bridge, World, missing
from tests.world.addresses import CODESPACE, CORP, SSH_PORT
from tests.world.servers import iperf

PICTURES = Path(__file__).resolve().parent.parent / "docs/pictures"
SIZES = {"ui": (110, 30), "ui-80x24": (80, 24)}
SECONDS = 9.0
"""Until there is something to see in the sparklines."""
WEB = "www.corp.test"


def work(world: World) -> None:
    """Programs in the codespace, as somebody's afternoon has them."""
    start, corp = world.codespace.start, world.corp
    for query in ("select pg_sleep(60)", "select 1; select pg_sleep(60)"):
        start("psql", "-X", "-h", WEB, "-U", "postgres", "-c", query)
    start("redis-cli", "-h", WEB, "subscribe", "builds")
    start("iperf3", "-c", CORP[4], "-p", str(iperf(corp)), "-R", "-b", "180M", "-t", "60")
    start("iperf3", "-c", CORP[4], "-p", str(iperf(corp)), "-b", "24M/4", "-t", "60")
    start("ping", "-i", "0.5", WEB)
    start("sh", "-c", f"while :; do curl -s -o /dev/null http://{WEB}/; sleep 0.7; done")
    start("sh", "-c", "while :; do dig +short nowhere.corp.test; dig +short -x 10.99.0.2; sleep 3; done")
    start("sh", "-c", f"sleep 6; dig +short mail.corp.test aaaa; curl -s -m 2 http://{CORP[4]}:22/")


def without_fonts(picture: str) -> str:
    """Who looks at it fetches nothing: the fonts that it names are a server's, and any monospaced one will do."""
    return re.sub(r"\n *@font-face \{.*?\}", "", picture, flags=re.DOTALL)


async def take(folder: Folder, number: int, name: str, size: tuple[int, int], keys: Sequence[str] = ()) -> None:
    """One picture of the screen, after some keys."""
    app = BridgeApp(BridgeSource(folder, number))
    async with app.run_test(size=size) as pilot:
        await pilot.pause(SECONDS)
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.6)
        await pilot.pause(0.3)
        PICTURES.mkdir(parents=True, exist_ok=True)
        (PICTURES / f"{name}.svg").write_text(without_fonts(app.export_screenshot(title="netbridge")), encoding="utf-8")
        print(f"docs/pictures/{name}.svg", file=sys.stderr)


async def take_all(folder: Folder, number: int) -> None:
    for name, size in SIZES.items():
        await take(folder, number, name, size)
    await take(folder, number, "ui-details", SIZES["ui"], ["enter"])


def main() -> int:
    if reason := missing():
        print(f"pictures: none can be taken here: {reason}", file=sys.stderr)
        return 1
    with World() as world:
        target = f"ssh://root@{CODESPACE[4]}:{SSH_PORT}"
        bridge = Bridge(world.laptop, target, "--ssh", "openssh", "--deny", "10.0.0.0/8:22")
        try:
            bridge.ready()
            work(world)
            path = Path(f"/proc/{world.laptop.init}/root/run/netbridge")
            with Folder(path, owner=os.geteuid()) as folder:
                asyncio.run(take_all(folder, folder.running()[0]))
        finally:
            bridge.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
