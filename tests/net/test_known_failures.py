"""What hurts users of other tools, numbered as in the list of known failures; here: what one flow meets, by every way.

Which test has which number:

 1 v6 refused, v4 open                     here
 2 closed port                             here
 3 a hundred connects to a black hole      here
 4 half-close, answer 10 s later           test_known_failures_lasting
 5 last bytes, then close                  here
 6 SYN then RST                            test_known_failures_lasting; 10,000 of them in test_tcp_rules
 7 the VPN comes up later                  test_known_failures_names; in each form, within 2 s, in test_routes_live
 8 only the system's resolver knows        test_known_failures_names
 9 musl, and names without AAAA            test_known_failures_names; glibc in test_applications
10 large answers                           test_known_failures_names
11 unknown names, loops                    test_known_failures_names; a resolver that is down in test_bad_input
12 systemd-resolved                        test_known_failures_names
13 the transport dies or falls silent      test_known_failures_places
14 kill -9                                 test_known_failures_places; each process alone in test_traces
15 target in the codespace's own network   test_known_failures_places; by name in test_overlap
16 full tunnel, host behind the gateway    test_known_failures_places; tunnels that come up in test_routes_live
17 nested containers                       test_known_failures_places
18 path MTU 1300                           test_known_failures_lasting
19 UDP: closed port, empty, many flows     here and test_known_failures_lasting; 50,000 in test_udp_crowd
20 sudo                                    test_known_failures_places; keys in files in test_ordinary_user
21 shell beside bulk                       test_known_failures_lasting
22 idle flows                              test_known_failures_lasting, 20 s; ten minutes on a fake clock in
                                           tests/bridge/forward/test_tcp_idle
23 own transport captured                  test_known_failures_places; the next transport in test_everything
"""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.world import World
from tests.world.addresses import BLACK_HOLE, CLOSED_PORT, CORP, ECHO_PORT, HTTP_PORT, url

from .conftest import Through
from .watch import drain

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])


def test_failure_01_v6_refused_v4_open_falls_back_at_once(through: Through, world: World) -> None:
    """A client waits for IPv6 before it tries IPv4; a refusal, passed on as what it is, ends the waiting."""
    with world.corp.listen(CORP[4]) as listener:

        def serve() -> None:
            for _client in range(2):
                connection, _peer = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nfour\n")

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        port = listener.getsockname()[1]
        patient = ("--happy-eyeballs-timeout-ms", "4000")  # so that no timer of curl's ends the waiting
        output = through.run("curl", "-sS", "-m8", *patient, f"http://www.corp.test:{port}/").check()
        assert output.stdout == "four\n"
        assert output.seconds < 1
        # curl tries both at once; Python's create_connection one after the other
        script = f"import socket; print(socket.create_connection(('www.corp.test', {port}), 8).getpeername()[0])"
        output = through.run("python3", "-I", "-S", "-c", script).check()
        assert output.stdout.strip() == CORP[4]
        assert output.seconds < 1
        server.join(5)


@both
def test_failure_02_closed_port_is_refused_not_accepted_then_closed(through: Through, version: int) -> None:
    seconds = []
    for _attempt in range(3):
        begun = time.monotonic()
        with pytest.raises(ConnectionRefusedError):
            through.connect(CORP[version], CLOSED_PORT)
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 0.2, seconds
    scanned = through.run("nc", "-z", "-v", "-w", "3", CORP[version], str(CLOSED_PORT))
    assert scanned.code == 1
    assert "refused" in scanned.stderr
    fetched = through.run("curl", "-sS", "-m5", f"http://{url(CORP[version])}:{CLOSED_PORT}/")
    assert fetched.code == 7, fetched  # "failed to connect", and not 52, "empty reply from server"


@both
def test_failure_03_hundred_connects_to_a_black_hole_delay_no_live_host(through: Through, version: int) -> None:
    def dial() -> socket.socket:
        dialled = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
        dialled.setblocking(False)
        dialled.connect_ex((BLACK_HOLE[version], 80))
        return dialled

    waiting = through.inside(lambda: [dial() for _number in range(100)])
    try:
        begun = time.monotonic()
        through.connect(CORP[version], HTTP_PORT).close()
        assert time.monotonic() - begun < 1
        page = through.run("curl", "-sS", "-m5", f"http://{url(CORP[version])}/small").check()
        assert page.stdout == "netbridge\n"
        assert page.seconds < 1
        for dialled in waiting:
            with pytest.raises(OSError, match="not connected"):
                dialled.getpeername()
    finally:
        for dialled in waiting:
            dialled.close()


def test_failure_05_last_bytes_then_close_arrive_exactly(through: Through, world: World) -> None:
    """Fifty servers that send an odd number of bytes and close at once; the client sees the end at once too."""
    with world.corp.listen(CORP[4]) as listener:
        closed: list[float] = []

        def serve() -> None:
            for number in range(50):
                connection, _peer = listener.accept()
                with connection:
                    connection.sendall(b"z" * (100_000 + number))
                    closed.append(time.monotonic())

        server = threading.Thread(target=serve)
        server.start()
        for number in range(50):
            with through.connect(CORP[4], listener.getsockname()[1]) as client:
                assert len(drain(client)) == 100_000 + number
                assert time.monotonic() - closed[number] < 2
        server.join(10)


@both
def test_failure_05_nc_and_curl_count_every_byte(through: Through, world: World, version: int) -> None:
    """nc takes 1,000,003 bytes and the end from a server that closes; curl takes a body that only the close ends."""
    body = bytes(range(251)) * 3984 + b"end"
    with world.corp.listen(CORP[version]) as listener:

        def serve() -> None:
            for head in (b"", b"HTTP/1.0 200 OK\r\n\r\n"):
                connection, _peer = listener.accept()
                with connection:
                    if head:
                        connection.recv(1000)
                    connection.sendall(head + body)

        server = threading.Thread(target=serve)
        server.start()
        port = listener.getsockname()[1]
        for command in (f"nc -d {CORP[version]} {port}", f"curl -sS -m9 http://{url(CORP[version])}:{port}/"):
            counted = through.shell(f"{command} | wc -c", timeout=15).check()
            assert int(counted.stdout) == len(body), command
            assert counted.seconds < 3, command
        server.join(10)


@both
def test_failure_19_udp_to_a_closed_port_fails_fast(through: Through, version: int) -> None:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with through.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.settimeout(3)
        client.connect((CORP[version], CLOSED_PORT))
        begun = time.monotonic()
        client.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        assert time.monotonic() - begun < 1


@both
def test_failure_19_empty_datagrams_are_data(through: Through, version: int) -> None:
    """Each comes back, empty, and counts: nothing takes one for the end."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with through.inside(lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
        client.settimeout(3)
        client.connect((CORP[version], ECHO_PORT))
        for data in (b"", b"", b"word", b""):
            client.send(data)
            assert client.recv(100) == data
