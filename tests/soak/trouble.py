"""What troubles a bridge while it works: a thread in which one thing after another is done to it."""

from __future__ import annotations

import abc
import random
import threading
from typing import ClassVar, Generic, TypeVar

T = TypeVar("T")


class Trouble(abc.ABC, Generic[T]):
    """Things in an order by seed, each before one comes again, until it is told to stop."""

    name: ClassVar[str]
    pause: ClassVar[tuple[float, float]]
    """Seconds from the end of one to the next, at least and at most."""
    longest: ClassVar[float]
    """Seconds that one may take."""

    def __init__(self, seed: int) -> None:
        self.wrong: list[str] = []
        """What was as it must not be, in sentences."""
        self.random = random.Random(f"{seed} {self.name}")
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._live, name=self.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further one; waits for the end of the last."""
        self.over.set()
        self._thread.join(self.longest)

    @abc.abstractmethod
    def table(self) -> list[str]:
        """What was done, in lines."""

    @abc.abstractmethod
    def things(self) -> list[T]:
        """What there is to do."""

    @abc.abstractmethod
    def do(self, thing: T) -> None:
        """Do one of them, and note what is wrong."""

    def _live(self) -> None:
        things = self.things()
        while not self.over.is_set():
            self.random.shuffle(things)
            for thing in things:
                if self.over.wait(self.random.uniform(*self.pause)):
                    return
                self.do(thing)
