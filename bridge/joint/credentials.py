"""What an end proves by: a pre-shared key, or a certificate with the authority that signs the other end's.

With a key alone, the listening end makes a certificate for itself at start, which nobody checks: the proof binds the
key to it (:mod:`.proof`). With certificates, TLS checks both ends'; with both, both.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ..errors import UsageError
from .place import Place

NAME = "netbridge-link"
LIFE = dt.timedelta(days=3650)
"""Nobody looks: it lives as long as the process."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whatever of it is None is not used. `checked` says whether it is enough."""

    psk: bytes | None = field(default=None, repr=False)
    cert: str | None = None
    """File: this end's certificate, and those between it and the authority (PEM)."""
    key: str | None = None
    """File: the certificate's private key (PEM)."""
    ca: str | None = None
    """File: the authorities that the other end's certificate is signed by (PEM)."""

    @property
    def certified(self) -> bool:
        """Both ends show certificates."""
        return self.cert is not None

    def checked(self, place: Place) -> None:
        """Raises UsageError for what would leave an end open, or is not for this way."""
        files = (self.cert, self.key, self.ca)
        if any(files) and not all(files):
            raise UsageError(
                "The certificates are not complete.", "Both ends are checked, which takes all three of them.",
                "Name --cert, --key and --ca.",
            )
        if self.certified and place.scheme not in {"tcp+tls", "wss"}:
            raise UsageError(
                f"{place.scheme} goes without certificates.", "Its other end could not be asked for one.",
                "Leave --cert, --key and --ca out, and use --psk.",
            )
        if self.psk is None and not self.certified and place.scheme in {"tcp+tls", "wss", "quic", "libp2p"}:
            certificates = ", or --cert, --key and --ca" if place.scheme in {"tcp+tls", "wss"} else ""
            raise UsageError(
                f"{place} would be open to everybody.", "Nothing says who may be at the other end.",
                f"Make a key by `netbridge link key FILE`, and give --psk FILE on both ends{certificates}.",
            )

    def server(self) -> tuple[ssl.SSLContext, bytes]:
        """TLS of the listening end, and the binding of its certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0  # every session is a whole handshake: certificates are checked anew
        if self.certified:
            assert self.cert is not None
            self._load(context)
            context.verify_mode = ssl.CERT_REQUIRED
            first = x509.load_pem_x509_certificates(Path(self.cert).read_bytes())[0]
            return context, fingerprint(first.public_bytes(Encoding.DER))
        made = own_certificate()
        made.into(context)
        return context, made.binding

    def client(self) -> ssl.SSLContext:
        """TLS of the connecting end."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self.certified:
            self._load(context)
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the proof says who it is, or nothing is said at all
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        assert self.cert is not None
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
            context.load_verify_locations(self.ca)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise UsageError(
                "The certificates cannot be used.", f"{error}.",
                "Name files in PEM: --cert and its --key, without a password, and --ca.",
            ) from error


def _no_password() -> str:
    raise ValueError("the private key has a password, and nobody is here to be asked")


@dataclass(frozen=True, slots=True)
class Own:
    """A certificate made here, signed by itself."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def binding(self) -> bytes:
        """Of a proof."""
        return fingerprint(self.certificate.public_bytes(Encoding.DER))

    def into(self, context: ssl.SSLContext) -> None:
        """Have TLS use it. Python's ssl reads files only; they are gone when this returns."""
        with tempfile.TemporaryDirectory() as folder:  # nobody else may enter it
            file = Path(folder, "pem")
            file.write_bytes(
                self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                + self.certificate.public_bytes(Encoding.PEM)
            )
            context.load_cert_chain(file)


def own_certificate() -> Own:
    """A new one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + LIFE)
        .sign(key, SHA256())
    )  # fmt: skip
    return Own(certificate, key)


def fingerprint(der: bytes) -> bytes:
    """SHA-256 of a certificate (RFC 5929, section 4.1)."""
    return hashlib.sha256(der).digest()
