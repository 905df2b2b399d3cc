"""Whose certificate it is, as SPICE clients judge it."""

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.tls.authority import Authority
from spiceproxy.tls.der import Attribute, Subject
from spiceproxy.tls.names import is_host, is_subject, named, parse_subject, render_subject

AUTHORITY = Authority.new()
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(subject: str | x509.Name, *names: x509.GeneralName) -> x509.Certificate:
    return AUTHORITY.issue(named(subject) if isinstance(subject, str) else subject, names, KEY)


SUBJECTS = {
    "O=Red Hat,CN=kvm1": [("2.5.4.10", "Red Hat"), ("2.5.4.3", "kvm1")],
    " CN=kvm1": [("2.5.4.3", "kvm1")],
    "CN=kvm1,": [("2.5.4.3", "kvm1")],
    "CN=kvm1, O=x": [("2.5.4.3", "kvm1"), ("2.5.4.10", "x")],
    "commonName=kvm1": [("2.5.4.3", "kvm1")],
    "2.5.4.3=kvm1": [("2.5.4.3", "kvm1")],
    r"CN=a\,b\\c=d": [("2.5.4.3", r"a,b\c=d")],
    "CN= kvm1 ": [("2.5.4.3", " kvm1 ")],
    "": [],
}


@pytest.mark.parametrize(("text", "entries"), SUBJECTS.items(), ids=SUBJECTS)
def test_a_subject_is_read_as_clients_read_it(text: str, entries: list[tuple[str, str]]) -> None:
    assert parse_subject(text) == entries


BAD = {
    "CN": "CN has no value",
    "CN=": "CN has no value",
    "CN=,O=x": "CN has no value",
    "CN,O=x": "CN has no value; write KEY=value",
    ",": "an empty entry has no value",
    "cn=kvm1": "'cn' is no key",
    r"CN=a\b": "a backslash stands before",
    "CN=a\\": "a backslash stands before",
}


@pytest.mark.parametrize(("text", "reason"), BAD.items(), ids=BAD)
def test_what_is_no_subject_is_told_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        parse_subject(text)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["O", "OU", "CN", "L", "ST"]), st.text(min_size=1, max_size=16)), min_size=1
    )
)
def test_a_subject_is_written_as_it_is_read(entries: list[tuple[str, str]]) -> None:
    oids = {"O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME,
            "L": NameOID.LOCALITY_NAME, "ST": NameOID.STATE_OR_PROVINCE_NAME}  # fmt: skip
    oid = {key: each.dotted_string for key, each in oids.items()}
    written = [(oid[key], value) for key, value in entries if "\0" not in value]
    subject = Subject(b"", tuple((Attribute(*each),) for each in written))
    assert parse_subject(render_subject(subject)) == written


SAME = [
    "O=Red Hat,CN=kvm1",
    "O=red hat,CN=KVM1",
    "O= Red   Hat ,CN=kvm1",
    "organizationName=Red Hat,2.5.4.3=kvm1",
]
OTHER = [
    "CN=kvm1,O=Red Hat",
    "O=Red Hat",
    "O=Red Hat,CN=kvm1,CN=kvm1",
    "O=RedHat,CN=kvm1",
    "OU=Red Hat,CN=kvm1",
    "",
]


@pytest.mark.parametrize("text", SAME)
def test_letter_case_and_blanks_make_no_other_subject(text: str) -> None:
    assert is_subject(certificate("O=Red Hat,CN=kvm1"), text)


@pytest.mark.parametrize("text", OTHER)
def test_order_keys_and_values_make_another_subject(text: str) -> None:
    assert not is_subject(certificate("O=Red Hat,CN=kvm1"), text)


def test_entries_that_are_one_in_the_certificate_are_not_two() -> None:
    both = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x"), x509.NameAttribute(NameOID.COMMON_NAME, "y")]
    )
    assert not is_subject(certificate(x509.Name([both])), "O=x,CN=y")


HOSTS: list[tuple[str, tuple[x509.GeneralName, ...], str, bool]] = [
    ("CN=kvm1", (), "kvm1", True),
    ("CN=kvm1", (), "KVM1", True),
    ("CN=kvm1", (), "kvm10", False),
    ("CN=*.example", (), "kvm1.example", True),
    ("CN=*.example", (), "a.kvm1.example", False),
    ("CN=k*1.example", (), "kvm1.example", True),
    ("CN=*.*.*.*.*", (), "a.b.c.d.e", False),
    ("CN=192.0.2.1", (), "192.0.2.1", True),
    ("CN=kvm1", (x509.DNSName("other"),), "kvm1", False),
    ("CN=kvm1", (x509.DNSName("other"), x509.DNSName("kvm2")), "kvm2", True),
    ("CN=kvm1", (x509.IPAddress(ip_address("192.0.2.1")),), "192.0.2.1", True),
    ("CN=kvm1", (x509.IPAddress(ip_address("192.0.2.1")),), "kvm1", False),
    ("CN=kvm1", (x509.IPAddress(ip_address("2001:db8::1")),), "2001:DB8:0::1", True),
    ("CN=kvm1", (x509.RFC822Name("a@b"),), "kvm1", True),
    ("O=x", (), "x", False),
]


@pytest.mark.parametrize(("subject", "names", "host", "good"), HOSTS)
def test_the_host_is_judged_by_alternative_names_and_else_by_the_common_name(
    subject: str, names: tuple[x509.GeneralName, ...], host: str, good: bool
) -> None:
    assert is_host(certificate(subject, *names), host) is good
