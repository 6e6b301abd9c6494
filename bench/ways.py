"""netbridge's own ways to corp, as `netbridge up` gives them; its fastest settings are its defaults."""

from __future__ import annotations

from tests.world import Bridge, World
from tests.world.addresses import CODESPACE, SSH_PORT

from .cost import peak_megabytes
from .loads import Place, Reason
from .paths import Way


class Netbridge(Way):
    """`netbridge up TARGET` on the laptop."""

    target = f"ssh://root@{CODESPACE[4]}:{SSH_PORT}"
    options: tuple[str, ...] = ()

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.bridge: Bridge | None = None

    def up(self) -> Place:
        self.bridge = bridge = Bridge(self.world.laptop, self.target, *self.options)
        try:
            bridge.ready()
        except AssertionError as error:
            raise Reason(" ".join(str(error).split())[:300]) from None
        place = (
            Place(self.world.laptop, self.world.corp, bridge.inside())
            if bridge.sandbox
            else Place(self.world.codespace, self.world.corp)
        )
        self.names = str((bridge.event("dns") or {}).get("listen") or "")
        return self.wait(place, bridge.program)

    def down(self) -> None:
        try:
            if self.bridge:
                self.bridge.close()
        finally:
            super().down()

    def memory(self) -> float:
        """Of netbridge's own process."""
        return peak_megabytes(self.bridge.pid) if self.bridge else 0.0


class OverOpenssh(Netbridge):
    name = "netbridge-openssh"
    about = "netbridge over the ssh program"
    options = ("--ssh", "openssh")


class OverAsyncssh(Netbridge):
    name = "netbridge-asyncssh"
    about = "netbridge over asyncssh"
    options = ("--ssh", "asyncssh")


class InSandbox(Netbridge):
    name = "netbridge-sandbox"
    about = "netbridge in the sandbox"
    target = "sandbox"
