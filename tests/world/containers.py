"""Puts the stand-ins for docker, kubectl and devpod (container_standin.py) on a PATH, says what they shall know, and
runs their commands at places: on a machine of the world, or on this one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NAMES = ("docker", "kubectl", "devpod")


class Engine:
    """Runs what the stand-ins ask for. A command goes on when its client is gone, as in a real engine."""

    def __init__(self, address: Path, places: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> None:
        """`places`: by name, the words in front of a command that run it there."""
        self.commands: list[subprocess.Popen[bytes]] = []
        self._places = places
        self._environment = dict(environment)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        address.chmod(0o777)
        self._listener.listen(16)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """End everything."""
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone wakes nobody who waits in accept
        self._threads[0].join(5)
        self._listener.close()
        for command in self.commands:
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            self._run(client)

    def _run(self, client: socket.socket) -> None:
        data, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 3)
        request = json.loads(data)
        terminal = os.isatty(descriptors[0])
        argv = [*self._places[request["place"]], *(["setsid", "-c", "-w"] if terminal else []), *request["argv"]]
        command = subprocess.Popen(
            argv, stdin=descriptors[0], stdout=descriptors[1], stderr=descriptors[2], env=self._environment,
            start_new_session=True,
        )  # fmt: skip
        self.commands.append(command)
        for descriptor in descriptors:
            os.close(descriptor)
        status = command.wait()
        try:
            client.sendall(str(128 - status if status < 0 else status).encode())
        except OSError:
            pass


class StandIns:
    """The stand-ins in a folder of their own, which must be new; a context manager."""

    def __init__(self, folder: Path, places: Mapping[str, Sequence[str]] | None = None, **fields: Any) -> None:
        """`fields`: what differs from one running container "box" and one pod default/web, both at the place "box"."""
        self.folder = folder
        folder.mkdir(parents=True)
        for name in NAMES:
            shutil.copy(Path(__file__).with_name("container_standin.py"), folder / name)
            (folder / name).chmod(0o755)
        (folder / "calls.jsonl").write_text("")
        (folder / "calls.jsonl").chmod(0o666)
        self._state: dict[str, Any] = {
            "containers": {"box": {"state": "running"}},
            "contexts": [],
            "pods": {"/default/web": {"place": "box", "containers": ["app"]}},
            "workspaces": {"work": {"state": "Running", "address": "127.0.0.1", "port": 22}},
            "asks": False,
            "says": {},
            "idle_seconds": 0.0,
        }
        self.tell(**fields)
        self.engine = Engine(folder / "engine.sock", places or {"box": ()}, os.environ)

    def tell(self, **fields: Any) -> None:
        """Change what they know."""
        unknown = fields.keys() - self._state.keys()
        assert not unknown, unknown
        self._state.update(fields)
        (self.folder / "state.json").write_text(json.dumps(self._state))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """How they were called: program, words, uid, home, tty; and when one dropped an idle connection."""
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]

    def words(self, program: str) -> list[list[str]]:
        """The words of each call of a program."""
        return [call["words"] for call in self.calls if call["program"] == program and "words" in call]

    def __enter__(self) -> StandIns:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
