"""The proxy's own CA: with its owner, and nobody else."""

import os
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.verification import PolicyBuilder
from cryptography.x509.verification import Store as Trusted

from spiceproxy.address import Address
from spiceproxy.cli import cli
from spiceproxy.errors import UsageError
from spiceproxy.tls import authority as module
from spiceproxy.tls.authority import Authority, Store, data_directory
from spiceproxy.tls.ends import Peer, Tls
from spiceproxy.tls.names import named
from spiceproxy.tls.settings import TlsConfig
from tests.tls.certificates import PEM, trusting, write_pair


def test_what_it_signs_is_a_servers_certificate_that_browsers_would_take() -> None:
    ours, key = Authority.new(), ec.generate_private_key(ec.SECP256R1())
    leaf = ours.issue(named("CN=kvm1"), [x509.DNSName("kvm1")], key)
    verifier = PolicyBuilder().store(Trusted([ours.certificate])).build_server_verifier(x509.DNSName("kvm1"))
    assert verifier.verify(leaf, []) == [leaf, ours.certificate]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=398)


def test_it_signs_nothing_that_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CA_YEARS", 0.01)
    ours = Authority.new()
    leaf = ours.issue(named("CN=kvm1"), [], ec.generate_private_key(ec.SECP256R1()))
    assert abs(leaf.not_valid_after_utc - ours.certificate.not_valid_after_utc) <= timedelta(seconds=2)


def test_it_is_made_once_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    os.umask(umask := os.umask(0))  # whatever it is
    try:
        os.umask(0)
        store = Store(tmp_path / "deep" / "spiceproxy")
        first = store.open()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in sorted(store.directory.iterdir())] == [0o600, 0o600]
    assert Store(store.directory).open().pem == first.pem


def test_who_starts_at_the_same_time_finds_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: Store(tmp_path / "ca").open().pem, range(8)))
    assert len(found) == 1


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.open()
    store.key.chmod(0o640)
    with pytest.raises(UsageError, match=r"others may read .*chmod 600"):
        store.open()


def test_one_that_has_expired_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(module, "CA_YEARS", 0)
    store.renew()
    with pytest.raises(UsageError, match="has expired; `spiceproxy ca renew`"):
        store.open()


def test_a_new_one_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = store.open()
    new = store.renew()
    assert old.pem != new.pem == store.open().pem


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot keep a CA in"):
        Store(tmp_path / "file" / "below").open()


def test_it_is_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_directory() == tmp_path / "spiceproxy"
    monkeypatch.setenv("XDG_DATA_HOME", "relative is not allowed")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory() == tmp_path / ".local/share/spiceproxy"


def private(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    password: bytes | None = None,
) -> bytes:
    how = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how)


def test_one_of_the_users_with_an_rsa_key_is_used(tmp_path: Path) -> None:
    key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)
    name = named("CN=Ours")
    ca = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca").write_bytes(ca.public_bytes(PEM))
    (tmp_path / "key").write_bytes(private(key))
    ours = Authority.load(tmp_path / "ca", tmp_path / "key")
    leaf = ours.issue(named("CN=kvm1"), [], ec.generate_private_key(ec.SECP256R1()))
    leaf.verify_directly_issued_by(ca)


def ca_of(
    name: str, by: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None, days: int = 30
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A CA of its own, or of another one."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) - timedelta(days=60)
    issuer, signing = (named(name), key) if by is None else (by[0].subject, by[1])
    return (
        x509.CertificateBuilder(
            issuer, named(name), key.public_key(), 1, now, now + timedelta(days=60 + days)
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signing, hashes.SHA256())
    ), key


def test_one_that_another_ca_has_signed_is_used_with_what_is_above_it(tmp_path: Path) -> None:
    """A client trusts the CA at the top, and is shown how one comes there."""
    top = ca_of("CN=Top")
    middle = ca_of("CN=Middle", top)
    (tmp_path / "key").write_bytes(private(middle[1]))
    (tmp_path / "ca").write_bytes(middle[0].public_bytes(PEM))
    alone = Authority.load(tmp_path / "ca", tmp_path / "key")
    assert alone.trusted is None
    (tmp_path / "ca").write_bytes(middle[0].public_bytes(PEM) + top[0].public_bytes(PEM))
    ours = Authority.load(tmp_path / "ca", tmp_path / "key")
    assert ours.trusted == ours.pem == (tmp_path / "ca").read_bytes()
    context = Tls(TlsConfig(certificate=ours))._context_for(Peer(Address("kvm1", 1), None), "127.0.0.1")
    client = trusting(Authority(*top))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = client.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    for side in (*sides, *sides):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert sides[0].getpeercert()


def test_what_is_no_ca_is_told_in_one_line(tmp_path: Path) -> None:
    ours, store = Authority.new(), Store(tmp_path / "ca")
    store.open()
    pair = write_pair(tmp_path, "leaf", ours)
    gone = ca_of("CN=Old", days=-1)
    old = tmp_path / "old", tmp_path / "old-key"
    old[0].write_bytes(gone[0].public_bytes(PEM))
    old[1].write_bytes(private(gone[1]))
    empty, locked, other = tmp_path / "empty", tmp_path / "locked", tmp_path / "other"
    empty.touch()
    locked.write_bytes(private(rsa.generate_private_key(65537, 2048), b"secret"))
    other.write_bytes(private(ed25519.Ed25519PrivateKey.generate()))
    for certificate, key, reason in (
        (tmp_path / "none", store.key, "cannot read .*none: No such file"),
        (store.certificate, tmp_path / "none", "cannot read .*none: No such file"),
        (empty, store.key, "empty is no certificate in PEM"),
        (store.certificate, empty, "empty is no private key in PEM without a password"),
        (store.certificate, locked, "locked is no private key in PEM without a password"),
        (store.certificate, other, "RSA or elliptic-curve"),
        (store.certificate, pair[1], "is not the key of"),
        (*pair, "is no CA's certificate"),
        (*old, "old has expired"),
    ):
        with pytest.raises(UsageError, match=reason) as caught:
            Authority.load(certificate, key)
        assert len(str(caught.value).splitlines()) == 1


def test_the_command_shows_it_and_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    run = CliRunner().invoke
    path = run(cli, ["ca", "path"]).output.strip()
    first = Path(path).read_bytes()
    shown = run(cli, ["ca", "show", "--pem"]).output
    assert path in shown
    assert first.decode() in shown
    assert x509.load_pem_x509_certificate(first).fingerprint(hashes.SHA256()).hex(":").upper() in shown
    renewed = run(cli, ["ca", "renew", "--yes"])
    assert renewed.exit_code == 0
    assert Path(path).read_bytes() != first
    assert "PRIVATE" not in shown + renewed.output
