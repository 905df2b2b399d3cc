"""Stand-ins for addresses and names: the same for the same, of the same length where it is text, nobody's in truth.

So packets still lead where the messages say, and sessions are still joined. Loopback stays what it is.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

MAX_STAND_INS: Final = 2**16
"""Addresses and names that are told apart; more share one."""

_PRIVATE_IPV4: Final = 14
_LONGEST_SHORT_IPV6: Final = 30  # with a "::" in it
_SUBJECT: Final = re.compile(rb"[A-Za-z.0-9]+=")
_LOCAL_NAMES: Final = frozenset({b"localhost"})


class StandIns:
    """Gives stand-ins, numbered in the order in which they are asked for."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int, bytes], int] = {}
        self._next: dict[tuple[str, int], int] = {}

    def _number(self, what: str, size: int, name: bytes) -> int:
        number = self._numbers.get((what, size, name))
        if number is None:
            number = self._next.get((what, size), 1)
            if len(self._numbers) < MAX_STAND_INS:
                self._next[what, size] = number + 1
                self._numbers[what, size, name] = number
        return number

    def packed(self, address: bytes) -> bytes:
        """The stand-in for an address of 4 or 16 bytes."""
        return self._address(ip_address(address)).packed

    def _address(self, address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return IPv6Address(b"\0" * 10 + b"\xff\xff" + self._address(address.ipv4_mapped).packed)
        if address.is_loopback or address.is_unspecified:
            return address
        size = len(str(address))
        number = self._number(f"IPv{address.version}", size, address.packed)
        if address.version == 4:
            return IPv4Address(_ipv4(size, number))
        return IPv6Address(_ipv6(size, number))

    def text(self, data: bytes) -> bytes:
        """The stand-in for a host or a certificate's subject as it stands in a message, with its NUL."""
        name = data.rstrip(b"\0")
        if not name or name in _LOCAL_NAMES:
            return data
        return self._text(name).ljust(len(data), b"\0")[: len(data)]

    def _text(self, name: bytes) -> bytes:
        size = len(name)
        try:
            made = str(self._address(ip_address(name.decode()))).encode()
        except ValueError:  # a name; UnicodeDecodeError is one, too
            number = str(self._number("name", size, name)).encode()
            if _SUBJECT.match(name):
                blank = bytearray(0x2C if byte == 0x2C else 0x78 for byte in name)
                for key in _SUBJECT.finditer(name):
                    blank[key.start() : key.end()] = key[0]
                if len(number) < size and blank[size - len(number) :].isalnum():
                    blank[size - len(number) :] = number
                return bytes(blank)
            return b"h" + number.rjust(size - 1, b"0")[-(size - 1) :] if size > 1 else b"h"
        return made if len(made) <= size else b"x" * size


def _digits(count: int, number: int) -> tuple[int, int]:
    """A number of so many digits up to 255, and what is left of `number`."""
    low = 10 ** (count - 1) if count > 1 else 0
    span = min(255, 10**count - 1) - low + 1
    number, rest = divmod(number, span)
    return low + rest, number


def _ipv4(size: int, number: int) -> str:
    """An address whose text has `size` letters: of a private network, but for the shortest ones."""
    head = "192.168" if size > _PRIVATE_IPV4 else "9.0" if size < 8 else "10"
    parts, left = [], size - len(head)
    missing = 4 - head.count(".") - 1
    for index in range(missing):
        count = max(1, min(3, left - 1 - 2 * (missing - index - 1)))
        left -= count + 1
        parts.append(count)
    values = []
    for count in reversed(parts):
        value, number = _digits(count, number)
        values.append(str(value))
    return ".".join([head, *reversed(values)])


def _ipv6(size: int, number: int) -> str:
    """An address whose text has `size` letters, of fd00::/8; as near as can be to that where it is very short."""
    short = size <= _LONGEST_SHORT_IPV6
    left = max(1, size - 6) if short else size - 5
    groups: list[int] = []
    rest = 0 if short else 7 - 1
    while left > 0:
        count = max(1, min(4, left - 2 * rest))
        if left - count == 1:  # a colon alone cannot be
            count -= 1
        groups.append(count)
        left -= count + 1
        rest = max(0, rest - 1)
    text = []
    for count in reversed(groups):
        span = 15 * 16 ** (count - 1)
        number, value = divmod(number, span)
        text.append(f"{16 ** (count - 1) + value:x}")
    return ("fd00::" if short else "fd00:") + ":".join(reversed(text))
