"""Both ends of the proxy's TLS: files that will not do, and what is made for whom."""

from datetime import UTC, datetime, timedelta, tzinfo
from ipaddress import ip_address
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtensionOID, NameOID

from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.ends import MAX_KEPT, Peer, Tls
from spiceproxy.tls.names import named
from spiceproxy.tls.settings import FixedCertificate, TlsConfig
from spiceproxy.tls.stream import TlsError
from tests.tls.certificates import PEM, write_pair

KVM1 = Peer(Address("kvm1.example", 5901), None)


def refused(config: TlsConfig) -> str:
    with pytest.raises(UsageError) as caught:
        Tls(config)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_files_that_will_not_do_are_told_in_one_line(tmp_path: Path) -> None:
    ours, empty, locked = Authority.new(), tmp_path / "empty", tmp_path / "locked"
    empty.touch()
    pair = write_pair(tmp_path, "leaf", ours)
    other = write_pair(tmp_path, "other", ours)
    key = load_pem_private_key(pair[1].read_bytes(), None)
    locked.write_bytes(key.private_bytes(PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    assert "empty has no certificate in PEM" in refused(TlsConfig(server_ca=empty))
    assert "cannot read" in refused(TlsConfig(server_ca=tmp_path / "none"))
    for certificate, private in ((empty, pair[1]), (pair[0], empty), (pair[0], other[1]), (pair[0], locked)):
        reason = refused(TlsConfig(certificate=FixedCertificate(certificate, private)))
        assert "no certificate and its key in PEM without a password" in reason
    assert "cannot read" in refused(TlsConfig(certificate=FixedCertificate(tmp_path / "none", pair[1])))


def test_a_server_that_is_not_known_yet_has_the_subject_that_it_was_announced_with() -> None:
    tls = Tls(TlsConfig())
    for subject, shown in (
        ("O=x,CN=kvm1", "O=x,CN=kvm1"),
        (None, "CN=kvm1.example"),
        ("C=too long", "CN=kvm1.example"),
    ):
        peer = Peer(KVM1.address, subject)
        assert tls.subject_of(peer) is None
        assert tls._subject(peer) == named(shown).public_bytes()


def test_a_certificate_has_the_addresses_by_which_it_is_looked_for() -> None:
    names = Tls(TlsConfig())._names(KVM1, "192.0.2.1")
    assert names == [x509.IPAddress(ip_address("192.0.2.1")), x509.DNSName("kvm1.example")]
    assert Tls(TlsConfig())._names(KVM1, "192.0.2.1", "bücher.example") == names


def test_a_server_that_counts_for_its_common_names_still_does(tmp_path: Path) -> None:
    """Nobody looks at them where there are alternative names."""
    tls = Tls(TlsConfig())
    for subject, theirs, kept in (
        ("O=x,CN=kvm1,CN=192.0.2.7,CN=not a host", (), [x509.DNSName("kvm1"), x509.IPAddress(ip_address("192.0.2.7"))]),
        ("O=x,CN=kvm1", (x509.RFC822Name("a@b"),), [x509.DNSName("kvm1")]),
        ("O=x,CN=kvm1", (x509.DNSName("other"),), []),
    ):  # fmt: skip
        pair = write_pair(tmp_path, "server", Authority.new(), subject, theirs)
        tls._known[KVM1] = x509.load_pem_x509_certificate(pair[0].read_bytes())
        ours = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("kvm1.example")]
        assert tls._names(KVM1, "127.0.0.1") == [*theirs, *ours, *kept]


def test_a_subject_that_clients_cannot_be_told_is_none(tmp_path: Path) -> None:
    name = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "kvm1"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")]
    )
    pair = write_pair(tmp_path, "server", Authority.new(), x509.Name([name]))
    tls = Tls(TlsConfig())
    tls._known[KVM1] = x509.load_pem_x509_certificate(pair[0].read_bytes())
    assert tls.subject_of(KVM1) is None
    fixed = Tls(TlsConfig(certificate=FixedCertificate(*pair)))
    fixed._known[KVM1] = tls._known[KVM1]
    assert fixed.subject_of(KVM1) is None


class Shown:
    """A connection whose server has shown this."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def certificate(self) -> bytes:
        return self._der


def test_a_certificate_that_only_openssl_can_read_is_not_believed() -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000"))
    name = named("CN=kvm1.example")
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(odd, critical=False)  # an X.400 address
        .sign(key, hashes.SHA256())
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    version = der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020107"))
    for shown, reason in (
        (der, "alternative names cannot be read"),
        (version, "certificate cannot be read"),
        (b"", "certificate cannot be read"),
    ):
        with pytest.raises(TlsError, match=reason):
            Tls(TlsConfig())._learn(KVM1, Shown(shown))  # type: ignore[arg-type]  # all that is asked for
    careless = Tls(TlsConfig(insecure=True))
    careless._learn(KVM1, Shown(der))  # type: ignore[arg-type]
    assert careless.subject_of(KVM1) == "CN=kvm1.example"
    assert careless._names(KVM1, "kvm1.example") == [x509.DNSName("kvm1.example")]


def test_what_is_kept_of_servers_is_bounded() -> None:
    tls = Tls(TlsConfig())
    for number in range(MAX_KEPT + 10):
        tls._context_for(Peer(Address("kvm", number + 1), f"CN=s{number}"), "127.0.0.1")
    assert len(tls._shown) == MAX_KEPT
    last = Peer(Address("kvm", MAX_KEPT + 10), f"CN=s{MAX_KEPT + 9}")
    assert tls._context_for(last, "127.0.0.1") is tls._context_for(last, "127.0.0.1")


def test_a_certificate_from_before_the_clock_was_set_back_is_not_shown_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls, peer = Tls(TlsConfig()), Peer(KVM1.address, "CN=kvm1")
    shown = tls._context_for(peer, "127.0.0.1")
    valid_from, now = tls._shown[peer, "127.0.0.1", ""][1], datetime.now(UTC)
    assert valid_from < now

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(valid_from.timestamp() - 1, tz)

    monkeypatch.setattr("spiceproxy.tls.ends.datetime", SetBack)
    assert tls._context_for(peer, "127.0.0.1") is not shown
