"""Whose certificate it is, judged as SPICE clients do. Source: spice-common ssl_verify.c; OpenSSL's X509_NAME_cmp().

A subject is written KEY=value,KEY=value, in the certificate's order, with a backslash before commas and backslashes. Two are
the same if keys and values are, but for letter case and blanks.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from spiceproxy.tls.der import Subject, read_subject

# As OpenSSL abbreviates them, then as it writes them out. Everything else is read and written as a dotted number.
_SHORT: Final = {
    "C": NameOID.COUNTRY_NAME, "ST": NameOID.STATE_OR_PROVINCE_NAME, "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME,
    "emailAddress": NameOID.EMAIL_ADDRESS, "DC": NameOID.DOMAIN_COMPONENT, "UID": NameOID.USER_ID,
    "SN": NameOID.SURNAME, "GN": NameOID.GIVEN_NAME, "initials": NameOID.INITIALS, "title": NameOID.TITLE,
    "serialNumber": NameOID.SERIAL_NUMBER, "street": NameOID.STREET_ADDRESS, "postalCode": NameOID.POSTAL_CODE,
    "dnQualifier": NameOID.DN_QUALIFIER, "pseudonym": NameOID.PSEUDONYM, "generationQualifier": NameOID.GENERATION_QUALIFIER,
    "businessCategory": NameOID.BUSINESS_CATEGORY, "organizationIdentifier": NameOID.ORGANIZATION_IDENTIFIER,
}  # fmt: skip
_LONG: Final = {
    "countryName": NameOID.COUNTRY_NAME, "stateOrProvinceName": NameOID.STATE_OR_PROVINCE_NAME,
    "localityName": NameOID.LOCALITY_NAME, "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationalUnitName": NameOID.ORGANIZATIONAL_UNIT_NAME, "commonName": NameOID.COMMON_NAME,
    "domainComponent": NameOID.DOMAIN_COMPONENT, "userId": NameOID.USER_ID, "surname": NameOID.SURNAME,
    "givenName": NameOID.GIVEN_NAME, "streetAddress": NameOID.STREET_ADDRESS,
}  # fmt: skip
_KEYS: Final = _SHORT | _LONG
_LETTERS: Final = {oid.dotted_string: key for key, oid in _SHORT.items()}
_DOTTED: Final = re.compile(r"[0-2](\.[0-9]{1,18}){1,32}")
# A name with more wildcards is none that a person wrote, and comparing it would cost.
_MAX_WILDCARDS: Final = 4

Entry = tuple[str, str]  # dotted number of the key, value


def parse_subject(text: str) -> list[Entry]:
    """Read a subject.

    Raises:
        ValueError: It is none, in words of one line.
    """
    entries: list[Entry] = []
    key, value = "", None
    letters = iter(f"{text}\0")
    for letter in letters:
        escaped = letter == "\\"
        if escaped:
            letter = next(letters, "\0")  # noqa: PLW2901
            if letter not in "\\,":
                raise ValueError(f"subject {text!r}: a backslash stands before a comma or a backslash only")
        ends = not escaped and letter in ",\0"
        if value is None:
            if ends:
                if key or letter == ",":
                    raise ValueError(
                        f"subject {text!r}: {key or 'an empty entry'} has no value; write KEY=value"
                    )
            elif letter == "=" and not escaped:
                value = ""
            elif letter != " " or key:
                key += letter
        elif ends:
            if not value:
                raise ValueError(f"subject {text!r}: {key} has no value")
            entries.append((_number(text, key), value))
            key, value = "", None
        else:
            value += letter
    return entries


def _number(text: str, key: str) -> str:
    if key in _KEYS:
        return _KEYS[key].dotted_string
    if _DOTTED.fullmatch(key):
        return key
    raise ValueError(
        f"subject {text!r}: {key!r} is no key; C, ST, L, O, OU, CN, emailAddress and DC are some"
    )


def render_subject(subject: Subject) -> str:
    """Write a subject as clients and QEMU take it, as far as it can be written: `is_subject` says whether it is."""

    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace(",", "\\,")

    return ",".join(
        f"{_LETTERS.get(key, key)}={escape(value if isinstance(value, str) else value.hex())}"
        for part in subject.parts
        for key, value in part
    )


def written_subject(certificate: x509.Certificate) -> str | None:
    """The subject as clients take it, or None if they cannot be told it: with several entries in one, or an empty one.

    Raises:
        ValueError: It cannot be read.
    """
    text = render_subject(read_subject(certificate))
    try:
        return text if is_subject(certificate, text) else None
    except ValueError:  # it reads as none
        return None


def named(text: str) -> x509.Name:
    """A name for a certificate, from a subject.

    Raises:
        ValueError: It is no subject, or cannot stand in a certificate.
    """
    return x509.Name(
        [x509.NameAttribute(x509.ObjectIdentifier(key), value) for key, value in parse_subject(text)]
    )


def is_subject(certificate: x509.Certificate, text: str) -> bool:
    """Whether the certificate has this subject.

    Raises:
        ValueError: It is no subject, or the certificate's cannot be read.
    """
    wanted = [((key, _canonical(value)),) for key, value in parse_subject(text)]
    found = [
        tuple((key, _canonical(value)) for key, value in part) for part in read_subject(certificate).parts
    ]
    return wanted == found


def is_host(certificate: x509.Certificate, host: str) -> bool:
    """Whether the certificate is of this host: its alternative names say so, or, without any, its common name.

    Raises:
        ValueError: The certificate's names cannot be read.
    """
    names = alternative_names(certificate)
    hosts = [name.value for name in names if isinstance(name, x509.DNSName)]
    addresses = [name.value for name in names if isinstance(name, x509.IPAddress)]
    if not hosts and not addresses:
        hosts = common_names(certificate)
    try:
        return ip_address(host) in addresses or any(_fits(name, host) for name in hosts)
    except ValueError:
        return any(_fits(name, host) for name in hosts)


def common_names(certificate: x509.Certificate) -> list[str]:
    """The common names in the subject.

    Raises:
        ValueError: It cannot be read.
    """
    return [
        value
        for part in read_subject(certificate).parts
        for key, value in part
        if key == NameOID.COMMON_NAME.dotted_string and isinstance(value, str)
    ]


def alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The certificate's alternative names; none if they are not well-formed, which is what OpenSSL makes of that.

    Raises:
        ValueError: They are, and cannot be read all the same.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"the certificate's alternative names cannot be read: {error}") from None
    return list(found.value)


def identities(host: str) -> Iterator[x509.GeneralName]:
    """What a certificate has to name for a client that connects to `host`."""
    try:
        yield x509.IPAddress(ip_address(host))
    except ValueError:
        if host.isascii():
            yield x509.DNSName(host)


def _fits(pattern: str, host: str) -> bool:
    """A wildcard stands for a part of a label; there may be several."""
    if pattern.count("*") > _MAX_WILDCARDS:
        return False
    expression = "[^.]*".join(map(re.escape, pattern.split("*")))
    return re.fullmatch(expression, host, re.IGNORECASE | re.ASCII) is not None


def _canonical(value: str | bytes) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return "".join(
        c.lower() if c.isascii() else c
        for c in " ".join(re.split(r"[ \t\n\v\f\r]+", value.strip(" \t\n\v\f\r")))
    )
