"""Addresses as users write them: what is taken, what is not, and errors that are one line and name the way out."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spiceproxy.address import Address, ServerTarget, parse_address, parse_port_range, parse_server
from spiceproxy.errors import UsageError

ADDRESSES = {
    "127.0.0.1:5900": Address("127.0.0.1", 5900),
    "kvm1.example:1": Address("kvm1.example", 1),
    "localhost:65535": Address("localhost", 65535),
    "[::1]:5900": Address("::1", 5900),
    "[fe80::1%eth0]:5900": Address("fe80::1%eth0", 5900),
    ":5900": Address("127.0.0.1", 5900),
    "5900": Address("127.0.0.1", 5900),
    "[]:5900": Address("127.0.0.1", 5900),
    "host:05900": Address("host", 5900),
}


@pytest.mark.parametrize(("text", "address"), ADDRESSES.items(), ids=ADDRESSES)
def test_an_address_is_host_and_port(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert str(Address("::1", 5900)) == "[::1]:5900"
    assert str(Address("::", 0)) == "[::]:0"
    assert str(Address("192.0.2.1", 5900)) == "192.0.2.1:5900"


def test_the_host_can_be_left_out() -> None:
    assert parse_address("5900", default_host="::1") == Address("::1", 5900)
    assert parse_address("host:5900", default_host="::1") == Address("host", 5900)


def test_port_0_is_for_those_who_listen() -> None:
    assert parse_address("0", any_port=True) == Address("127.0.0.1", 0)
    assert parse_address("[::]:0", any_port=True) == Address("::", 0)
    with pytest.raises(UsageError, match="from 1 to 65535"):
        parse_address("127.0.0.1:0")
    with pytest.raises(UsageError, match="from 0 to 65535"):
        parse_address("127.0.0.1:65536", any_port=True)


@pytest.mark.parametrize(
    "text",
    ["", ":", "host", "host:", "host:port", "host:-1", "host:+5900", "host:5_900", "host: 5900", "host:5900 ",
     "host:٥٩٠٠", "a b:5900", "a\nb:5900", "\x1b[2J:5900", "host:" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_address_is_told_by_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not HOST:PORT, for example 127\.0\.0\.1:5900"):
        parse_address(text)


@pytest.mark.parametrize("text", ["::1:5900", "fe80::1", "::1", "::", "[::1]", "[::1:5900"])
def test_an_ipv6_address_without_brackets_is_told_to_wear_them(text: str) -> None:
    with pytest.raises(UsageError, match=r"in brackets, for example \[::1\]:5900"):
        parse_address(text)


# spice:// -----------------------------------------------------------------------------------------

SERVERS = {
    "192.0.2.1:5900": (Address("192.0.2.1", 5900), None),
    "5900": (Address("127.0.0.1", 5900), None),
    "spice://host:5900": (Address("host", 5900), None),
    "spice://host:5900/": (Address("host", 5900), None),
    "spice://user@host:5900": (Address("host", 5900), None),
    "spice://host?port=5900": (Address("host", 5900), None),
    "spice://host/?port=5900": (Address("host", 5900), None),
    "spice://host;port=5900": (Address("host", 5900), None),
    "spice://host/;port=5900": (Address("host", 5900), None),
    "spice://host:1?port=5900": (Address("host", 5900), None),
    "spice://host?port=59%30%30": (Address("host", 5900), None),
    "spice://[::1]:5900": (Address("::1", 5900), None),
    "spice://[::1]?port=5900": (Address("::1", 5900), None),
    "spice://host:5900?": (Address("host", 5900), None),
    "spice://host:5900?password=": (Address("host", 5900), ""),
    "spice://host:5900?password=a%26b%3Bc": (Address("host", 5900), "a&b;c"),
    "spice://host:5900?password=a=b?c": (Address("host", 5900), "a=b?c"),
    "spice://host:5900?password=a#b+c": (Address("host", 5900), "a#b+c"),
    "spice://host:5900?password=gr%C3%BC%C3%9Fe": (Address("host", 5900), "grüße"),
}


@pytest.mark.parametrize(("text", "target"), SERVERS.items(), ids=SERVERS)
def test_a_server_is_an_address_or_a_uri(text: str, target: tuple[Address, str | None]) -> None:
    server = parse_server(text)
    assert (server.address, server.password) == target


SECURE_SERVERS = {
    "spice://host?port=5900&tls-port=5901": (Address("host", 5900), Address("host", 5901)),
    "spice://host:5900?tls-port=5901;password=x": (Address("host", 5900), Address("host", 5901)),
    "spice://host?tls-port=5901": (None, Address("host", 5901)),
    "spice+tls://host:5901": (None, Address("host", 5901)),
    "spice+tls://[::1]:5901?port=5900": (Address("::1", 5900), Address("::1", 5901)),
}


@pytest.mark.parametrize(("text", "ports"), SECURE_SERVERS.items(), ids=SECURE_SERVERS)
def test_a_uri_names_a_tls_port(text: str, ports: tuple[Address | None, Address | None]) -> None:
    server = parse_server(text)
    assert (server.address, server.tls) == ports
    assert f"{ports[1]} (TLS)" in str(server)


BAD_SERVERS = {
    "host:": "is not HOST:PORT",
    "spice://": "needs a host",
    "spice://:5900": "needs a host",
    "spice://host": "it needs a port, for example spice://host:5900",
    "spice://host:0": "it needs a port",
    "spice://host:": "it needs a port",
    "spice://host?tls-port=0": "from 1 to 65535",
    "spice+tls://host": "it needs a port, for example spice+tls://host:5900",
    "spice://host?port=0": "from 1 to 65535",
    "spice://host?port=": "is not HOST:PORT",
    "spice://host:70000": "spice:// URI: Port out of range",
    "spice://host:port": "spice:// URI: Port could not be cast",
    "spice://[::1:5900": "Invalid IPv6 URL",
    "spice://host:5900/path": "has no path",
    "spice://host:5900?colour=red": "not 'colour'",
    "spice://ho\x0bst": "as %XX",
    "vnc://host:5900": "is not a SPICE address",
}


@pytest.mark.parametrize(("text", "reason"), BAD_SERVERS.items(), ids=BAD_SERVERS)
def test_what_is_no_server_is_told_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_server(text)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@given(
    st.text(max_size=40)
    | st.text(":/?;&=#%[]@.-0123456789spice\n\x0b\x85", max_size=40).map("spice://".__add__)
)
@example("spice://[v1.x]:1")
@example("spice://℀:1")
def test_any_text_is_an_address_or_a_one_line_error(text: str) -> None:
    for parse in (parse_address, parse_server, parse_port_range):
        try:
            parse(text)
        except UsageError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1, lines


def test_a_password_is_not_shown() -> None:
    target = parse_server("spice://host:5900?password=tiger")
    assert target == ServerTarget(Address("host", 5900), "tiger")
    assert "tiger" not in f"{target} {target!r}"
    assert "host:5900" in repr(target)


# A-B ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ports"),
    [("5910-5919", range(5910, 5920)), ("5910", range(5910, 5911)), ("1-65535", range(1, 65536))],
)
def test_a_range_of_ports_includes_its_end(text: str, ports: range) -> None:
    assert parse_port_range(text) == ports


@pytest.mark.parametrize(
    "text",
    ["", "-", "0-5", "5919-5910", "5910-", "-5910", "5910-65536", "1-2-3", "a-b", "5910 - 5919", "5_9-6_0"],
)
def test_what_is_no_range_of_ports_is_told_by_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a range of ports A-B, for example 5910-5919"):
        parse_port_range(text)
