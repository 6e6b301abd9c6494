"""Where our stack answers otherwise than Linux, on purpose or without harm: each with the reason.

A rule explains a difference by where the connection stood before the step, by the step, and by both answers. The tests
fail for a difference that no rule explains, and for a rule that no script needs any more.
"""

from __future__ import annotations

from dataclasses import replace

from .case import Case, Rule
from .script import Says
from .wire import ACK, CWR, FIN, RST, SYN, Reply

CLOSING = frozenset({"FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "TIME-WAIT", "LAST-ACK"})

SYN_OPTIONS = ("sack-permitted", "wscale", "timestamp")
ADVANCED = {"FIN-WAIT-1": ("FIN-WAIT-2",), "CLOSING": ("TIME-WAIT",), "LAST-ACK": ("CLOSED",)}
"""Where the ACK of our FIN leads."""
LEAST_MSS = 536
"""Of the peers in scripts."""


def _without(replies: tuple[Reply, ...], *options: str) -> list[Reply]:
    """The replies without such options, and without acknowledgements that are equal then to the one before."""
    found: list[Reply] = []
    for reply in replies:
        bare = replace(reply, options=tuple(one for one in reply.options if one[0] not in options))
        if not found or bare != found[-1]:
            found.append(bare)
    return found


def _sack_on_data(case: Case) -> bool:
    told = any(reply.payload or set("FR") & set(reply.flags) for reply in case.linux.replies)
    theirs, ours = (_without(seen.replies, "sack") for seen in (case.linux, case.ours))
    return told and (theirs == ours or (theirs == ours[:-1] and ours[-1].flags == "A" and not ours[-1].payload))


def _took_more(case: Case) -> bool:
    """Whether Linux took something of the segment that ours did not."""
    theirs, ours = (
        max((reply.ack for reply in seen.replies if reply.ack is not None), default=0)
        for seen in (case.linux, case.ours)
    )
    early = _without(case.linux.replies) != _without(case.linux.replies, "sack")
    return theirs > ours or len(case.linux.received) > len(case.ours.received) or early or (
        case.linux.eof and not case.ours.eof
    )


def _other_window(case: Case) -> bool:
    """Whether another window shows: in what is sent, or in where a segment without data is placed."""
    theirs, ours = (
        [replace(reply, payload=b"", seq=0) for reply in seen.replies] for seen in (case.linux, case.ours)
    )
    sent = [[(reply.payload, "F" in reply.flags) for reply in seen.replies] for seen in (case.linux, case.ours)]
    return theirs == ours or sent[0] != sent[1]


def _first_block(case: Case) -> bool:
    """Whether ours are Linux's SACK blocks but for the first, which Linux may not have."""
    theirs, ours = (
        [edges for reply in seen.replies for option in reply.options if option[0] == "sack" for edges in option[1:]]
        for seen in (case.linux, case.ours)
    )
    return len(ours) > 1 and ours[2:] in (theirs, theirs[2:]) and _without(case.linux.replies, "sack") == _without(
        case.ours.replies, "sack"
    )


def _wholly_old(case: Case) -> bool:
    """Whether all data of the segment was acknowledged before."""
    ends = [reply.ack for reply in case.linux.replies if reply.ack is not None]
    return isinstance(case.step, Says) and bool(ends) and case.step.seq + case.length <= min(ends)


def _stamp_is_older_by(case: Case, ticks: int) -> bool:
    """Whether the segment's timestamp is that much older than what ours echoes."""
    stamp = case.step.stamp if isinstance(case.step, Says) else None
    return stamp is not None and all(("timestamp", stamp + ticks) in reply.options for reply in case.ours.replies)


def _halves(case: Case) -> bool:
    sizes = [[len(reply.payload) for reply in seen.replies] for seen in (case.linux, case.ours)]
    return any(sizes[0]) and sizes[0] != sizes[1] and case.same_but(replies=None)


RULES = (
    Rule(
        "SACK on data",
        "Linux repeats its SACK blocks on data; ours tell them by acknowledgements of their own, so that a data "
        "packet's header is one pack of fixed size (RFC 2018, section 4, asks for the acknowledgement only).",
        _sack_on_data,
    ),
    Rule(
        "no timestamp",
        "Where timestamps were agreed on, a segment without one is dropped (RFC 7323, section 3.2); Linux takes it.",
        lambda case: isinstance(case.step, Says) and case.step.stamp is None and case.past.stamped
        and case.ours.state == case.state and not case.ours.replies,
        lasting=True,
    ),
    Rule(
        "D-SACK",
        "Every repeated byte is told of (RFC 2883); Linux leaves it out in a handshake, beside an ACK that it "
        "challenges, and where early data goes on beyond what came before. Of two repeated ranges each tells of "
        "another.",
        lambda case: (case.says(0, without=FIN) or case.says(0, without=ACK)) and case.length > 0
        and not (case.says(ACK) and case.ack < 1 and not _wholly_old(case))
        and case.same_but(replies=None) and _first_block(case),
    ),
    Rule(
        "SACK of a FIN",
        "Linux counts a FIN that came early into its blocks, and forgets what lies beyond one in order; ours tells of "
        "data alone.",
        lambda case: case.says(FIN | ACK, without=SYN | RST) and case.same_but(replies=None)
        and _without(case.linux.replies, "sack", "timestamp") == _without(case.ours.replies, "sack", "timestamp"),
        lasting=True,
    ),
    Rule(
        "RST at the end of early data",
        "Where the highest SACK block ends Linux takes a reset as exact, as all that may have been sent; RFC 5961, "
        "section 3.2, has it challenged.",
        lambda case: case.says(RST) and case.linux.state == "CLOSED" and case.acknowledged
        and any(option[0] == "sack" for reply in case.ours.replies for option in reply.options),
    ),
    Rule(
        "TS.Recent",
        "It is taken of segments in the window, by the sequence number alone (RFC 7323, section 5.3, R2 before R3); "
        "Linux takes it of old data too, and leaves it where the ACK is old.",
        lambda case: case.past.stamped and case.same_but(replies=None)
        and _without(case.linux.replies, "timestamp") == _without(case.ours.replies, "timestamp"),
        lasting=True,
    ),
    Rule(
        "RST with an old timestamp",
        "Resets pass PAWS (RFC 7323, section 5.2); Linux drops one in a handshake.",
        lambda case: case.state == "SYN-RECEIVED" and case.says(RST) and case.past.stamped and not case.linux.replies
        and case.linux.state == case.state,
    ),
    Rule(
        "old ACK with an old timestamp",
        "Without data it is answered as any that PAWS drops (RFC 7323, section 5.3); Linux takes it for a late one.",
        lambda case: case.says(ACK, without=SYN | RST | FIN) and case.past.stamped and not case.length
        and not case.linux.replies and case.acknowledged and case.same_but(replies=None),
        lasting=True,
    ),
    Rule(
        "timestamp of a tick ago",
        "Any that is older than TS.Recent is dropped (RFC 7323, section 5.3, R1); Linux lets one tick pass.",
        lambda case: case.says(ACK, without=SYN | RST) and case.past.stamped and case.acknowledged
        and case.ours.state == case.state and _stamp_is_older_by(case, 1),
        lasting=True,
    ),
    Rule(
        "data or FIN with a wild ACK",
        "Dropped and challenged (RFC 5961, section 5.2); Linux looks at the ACK after it has taken the data in line, "
        "and counts the SYN of who opened it among what was acknowledged. Of data before its turn that shows later.",
        lambda case: (
            case.says(ACK, without=SYN | RST) and case.ack < 1 and case.ours.flags == ["A"] and _took_more(case)
        ) or (
            case.past.wild_early and case.same_but(replies=None, received=None)
            and len(case.linux.received) > len(case.ours.received)
            and case.linux.received.startswith(case.ours.received)
        ),
        lasting=True,
    ),
    Rule(
        "another SYN in SYN-RECEIVED",
        "A challenge ACK instead of a reset (RFC 5961, section 4): who guesses the addresses alone could end the "
        "handshake otherwise; an honest peer resets by what the challenge says.",
        lambda case: case.state == "SYN-RECEIVED" and case.says(SYN, without=RST)
        and case.ours.flags in (["A"], [])
        and case.ours.state == "SYN-RECEIVED",
    ),
    Rule(
        "wrong ACK in SYN-RECEIVED",
        "Linux looks at the ACK first, and takes one of nothing after a simultaneous open; ours looks at the sequence "
        "number first and resets for a wrong ACK (RFC 9293, section 3.10.7.4).",
        lambda case: case.state == "SYN-RECEIVED" and case.says(ACK, without=SYN | RST)
        and case.ours.state == "SYN-RECEIVED"
        and case.ours.flags in (["A"], ["R"]),
    ),
    Rule(
        "close in SYN-RECEIVED",
        "The FIN waits for ESTABLISHED (RFC 9293, section 3.10.4); Linux sends it at once.",
        lambda case: case.state == "SYN-RECEIVED" and (case.calls("close") or case.calls("shutdown"))
        and not case.ours.replies and case.ours.state == "SYN-RECEIVED",
    ),
    Rule(
        "shutdown in SYN-SENT",
        "The connection is deleted on both; a Linux application hears ECONNRESET of it.",
        lambda case: (case.calls("shutdown") or case.calls("read")) and case.state in {"SYN-SENT", "CLOSED"}
        and not case.ours.error and case.same_but(error=None),
    ),
    Rule(
        "no ACK flag, outside the window",
        "Sequence numbers are looked at first (RFC 9293, section 3.10.7.4) and this one is challenged; Linux drops "
        "what has no ACK before.",
        lambda case: case.says(0, without=ACK | RST | SYN) and not case.linux.replies and case.same_but(replies=None)
        and case.ours.flags in (["A"], ["AE"]),
        lasting=True,
    ),
    Rule(
        "ACK on an old segment",
        "The acknowledgement of a segment whose data is old is taken, as BSD does; Linux drops it with the segment.",
        lambda case: case.says(ACK, without=SYN | RST) and case.ours.state in ADVANCED.get(case.state, ())
        and case.linux.state == case.state and case.linux.received == case.ours.received,
    ),
    Rule(
        "echo after an ACK on an old segment",
        "That ACK left nothing in flight, so an echo that comes then tells of nothing new (RFC 3168, section 6.1.2); "
        "to Linux, which did not take it, it is the answer to what is in flight.",
        lambda case: case.past.old_ack and case.past.echoed and "AC" in case.linux.flags
        and case.same_but(replies=None) and case.ours.replies == tuple(
            replace(reply, flags=reply.flags.replace("C", "")) for reply in case.linux.replies
        ),
        lasting=True,
    ),
    Rule(
        "congestion window in segments",
        "After an echo Linux has two segments in flight at most, however small they are, and lets a FIN wait as well; "
        "our congestion window counts bytes (RFC 5681, section 2).",
        lambda case: case.past.echoed and not case.linux.replies and case.same_but(replies=None)
        and (case.calls("write") or case.calls("shutdown") or case.calls("close")) and len(case.ours.replies) == 1
        and case.ours.replies[0].seq + len(case.ours.replies[0].payload) - case.past.acked < 2 * LEAST_MSS,
        lasting=True,
    ),
    Rule(
        "window of an old segment",
        "Which window is the newer is told by the sequence number first, then by the acknowledgement (RFC 9293, "
        "section 3.10.7.4), of segments with old data too: a window probe or a copy may bear the only news of an "
        "opening. Linux goes by the acknowledgement first, and drops what is old. What waits for it may be a FIN.",
        lambda case: case.past.old_window and case.same_but(replies=None) and _other_window(case),
        lasting=True,
    ),
    Rule(
        "SYN again without ECN",
        "A peer that repeats its SYN without asking for ECN does without (RFC 3168, section 6.1.1.1); Linux goes by "
        "the first.",
        lambda case: case.state == "SYN-RECEIVED" and case.says(SYN, without=ACK | RST)
        and case.linux.flags == ["SAE"] and case.ours.flags == ["SA"],
        lasting=True,
    ),
    Rule(
        "SYN that was marked",
        "A SYN may not be marked (RFC 3168, section 6.1.1), so Linux does without ECN where one is; ours agrees to it "
        "as the flags ask.",
        lambda case: case.says(SYN, without=ACK) and isinstance(case.step, Says) and case.step.marked
        and case.linux.flags == ["SA"] and case.ours.flags == ["SAE"],
        lasting=True,
    ),
    Rule(
        "mark on an early FIN",
        "Linux echoes it, but not that on a FIN in its turn; ours echoes the marks of data (RFC 3168, section 6.1.3).",
        lambda case: case.says(FIN) and not case.length and isinstance(case.step, Says) and case.step.marked
        and case.linux.flags == ["AE"] and case.ours.flags == ["A"],
        lasting=True,
    ),
    Rule(
        "ACK of the ISN",
        "Older than all that was acknowledged, it is a blind one (RFC 5961, section 5.2); who opens a Linux connection "
        "counts its SYN among what was.",
        lambda case: case.says(ACK, without=SYN | RST) and case.ack == 0 and case.ours.flags == ["A"]
        and not case.linux.replies and case.same_but(replies=None),
    ),
    Rule(
        "abort in TIME-WAIT",
        "The connection is deleted (RFC 9293, section 3.10.5); Linux keeps it until its time is over.",
        lambda case: case.state == "TIME-WAIT" and case.calls("abort") and not case.ours.replies
        and not case.linux.replies,
    ),
    Rule(
        "CWR with an old ACK",
        "Of a segment whose ACK is old Linux takes no CWR, and nothing at all while a connection closes; ours takes "
        "what it brings (RFC 9293, section 3.10.7.4).",
        lambda case: case.says(CWR | ACK) and case.length > 0 and (case.state in CLOSING or case.ack < case.past.acked)
        and case.linux.flags == ["AE"] and case.ours.flags == ["A"] and case.same_but(replies=None),
        lasting=True,
    ),
    Rule(
        "reset told by a write",
        "Linux tells who writes of a reset; ours who reads, as it was paused.",
        lambda case: case.calls("write") and not case.linux.replies and case.linux.error == "ECONNRESET"
        and not case.ours.error and case.same_but(error=None),
    ),
    Rule(
        "ACK beside a FIN",
        "A FIN that leaves with the acknowledgement of early data is one answer of ours, two of Linux's.",
        lambda case: case.ours.flags == ["FA"] and case.linux.flags == ["FA", "A"] and case.same_but(replies=None)
        and case.ours.replies[0] == replace(case.linux.replies[0], ack=case.linux.replies[1].ack),
    ),
    Rule(
        "an echo that goes on",
        "Until data with CWR comes (RFC 3168, section 6.1.3); Linux ends it by CWR without data as well, and what it "
        "keeps of a connection in TIME-WAIT knows no ECN.",
        lambda case: case.linux.flags == ["A"] and case.ours.flags == ["AE"] and case.same_but(replies=None),
        lasting=True,
    ),
    Rule(
        "a window taken back by little",
        "Less than a unit of the scale is rounding, and what is sent may bear SND.NXT: of the peer's scale with ours, "
        "of its own with Linux.",
        lambda case: case.linux.flags == case.ours.flags == ["A"] and case.same_but(replies=None)
        and case.ours.replies == tuple(replace(one, seq=case.ours.replies[0].seq) for one in case.linux.replies)
        and 0 < abs(case.linux.replies[0].seq - case.ours.replies[0].seq) < 1 << 14,
        lasting=True,
    ),
    Rule(
        "SYN-ACK with more",
        "Linux drops data and FIN of a SYN-ACK unless it asked for Fast Open; ours takes them (RFC 9293, section "
        "3.10.7.3).",
        lambda case: case.state == "SYN-SENT" and case.says(SYN | ACK)
        and (case.length > 0 or case.says(FIN)),
    ),
    Rule(
        "options of a simultaneous open",
        "Linux repeats all its SYN offered; ours only what the peer's SYN offered as well (RFC 7323, section 2.2).",
        lambda case: case.state == "SYN-SENT" and case.says(SYN, without=ACK) and case.same_but(replies=None)
        and _without(case.linux.replies, *SYN_OPTIONS) == _without(case.ours.replies, *SYN_OPTIONS),
    ),
    Rule(
        "early data that overlaps",
        "Of data that came early twice and different, Linux keeps the later copy where it begins before the earlier "
        "one; ours keeps the first. Only a liar sends both.",
        lambda case: len(case.linux.received) == len(case.ours.received) and case.same_but(received=None),
    ),
    Rule(
        "halves of a small window",
        "Into a window of less than two segments Linux sends halves of it, hoping for two acknowledgements; ours "
        "sends whole segments (RFC 9293, section 3.8.6.2.1).",
        _halves,
    ),
    Rule(
        "data after close",
        "Linux resets at once when data comes for an application that is gone (RFC 1122, section 4.2.2.13). Ours takes "
        "and discards it until the time for orphans is over: a reset would reach many a peer before it has read the "
        "last word, and take that from it (asyncio's own streams forget what was not read). A FIN that comes too early "
        "it keeps.",
        lambda case: case.past.closed and (case.length > 0 or case.says(FIN))
        and case.state in CLOSING | {"ESTABLISHED"}
        and any("R" in flags for flags in case.linux.flags),
    ),
    Rule(
        "close with data unread",
        "Linux resets (RFC 2525, section 2.17); ours counts it as discarded and sends a FIN.",
        lambda case: (case.calls("close") or case.calls("abort")) and any("R" in flags for flags in case.linux.flags),
    ),
    Rule(
        "data in TIME-WAIT",
        "Linux acknowledges any segment with data or FIN again; ours what is old or repeated, as new data cannot come "
        "after a FIN (RFC 9293, section 3.10.7.4: ignored).",
        lambda case: case.state == "TIME-WAIT" and not case.ours.replies and case.linux.state == case.ours.state,
        lasting=True,
    ),
    Rule(
        "ACK in TIME-WAIT",
        "An ACK of what was never sent is challenged (RFC 5961, section 5.2); Linux does not look at it any more.",
        lambda case: case.state == "TIME-WAIT" and case.says(ACK, without=SYN | RST) and not case.linux.replies
        and case.linux.state == case.ours.state,
        lasting=True,
    ),
    Rule(
        "EPIPE",
        "A reset after the peer's FIN is EPIPE to a Linux application, and told by its next write; ours hears of the "
        "reset.",
        lambda case: case.ours.error == "ECONNRESET" and case.same_but(error=None) and case.linux.eof,
    ),
    Rule(
        "RST on the number of the FIN",
        "Linux takes a reset that bears the sequence number of the peer's own FIN, for the sake of macOS; RFC 5961, "
        "section 3.2, does not.",
        lambda case: case.state in {"CLOSE-WAIT", "LAST-ACK", "CLOSING"} and case.says(RST)
        and case.linux.state == "CLOSED" and case.ours.state == case.state,
    ),
    Rule(
        "RST before the reader came",
        "What was not read when a reset came is gone (RFC 9293, section 3.10.7.4: queues are flushed); Linux lets it "
        "be read first.",
        lambda case: any(map(case.calls, ("read", "close", "abort"))) and case.linux.state == case.ours.state
        and case.same_but(received=None, error=None, eof=None) and case.ours.error == "ECONNRESET",
    ),
    Rule(
        "data beyond the FIN",
        "Text after a FIN is ignored (RFC 9293, section 3.10.7.4); Linux resets for it, or takes a second FIN behind "
        "it.",
        lambda case: case.state in {"CLOSE-WAIT", "CLOSING", "LAST-ACK"} and case.length > 0
        and case.linux.replies != () and not any("R" in flags for flags in case.ours.flags),
    ),
    Rule(
        "FIN amid data",
        "A FIN below data that came early, or data beyond a FIN that did: Linux believes the FIN, ours the data. Only "
        "a liar sends both.",
        lambda case: not case.ours.eof and case.ours.received.startswith(case.linux.received) and (
            (case.says(FIN | ACK) and case.ours.state == case.state
             and (case.linux.state != case.state or case.linux.eof))
            or (case.linux.eof and len(case.linux.received) + 1 in case.past.fins
                and len(case.ours.received) > len(case.linux.received)
                and case.ours.state in (case.state, *ADVANCED.get(case.state, ())))
        ),
    ),
    Rule(
        "SYN-ACK in SYN-RECEIVED",
        "One that repeats the SYN ends a simultaneous open, FIN and all (RFC 9293, section 3.5, figure 8); Linux "
        "takes it after an active open only.",
        lambda case: case.state == "SYN-RECEIVED" and case.says(SYN | ACK, without=RST)
        and case.ours.state in {"CLOSE-WAIT", "ESTABLISHED"},
    ),
    Rule(
        "SYN again in a simultaneous open",
        "Its SYN-ACK seems lost and is sent again; Linux acknowledges.",
        lambda case: case.state == "SYN-RECEIVED" and case.says(SYN, without=ACK | RST) and case.same_but(replies=None)
        and case.ours.flags == ["SA"],
    ),
    Rule(
        "RST with SYN or FIN",
        "A reset is as long as its data, whatever other flags it bears, so one just behind RCV.NXT is old and "
        "dropped; Linux counts the flag and challenges it.",
        lambda case: (case.says(RST | SYN) or case.says(RST | FIN)) and not case.ours.replies
        and case.same_but(replies=None),
    ),
    Rule(
        "RST in TIME-WAIT",
        "In the window but not exact, it is challenged as in any state (RFC 5961, section 3.2).",
        lambda case: case.state == "TIME-WAIT" and case.says(RST) and not case.linux.replies
        and case.ours.flags == ["A"] and case.same_but(replies=None),
    ),
)  # fmt: skip


def explanation(case: Case) -> Rule | None:
    """The rule that explains it."""
    return next((rule for rule in RULES if rule.explains(case)), None)
