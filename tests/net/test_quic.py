"""QUIC through the bridge: a real handshake with a certificate, and two megabytes each way over UDP."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.world import World
from tests.world.addresses import CORP

from .conftest import Through

pytestmark = pytest.mark.net

both = pytest.mark.parametrize("version", [4, 6], ids=["v4", "v6"])
PEER = (sys.executable, "-c", Path(__file__).with_name("quic.py").read_text())
"""As text: the folder it stands in may be hidden from the codespace."""
PORT = 4433
SIZE = 2_000_000


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate for corp's addresses that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "corp")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(address)) for address in CORP.values()]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "quic.crt", folder / "quic.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


@pytest.fixture(scope="module")
def authority(world: World) -> Iterator[Path]:
    """Corp's QUIC server; the certificate to trust."""
    certificate, key = certify(world.corp.folder)
    server = world.corp.start(
        *PEER, "serve", certificate, key, str(PORT), *CORP.values(), stdout=subprocess.PIPE, log="quic.log"
    )
    assert server.popen.stdout is not None
    assert server.popen.stdout.readline() == b"ready\n"
    yield certificate
    server.kill()


@both
def test_two_megabytes_there_and_back(through: Through, authority: Path, version: int) -> None:
    output = through.run(*PEER, "ask", str(authority), CORP[version], str(PORT), str(SIZE)).check()
    report = json.loads(output.stdout)
    assert report["bytes"] == SIZE
    assert report["received"] == report["sent"]


def test_a_certificate_of_somebody_else_is_refused(through: Through, authority: Path, tmp_path: Path) -> None:
    other, _key = certify(tmp_path)
    shared = authority.with_name("other.crt")
    shared.write_bytes(other.read_bytes())
    output = through.run(*PEER, "ask", str(shared), CORP[4], str(PORT), "1000")
    assert output.code != 0
    assert "self-signed" in output.stderr or "certificate" in output.stderr.lower(), output.stderr
