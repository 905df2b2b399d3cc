"""Subjects as they are written: whatever OpenSSL takes is read as it reads it, and kept to the byte."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.tls.authority import Authority
from spiceproxy.tls.der import element, read_subject, with_subject
from spiceproxy.tls.names import is_subject, render_subject, written_subject
from tests.tls.certificates import server_context, trusting, write_pair

AUTHORITY = Authority.new()
KEY = ec.generate_private_key(ec.SECP256R1())
ORG, CN, C = "0603 55040a", "0603 550403", "0603 550406"  # 2.5.4.10, 2.5.4.3, 2.5.4.6
UTF8, NUMERIC, PRINTABLE, T61, IA5, UNIVERSAL, BMP = 0x0C, 0x12, 0x13, 0x14, 0x16, 0x1C, 0x1E


def entry(key: str, tag: int, value: bytes) -> bytes:
    return element(0x30, bytes.fromhex(key), element(tag, value))


def name(*parts: bytes | tuple[bytes, ...]) -> bytes:
    sets = [element(0x31, *(part if isinstance(part, tuple) else (part,))) for part in parts]
    return element(0x30, *sets)


KVM1 = entry(CN, UTF8, b"kvm1")
# Of each: the subject, as clients are told it, or None if there is no such text.
READ: dict[str, tuple[bytes, str | None]] = {
    "T61String, Latin-1": (name(entry(ORG, T61, b"M\xfcller"), KVM1), "O=Müller,CN=kvm1"),
    "BMPString": (name(entry(ORG, BMP, "Müller".encode("utf-16-be")), KVM1), "O=Müller,CN=kvm1"),
    "UniversalString": (name(entry(ORG, UNIVERSAL, "Müller".encode("utf-32-be")), KVM1), "O=Müller,CN=kvm1"),
    "UTF8String": (name(entry(ORG, UTF8, "東京".encode()), KVM1), "O=東京,CN=kvm1"),
    "IA5String": (name(entry(ORG, IA5, b"Red Hat"), KVM1), "O=Red Hat,CN=kvm1"),
    "PrintableString": (name(entry(CN, PRINTABLE, b"kvm1.example")), "CN=kvm1.example"),
    "a country of three": (name(entry(C, PRINTABLE, b"DEU"), KVM1), "C=DEU,CN=kvm1"),
    "a long name": (name(entry(CN, UTF8, b"k" * 300)), "CN=" + "k" * 300),
    "a key nobody knows": (name(entry("0604 2a03ff7f", UTF8, b"v"), KVM1), "1.2.3.16383=v,CN=kvm1"),
    "a key of the third tree": (name(entry("0602 8837", UTF8, b"v")), "2.999=v"),
    "commas": (name(entry(ORG, UTF8, b"a,b\\c"), KVM1), r"O=a\,b\\c,CN=kvm1"),
    "without entries": (name(), ""),
    "two entries in one": (name((entry(ORG, UTF8, b"x"), KVM1)), None),
    "an empty value": (name(entry(ORG, UTF8, b""), KVM1), None),
    "no text": (name(entry(ORG, NUMERIC, b"42"), KVM1), None),
}


def issued(subject: bytes) -> x509.Certificate:
    return AUTHORITY.issue(subject, [x509.DNSName("kvm1")], KEY)


@pytest.mark.parametrize(("subject", "text"), READ.values(), ids=READ)
def test_a_subject_is_read_as_clients_do_and_kept_to_the_byte(subject: bytes, text: str | None) -> None:
    theirs = issued(subject)
    assert read_subject(theirs).der == subject
    assert written_subject(theirs) == text
    assert read_subject(issued(read_subject(theirs).der)).der == subject
    if text is not None:
        assert is_subject(theirs, text.upper().replace("KVM", "kvm") if text.isascii() else text)


@pytest.mark.parametrize("kind", [kind for kind in READ if kind != "no text"])
def test_openssl_takes_the_certificate_and_reads_the_same(kind: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "odd", AUTHORITY, READ[kind][0])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(*pair).wrap_bio(there, back, server_side=True)
    client = trusting(AUTHORITY).wrap_bio(back, there)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = client.getpeercert()
    assert shown is not None
    values = [[each[1] for each in part] for part in shown["subject"]]
    certificate = x509.load_pem_x509_certificate(pair[0].read_bytes())
    assert values == [[value for _, value in part] for part in read_subject(certificate).parts]


WRONG = {
    "UTF-8 that is none": name(entry(CN, UTF8, b"\xff")),
    "an entry without a key": name(element(0x30, element(UTF8, b"kvm1"), element(UTF8, b"kvm1"))),
    "an entry with an empty key": name(element(0x30, element(6), element(UTF8, b"kvm1"))),
    "a key without an end": name(element(0x30, element(6, b"\xff"), element(UTF8, b"kvm1"))),
    "no set": element(0x30, KVM1),
    "no sequence": element(0x31),
    "cut off": b"\x30\x7f\x00",
}


def spoilt(subject: bytes) -> x509.Certificate:
    """cryptography reads subjects when it is asked for them, and so do we."""

    class Certificate:
        tbs_certificate_bytes = with_subject(issued(name(KVM1)).tbs_certificate_bytes, subject)

    return Certificate()  # type: ignore[return-value]  # all that is looked at


@pytest.mark.parametrize("subject", WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_one_kind_of_error(subject: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_subject(spoilt(subject))


@given(st.binary(max_size=64))
def test_nothing_that_a_server_writes_raises_anything_else(subject: bytes) -> None:
    try:
        found = read_subject(spoilt(subject))
    except ValueError:
        return
    render_subject(found)


def test_a_certificate_without_a_subject_is_an_error() -> None:
    with pytest.raises(ValueError, match="no subject"):
        with_subject(element(0x30, element(2, b"\1")), name(KVM1))
