"""Subjects of certificates as they are written, in DER.

cryptography turns a subject into Python strings, and refuses some that OpenSSL takes, and so every SPICE client: T61String with
Latin-1 in it, as OpenSSL wrote umlauts for many years. So the bytes are read here, and go into another certificate as they are. Sources: RFC 5280, 4.1 and 4.1.2.4; X.690; OpenSSL's ASN1_STRING_to_UTF8().
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptography import x509

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OBJECT_IDENTIFIER: Final = 0x06
_BIT_STRING: Final = 0x03
_VERSION: Final = 0xA0
_LONG: Final = 0x80  # of a length: the other bits count the bytes that have it
# How OpenSSL reads text. What else there is it compares by its bytes only.
_ENCODINGS: Final = {
    0x0C: "utf-8", 0x13: "latin-1", 0x14: "latin-1", 0x16: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be",
}  # fmt: skip


class Attribute(NamedTuple):
    """One entry of a subject."""

    key: str  # dotted number
    value: str | bytes  # bytes: no text


class Subject(NamedTuple):
    """A subject as it is in a certificate."""

    der: bytes
    parts: tuple[tuple[Attribute, ...], ...]  # nearly always of one entry each


def read_subject(certificate: x509.Certificate) -> Subject:
    """The subject of a certificate.

    Raises:
        ValueError: It cannot be read.
    """
    parts = _parts(certificate.tbs_certificate_bytes)
    der = parts[_subject_at(parts)]
    return Subject(der, tuple(_entries(part) for part in _contents(_only(der, _SEQUENCE), _SET)))


def with_subject(tbs: bytes, subject: bytes) -> bytes:
    """What is signed of a certificate (its TBSCertificate), with another subject."""
    parts = _parts(tbs)
    parts[_subject_at(parts)] = subject
    return element(_SEQUENCE, *parts)


def signed(tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """A certificate.

    Args:
        tbs: What is signed.
        algorithm: By what, as in `signature_algorithm_of`.
        signature: The signature.
    """
    return element(_SEQUENCE, tbs, algorithm, element(_BIT_STRING, b"\0", signature))


def signature_algorithm_of(tbs: bytes) -> bytes:
    """The algorithm that a TBSCertificate names."""
    parts = _parts(tbs)
    return parts[_subject_at(parts) - 3]


def element(tag: int, *contents: bytes) -> bytes:
    """An element with these contents."""
    size = sum(map(len, contents))
    count = (size.bit_length() + 7) // 8
    length = bytes([size]) if size < _LONG else bytes([_LONG | count]) + size.to_bytes(count)
    return bytes([tag]) + length + b"".join(contents)


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, contents, and the whole of each element."""
    at = 0
    while at < len(data):
        start = at + 2
        size = int.from_bytes(data[at + 1 : start])
        if size & _LONG:
            size, start = int.from_bytes(data[start : start + (size & ~_LONG)]), start + (size & ~_LONG)
        if start + size > len(data):
            raise ValueError("the certificate's subject is cut off")
        yield data[at], data[start : start + size], data[at : start + size]
        at = start + size


def _parts(tbs: bytes) -> list[bytes]:
    return [whole for _, _, whole in _elements(_only(tbs, _SEQUENCE))]


def _subject_at(parts: list[bytes]) -> int:
    """Behind version (if it is said), serial number, signature, issuer and validity."""
    at = 5 if parts and parts[0][0] == _VERSION else 4
    if at >= len(parts):
        raise ValueError("the certificate has no subject")
    return at


def _contents(data: bytes, tag: int) -> Iterator[bytes]:
    for found, contents, _ in _elements(data):
        if found != tag:
            raise ValueError("the certificate's subject cannot be read")
        yield contents


def _only(data: bytes, tag: int) -> bytes:
    (contents,) = _contents(data, tag)
    return contents


def _entries(part: bytes) -> tuple[Attribute, ...]:
    return tuple(_entry(entry) for entry in _contents(part, _SEQUENCE))


def _entry(entry: bytes) -> Attribute:
    (kind, key, _), (tag, value, _) = _elements(entry)
    if kind != _OBJECT_IDENTIFIER or not key:
        raise ValueError("the certificate's subject has an entry without a key")
    encoding = _ENCODINGS.get(tag)
    return Attribute(_dotted(key), value if encoding is None else value.decode(encoding))


def _dotted(key: bytes) -> str:
    """X.690, 8.19: numbers of 7 bits a byte, the first two of them in one."""
    numbers, number = [], 0
    for byte in key:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        raise ValueError("the certificate's subject has a key without an end")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
