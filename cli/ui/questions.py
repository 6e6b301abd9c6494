"""The DNS panel: which names were asked for, what was answered, and how long that still holds."""

from __future__ import annotations

from rich.style import Style

from .listing import FAINT, PLAIN, Column, Listing, Row
from .model import Model
from .words import age, took

FAILED, UNKNOWN = Style(color="red"), Style(color="yellow")


def answer(row: Row) -> str:
    """The records, or why there are none."""
    if row["rcode"] != "NOERROR":
        return str(row["rcode"])
    return row["answer"] or "no such record"


def _answer_style(row: Row) -> Style | None:
    return None if row["rcode"] == "NOERROR" else UNKNOWN if row["rcode"] == "NXDOMAIN" else FAILED


class QuestionList(Listing):
    """The questions, the newest first."""

    def __init__(self, id: str, model: Model) -> None:
        super().__init__(id)

        def left(row: Row) -> float:
            return float(row["time"] + row["ttl"] - model.now)

        self._left = left
        self.columns = (
            Column("NAME", lambda row: row["name"], 20, grows=1),
            Column("TYPE", lambda row: row["type"], 5),
            Column("ANSWER", answer, 15, grows=1, begin=True, style=_answer_style),
            Column("TTL", lambda row: age(left(row)) if row["ttl"] and left(row) > 0 else "", 5, right=True),
            Column("BY", lambda row: row["source"], 15),
            Column("TOOK", lambda row: took(row["seconds"]), 6, right=True),
            Column("AGO", lambda row: age(model.now - row["time"]), 5, right=True, from_width=100),
        )

    def row_style(self, row: Row) -> Style:
        return FAINT if row["ttl"] and self._left(row) <= 0 else PLAIN

    def take(self, model: Model, words: str) -> None:
        """Show what was heard."""
        wanted = words.lower().split()
        rows = [
            row for row in model.questions
            if all(word in f"{row['name']} {row['type']} {row['answer']} {row['rcode']} {row['source']}".lower()
                   for word in wanted)
        ]
        total = model.header.get("questions", 0)
        on = "" if model.bridge.get("dns", True) else " · not asked here"
        found = f" · {len(rows)} match “{words}”" if words else ""
        self.show(rows, f"DNS · {total:,} question{'' if total == 1 else 's'}{found}{on}")
