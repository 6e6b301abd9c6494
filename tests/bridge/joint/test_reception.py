"""A listener under load: places, sources, floods of those who never prove; certificates of both ends."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from netbridge.bridge.errors import UsageError
from netbridge.bridge.joint.admission import HANDSHAKES, PER_SOURCE, Admission, Calm, counted
from netbridge.bridge.joint.channel import ProofError
from netbridge.bridge.joint.credentials import Credentials
from netbridge.bridge.joint.place import parse
from netbridge.stack.link import LinkError
from tests.bridge.joint.ends import HERE, KEY, OTHER_KEY, desk, joined

CREDENTIALS = Credentials(KEY)


async def test_sessions_end_where_the_places_do() -> None:
    async with asyncio.timeout(30), desk(f"tcp+tls://{HERE}:0", CREDENTIALS, most=2) as listener:
        async with joined(listener.url, CREDENTIALS) as one, joined(listener.url, CREDENTIALS) as two:
            assert await one.ping("198.18.255.1") < 5.0
            assert await two.ping("198.18.255.1") < 5.0
            with pytest.raises(LinkError, match="as many sessions"):
                async with joined(listener.url, CREDENTIALS):
                    pass
            assert len(listener.reception.admission.sessions) == 2
        await listener.until("left: the other end closed the link")
        while listener.reception.admission.sessions:
            await asyncio.sleep(0.01)
        async with joined(listener.url, CREDENTIALS) as three:
            assert await three.ping("198.18.255.1") < 5.0


async def test_those_who_say_nothing_take_a_few_places_of_their_own() -> None:
    """A hundred connections from one address: eight are waited for, the rest is cut off before a byte is read, and
    whoever has joined goes on.
    """
    async with asyncio.timeout(30), desk(f"tcp+tls://{HERE}:0", CREDENTIALS) as listener:
        async with joined(listener.url, CREDENTIALS) as stack:
            flood = [await asyncio.open_connection(HERE, listener.port) for _ in range(100)]
            cut = [asyncio.ensure_future(reader.read()) for reader, _ in flood]
            while sum(task.done() for task in cut) < 100 - PER_SOURCE:
                await asyncio.wait([task for task in cut if not task.done()], return_when=asyncio.FIRST_COMPLETED)
            assert listener.reception.admission.handshakes.total() == PER_SOURCE
            assert await stack.ping("198.18.255.1") < 5.0
            assert len([line for line in listener.told if "turned away" in line]) <= 5, "no flood fills a log"
            for _, writer in flood:
                writer.transport.abort()
            await asyncio.gather(*cut, return_exceptions=True)
        while listener.reception.admission.handshakes.total():
            await asyncio.sleep(0.01)
        async with joined(listener.url, CREDENTIALS) as stack:
            assert await stack.ping("198.18.255.1") < 5.0


def test_places_are_given_back_and_counted_by_source() -> None:
    admission = Admission(most=3, per_source=2)
    first = [admission.enter("192.0.2.1") for _ in range(PER_SOURCE)]
    assert all(first)
    assert admission.enter("192.0.2.1") is None
    other = admission.enter("192.0.2.2")
    assert other is not None
    assert [ticket.admit() for ticket in first[:3] if ticket] == [True, True, False]
    assert other.admit()
    late = admission.enter("192.0.2.3")
    assert late is not None
    assert not late.admit(), "three in all"
    for ticket in (*first, other, late):
        assert ticket is not None
        ticket.leave()
        ticket.leave()
    assert not admission.sessions
    assert not admission.sources
    assert not admission.handshakes


def test_many_sources_have_a_bound_as_well() -> None:
    admission = Admission(most=3, per_source=2)
    assert sum(admission.enter(f"192.0.2.{number}") is not None for number in range(200)) == HANDSHAKES


@pytest.mark.parametrize(
    ("source", "is_"),
    [("2001:db8:1:2::5", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("::ffff:192.0.2.1", "192.0.2.1"),
     ("192.0.2.1", "192.0.2.1"), ("12D3KooWLhmq7", "12D3KooWLhmq7")],
)  # fmt: skip
def test_a_source(source: str, is_: str) -> None:
    assert counted(source) == is_


async def test_a_number_stands_for_many_refusals() -> None:
    told: list[str] = []
    calm = Calm(told.append)
    for number in range(100):
        calm(str(number))
    assert told == ["0", "1", "2", "3", "4"]
    calm._sum_up()
    assert told[-1] == "95 more were refused in the last 10 s"
    calm.close()


# -- certificates


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed(name, self.key, authority=True)
        self.file = str(folder / f"{name}.pem")
        Path(self.file).write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool = False) -> x509.Certificate:
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])).issuer_name(issuer)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HERE))]), critical=False)
        )  # fmt: skip
        return made.sign(self.key, SHA256())

    def credentials(self, name: str, trusts: Authority | None = None, psk: bytes | None = None) -> Credentials:
        key = ec.generate_private_key(ec.SECP256R1())
        cert_file, key_file = self.folder / f"{name}.cert", self.folder / f"{name}.key"
        cert_file.write_bytes(self._signed(name, key).public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Credentials(psk, str(cert_file), str(key_file), (trusts or self).file)


@pytest.mark.parametrize("scheme", ["tcp+tls", "wss"])
@pytest.mark.parametrize("psk", [None, KEY])
async def test_certificates_of_both_ends(tmp_path: Path, scheme: str, psk: bytes | None) -> None:
    ca = Authority(tmp_path, "ca")
    here, there = ca.credentials("here", psk=psk), ca.credentials("there", psk=psk)
    async with asyncio.timeout(30), desk(f"{scheme}://{HERE}:0", there) as listener:
        async with joined(listener.url, here) as stack:
            assert await stack.ping("198.18.255.1") < 5.0


@pytest.mark.parametrize("scheme", ["tcp+tls", "wss"])
async def test_a_certificate_that_nobody_knows_is_told_to_both(tmp_path: Path, scheme: str) -> None:
    ca, other = Authority(tmp_path, "ca"), Authority(tmp_path, "other")
    there = ca.credentials("there")
    async with asyncio.timeout(30), desk(f"{scheme}://{HERE}:0", there) as listener:
        with pytest.raises(ProofError, match="does not seem to accept this end's certificate"):
            async with joined(listener.url, other.credentials("stranger", trusts=ca)):
                pass
        assert "certificate is not accepted" in await listener.until("not let in")
        listener.told.clear()
        with pytest.raises(ProofError, match="the other end's certificate is not accepted"):
            async with joined(listener.url, ca.credentials("here", trusts=other)):
                pass
        assert "it may not accept this end's certificate" in await listener.until("not let in")


async def test_no_certificate_where_one_is_wanted(tmp_path: Path) -> None:
    there = Authority(tmp_path, "ca").credentials("there", psk=KEY)
    async with asyncio.timeout(30), desk(f"tcp+tls://{HERE}:0", there) as listener:
        with pytest.raises(LinkError, match="it may want a certificate"):
            async with joined(listener.url, CREDENTIALS):
                pass


async def test_the_right_certificate_and_another_key(tmp_path: Path) -> None:
    ca = Authority(tmp_path, "ca")
    async with asyncio.timeout(30), desk(f"tcp+tls://{HERE}:0", ca.credentials("there", psk=KEY)) as listener:
        with pytest.raises(ProofError, match="another key"):
            async with joined(listener.url, ca.credentials("here", psk=OTHER_KEY)):
                pass


def test_older_tls_is_not_spoken() -> None:
    for context in (CREDENTIALS.server()[0], CREDENTIALS.client()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize("url", ["tcp+tls://h:1", "wss://h:1/", "quic://h:1", "libp2p:///ip4/192.0.2.1/tcp/1"])
def test_nothing_runs_open(url: str) -> None:
    with pytest.raises(UsageError, match="would be open to everybody"):
        Credentials().checked(parse(url, "listen"))
    CREDENTIALS.checked(parse(url, "listen"))


def test_half_of_the_certificates_is_none() -> None:
    with pytest.raises(UsageError, match="not complete"):
        Credentials(KEY, "cert", "key", None).checked(parse("tcp+tls://h:1", "listen"))
    with pytest.raises(UsageError, match="goes without certificates"):
        Credentials(KEY, "cert", "key", "ca").checked(parse("quic://h:1", "listen"))
