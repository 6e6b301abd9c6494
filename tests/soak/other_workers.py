"""Workers on servers with a protocol of their own, and on UDP and ICMP: PostgreSQL, Redis, DNS, echo, ping."""

from __future__ import annotations

import hashlib
import re
import select
import socket
import time
import zlib

from tests.world import Machine
from tests.world.addresses import CORP, ECHO_PORT, POSTGRES_PORT, REDIS_PORT
from tests.world.servers import BIG_TEXTS

from .corp import STALL
from .workers import Conversation, Worker, same

ACCOUNTS = 50
BALANCE = 1_000
LATE = 4.0
"""Seconds after which an answer is missing: the weather holds it up for 10 ms, a busy machine for longer."""
SEQUENCE = re.compile(r"icmp_seq=(\d+) .*time=")


def psql(host: str) -> tuple[str, ...]:
    address = f"host={host} port={POSTGRES_PORT} user=postgres dbname=postgres connect_timeout={STALL:.0f}"
    return "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", address


class Bank:
    """Accounts in PostgreSQL that money moves between, seen from the laptop."""

    def __init__(self, laptop: Machine) -> None:
        self._laptop = laptop
        self._ask(
            "DROP TABLE IF EXISTS account, ledger; CREATE TABLE account (id int PRIMARY KEY, balance bigint);"
            f"INSERT INTO account SELECT i, {BALANCE} FROM generate_series(1, {ACCOUNTS}) i;"
            "CREATE TABLE ledger (worker int, n int, PRIMARY KEY (worker, n))"
        )

    def _ask(self, script: str) -> str:
        quiet = {"PGOPTIONS": "--client-min-messages=warning"}
        return self._laptop.run(*psql(CORP[4]), stdin=script, environment=quiet).check().stdout

    def check(self, transactions: int) -> list[str]:
        """What does not add up after so many transactions."""
        total, booked = map(int, self._ask("SELECT sum(balance) FROM account; SELECT count(*) FROM ledger").split())
        wrong = []
        if total != ACCOUNTS * BALANCE:
            wrong.append(f"PostgreSQL's balances add up to {total}, not {ACCOUNTS * BALANCE}")
        if booked != transactions:
            wrong.append(f"PostgreSQL has {booked} transactions, its clients committed {transactions}")
        return wrong


class Postgres(Worker):
    """Transactions that move money, then the sum of all balances; a large result once in a while."""

    name = "postgresql"
    transactions = 5
    rows = 10_000

    def __init__(self, *words: object) -> None:
        super().__init__(*words)  # type: ignore[arg-type]
        self._booked = 0

    def step(self) -> None:
        script = []
        for _transaction in range(self.transactions):
            one, other = sorted(self.random.sample(range(1, ACCOUNTS + 1), 2))  # in order, or they would deadlock
            amount = self.random.randint(-100, 100)
            script += [
                "BEGIN;",
                f"UPDATE account SET balance = balance - {amount} WHERE id = {one};",
                f"UPDATE account SET balance = balance + {amount} WHERE id = {other};",
                f"INSERT INTO ledger VALUES ({self.number}, {self._booked});",
                "COMMIT;",
            ]
            self._booked += 1
        large = self.random.random() < 0.2
        rows = int(self.rows * self.scale)
        script.append("SELECT sum(balance) FROM account;")
        if large:
            script.append(f"COPY (SELECT i, md5(i::text) FROM generate_series(1, {rows}) i) TO STDOUT;")
        output = self.place.run(*psql(self.host), stdin="\n".join(script)).check().stdout
        wanted = f"{ACCOUNTS * BALANCE}\n"
        if large:
            sums = (f"{row}\t{hashlib.md5(str(row).encode()).hexdigest()}\n" for row in range(1, rows + 1))
            wanted += "".join(sums)
        same(output.encode(), wanted.encode(), "the sum and the rows")
        self.tally.operations += self.transactions
        self.tally.bytes += len(output)


class Redis(Worker):
    """A counter and values, singly and in pipelines; the connection is a new one now and then."""

    name = "redis"

    def __init__(self, *words: object) -> None:
        super().__init__(*words)  # type: ignore[arg-type]
        self._talk: Conversation | None = None
        self._key = f"soak{self.number}"
        self._sum = 0

    def step(self) -> None:
        try:
            self._converse()
        except BaseException:
            self._hang_up()
            raise

    def _converse(self) -> None:
        if self._talk is None:
            self._talk = self.connect(REDIS_PORT)
            if not self._sum:
                self._say(f"DEL {self._key}")
                self._talk.line()
        for _request in range(10):
            amount = self.random.randint(1, 1000)
            self._say(f"INCRBY {self._key} {amount}")
            self._counted(amount)
        amounts = [self.random.randint(1, 1000) for _request in range(50)]
        self._say(*(f"INCRBY {self._key} {amount}" for amount in amounts))
        for amount in amounts:
            self._counted(amount)
        value = self.random.randbytes(self.size(100_000)).hex()
        long = f"*3\r\n$3\r\nSET\r\n${len(self._key) + 1}\r\n{self._key}v\r\n${len(value)}\r\n{value}"
        self._say(long, f"GET {self._key}v")  # a plain line may have 64 KiB at most
        wanted = f"+OK\r\n${len(value)}\r\n{value}\r\n".encode()
        same(self._talk.exactly(len(wanted)), wanted, "the value that was set")
        self.tally.operations += 62
        if self.random.random() < 0.1:
            self._hang_up()

    def finish(self) -> None:
        """Nothing was counted twice or lost."""
        self._hang_up()
        if self._sum:
            with self.connect(REDIS_PORT) as talk:
                talk.send(f"GET {self._key}\r\n".encode())
                talk.line()
                same(talk.line(), f"{self._sum}\r\n".encode(), "the counter at the end")

    def _say(self, *commands: str) -> None:
        assert self._talk is not None
        self._talk.send("".join(f"{command}\r\n" for command in commands).encode())

    def _counted(self, amount: int) -> None:
        assert self._talk is not None
        self._sum += amount
        same(self._talk.line(), f":{self._sum}\r\n".encode(), "the counter")

    def _hang_up(self) -> None:
        if self._talk is not None:
            self._talk.socket.close()
            self._talk = None


