"""The proxy's own certificate authority: made once, kept with its owner, and what it signs is gone with the process."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiceproxy.errors import UsageError
from spiceproxy.tls import der

CA_YEARS: Final = 10
# What clients accept of server certificates today (CA/Browser Forum: 398 days).
LEAF_DAYS: Final = 397
# A subject without entries.
_EMPTY: Final = x509.Name([]).public_bytes()
# Clocks of client and proxy differ.
_BACK: Final = timedelta(days=1)

CERTIFICATE_FILE: Final = "ca.pem"
KEY_FILE: Final = "ca-key.pem"

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def data_directory() -> Path:
    """Where the user's own CA is: `spiceproxy` in the user's data directory (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local/share") / "spiceproxy"


class Authority:
    """A CA that signs certificates of servers.

    Args:
        certificate: Of the CA.
        key: Its private key.
        above: The CAs that have signed it, each by the next.
    """

    def __init__(
        self, certificate: x509.Certificate, key: SigningKey, above: Sequence[x509.Certificate] = ()
    ) -> None:
        self.certificate, self._key, self._above = certificate, key, tuple(above)

    @property
    def pem(self) -> bytes:
        """The certificate, and those of the CAs above it, for clients."""
        return b"".join(
            each.public_bytes(serialization.Encoding.PEM) for each in (self.certificate, *self._above)
        )

    @property
    def trusted(self) -> bytes | None:
        """What clients have to trust: `pem`, if it goes up to a CA that nobody else has signed; else None."""
        last = (self.certificate, *self._above)[-1]
        return self.pem if last.issuer == last.subject else None

    @classmethod
    def new(cls) -> "Authority":
        """Make a CA."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"spiceproxy CA {now:%Y-%m-%d %H:%M:%S}")])
        usage = _usage(key_cert_sign=True, crl_sign=True)
        public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(name, name, key, now, timedelta(days=365 * CA_YEARS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(public, critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate: Path, key: Path) -> "Authority":
        """Read a CA from PEM files.

        Raises:
            UsageError: They cannot be read, do not belong together, are not a CA's, or it has expired.
        """
        ca, *above = read_certificates(certificate)
        try:
            private = serialization.load_pem_private_key(key.read_bytes(), password=None)
        except OSError as error:
            raise UsageError(f"cannot read {key}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it needs a password
            raise UsageError(f"{key} is no private key in PEM without a password") from None
        if not isinstance(private, SigningKey):
            raise UsageError(f"{key}: the key of a CA is RSA or elliptic-curve here")
        if private.public_key() != ca.public_key():
            raise UsageError(f"{key} is not the key of {certificate}")
        try:
            is_ca = ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, ValueError):
            is_ca = False
        if not is_ca:
            raise UsageError(f"{certificate} is no CA's certificate: it must not sign others")
        if ca.not_valid_after_utc <= datetime.now(UTC):
            raise UsageError(
                f"the CA in {certificate} has expired; `spiceproxy ca renew` makes one of your own anew"
            )
        return cls(ca, private, above)

    def issue(
        self, subject: x509.Name | bytes, names: Sequence[x509.GeneralName], key: ec.EllipticCurvePrivateKey
    ) -> x509.Certificate:
        """Sign a server's certificate.

        Args:
            subject: As it is to appear; bytes are a Name in DER, and stay as they are.
            names: Alternative names.
            key: The server's key pair.
        """
        life = min(timedelta(days=LEAF_DAYS), self.certificate.not_valid_after_utc - datetime.now(UTC))
        written = subject if isinstance(subject, bytes) else subject.public_bytes()
        builder = (
            _builder(x509.Name([]), self.certificate.subject, key, datetime.now(UTC), life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names:
            alternative = x509.SubjectAlternativeName(names)
            builder = builder.add_extension(alternative, critical=written == _EMPTY)
        tbs = builder.sign(self._key, hashes.SHA256()).tbs_certificate_bytes
        tbs = der.with_subject(tbs, written)
        return x509.load_der_x509_certificate(
            der.signed(tbs, der.signature_algorithm_of(tbs), self._signature(tbs))
        )

    def _signature(self, data: bytes) -> bytes:
        """As `CertificateBuilder.sign` makes it."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK)
        .not_valid_after(now + life)
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**(dict.fromkeys(names, False) | wanted))


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one.

    Raises:
        UsageError: There is none, or one that cannot be read.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} is no certificate in PEM") from None


class Store:
    """The CA of the user: a certificate and a key in a directory that only its owner can look into.

    Args:
        directory: Where they are, or are to be.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = data_directory() if directory is None else directory
        self.certificate, self.key = self.directory / CERTIFICATE_FILE, self.directory / KEY_FILE

    @property
    def exists(self) -> bool:
        """Whether there is a CA."""
        return self.certificate.exists() and self.key.exists()

    def open(self) -> Authority:
        """The CA; a new one if there is none.

        Raises:
            UsageError: It cannot be read or made, has expired, or others may read its key.
        """
        with self._locked():
            if not self.exists:
                return self._make()
            if self.key.stat().st_mode & 0o077:
                raise UsageError(
                    f"others may read {self.key}: `chmod 600` it if nobody has, or make a new CA with `spiceproxy ca renew`"
                )
            return Authority.load(self.certificate, self.key)

    def renew(self) -> Authority:
        """A new CA in the place of the old one, whose key is gone.

        Raises:
            UsageError: It cannot be written.
        """
        with self._locked():
            return self._make()

    def _make(self) -> Authority:
        authority = Authority.new()
        key = authority._key.private_bytes(  # noqa: SLF001  nobody else is given it
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._write(self.key, key)
        self._write(self.certificate, authority.pem)
        return authority

    def _write(self, path: Path, data: bytes) -> None:
        """Mode 0600 from the beginning on, and whole or not at all."""
        descriptor, name = tempfile.mkstemp(dir=self.directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two proxies that start at once make one CA."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UsageError(f"cannot keep a CA in {self.directory}: {error.strerror}") from None