class Dns(Worker):
    """Questions by dig: through the codespace's own resolv.conf and straight to corp, by UDP and by TCP."""

    name = "dns"
    pause = 0.2

    def step(self) -> None:
        server = self.random.choice(["", f"@{self.host}"])
        protocol = self.random.choice(["+notcp", "+tcp"])
        name, wanted = self.random.choice([
            (("www.corp.test", "A"), CORP[4]), (("www.corp.test", "AAAA"), CORP[6]), (("big.corp.test", "TXT"), ""),
            (("v4only.corp.test", "A"), CORP[4]), (("_http._tcp.corp.test", "SRV"), "0 5 80 www.corp.test."),
        ])  # fmt: skip
        words = ["dig", "+short", protocol, "+tries=8", "+time=5", *name]
        lines = self.place.run(*words, *([server] if server else [])).check().stdout.splitlines()
        lines = [line for line in lines if not line.startswith(";;")]  # a time-out that another try made good
        if name[1] == "TXT":
            texts = sorted(line.strip('"')[:3] for line in lines)
            right = texts == [f"{number:03d}" for number in range(BIG_TEXTS)]
        else:
            right = lines == [wanted]
        if not right:
            raise ValueError(f"{' '.join(words)} {server}: {lines}")
        self.tally.operations += 1


class UdpEcho(Worker):
    """Numbered datagrams with a checksum. What does not come back is counted; `run.py` asks whether it was lost."""

    name = "udp echo"
    sizes = (12, 1440)
    rate = 100
    datagrams = 400

    def step(self) -> None:
        family = socket.AF_INET if self.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((self.host, ECHO_PORT))
            self._exchange(sock)

    def _exchange(self, sock: socket.socket) -> None:
        missing: dict[int, int] = {}
        count = max(int(self.datagrams * self.scale), 20)
        for number in range(count):
            body = number.to_bytes(4, "big") + self.random.randbytes(self.random.randint(*self.sizes) - 8)
            checksum = zlib.crc32(body)
            missing[number] = checksum
            sock.send(checksum.to_bytes(4, "big") + body)
            self._receive(sock, missing, 1 / self.rate)
            if self.stopping:
                break
        deadline = time.monotonic() + LATE
        while missing and (left := deadline - time.monotonic()) > 0:
            self._receive(sock, missing, left)
        self.tally.operations += number + 1
        self.tally.missing += len(missing)

    def _receive(self, sock: socket.socket, missing: dict[int, int], wait: float) -> None:
        deadline = time.monotonic() + wait
        while missing and select.select([sock], [], [], max(deadline - time.monotonic(), 0))[0]:
            data = sock.recv(65536)
            if not any(data):
                continue  # `corp-udp-flood` forges such as if from the server, which nobody can tell by UDP
            number = int.from_bytes(data[4:8], "big")
            checksum = int.from_bytes(data[:4], "big")
            if zlib.crc32(data[4:]) != checksum or missing.pop(number, None) != checksum:
                raise ValueError(f"datagram {number} of {len(data)} bytes is wrong, or came twice")
            self.tally.bytes += 2 * len(data)
        if (left := deadline - time.monotonic()) > 0 and not missing:
            time.sleep(min(left, 1 / self.rate))


class UdpFragments(UdpEcho):
    """Datagrams of several packets."""

    name = "udp fragments"
    sizes = (2_000, 9_000)
    rate = 20
    datagrams = 60


class Ping(Worker):
    """The ping program. Its last second is not judged, as it leaves without waiting for it."""

    name = "ping"
    each = 0.05

    def step(self) -> None:
        seconds = max(int(20 * self.scale), 4)
        size = self.random.randint(16, 1400)
        output = self.place.run("ping", "-i", f"{self.each}", "-w", f"{seconds}", "-s", f"{size}", self.host)
        if "DUP!" in output.stdout or "wrong data" in output.stdout:
            raise ValueError(output.stdout[-2000:])
        sent = int(output.stdout.split(" packets transmitted")[0].rsplit("\n", 1)[-1])
        judged = sent - int(1 / self.each)
        came = {int(number) for number in SEQUENCE.findall(output.stdout)}
        self.tally.operations += judged
        self.tally.missing += sum(number not in came for number in range(1, judged + 1))
        self.tally.bytes += 2 * size * len(came)


OTHER_WORKERS: tuple[tuple[type[Worker], int], ...] = (
    (Postgres, 4), (Redis, 4), (Dns, 3), (UdpEcho, 2), (UdpFragments, 2), (Ping, 2),
)  # fmt: skip
"""How many of each; half of them over IPv4, half over IPv6."""
