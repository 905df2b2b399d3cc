"""What stands in the place of secrets that have to stay told apart: numbers in the order in which they first came."""

import hashlib
from typing import Final

MAX_CONTENTS: Final = 2**18
"""Different contents that are told apart. Beyond that all new ones look alike: memory is bounded."""


class Numbers:
    """Gives each content a number that says nothing of it, counted for each length by itself, so that it always fits."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._next: dict[int, int] = {}  # by length
        self.exhausted = False

    def filler(self, content: bytes) -> bytes:
        """As many bytes as `content` has, the same for the same content and others for another.

        Args:
            content: What is to be forgotten. All zeros stay: they mean "none" where that can be.
        """
        size = len(content)
        if not content.strip(b"\0"):
            return content
        key = hashlib.blake2b(content, digest_size=16, salt=size.to_bytes(8, "little")).digest()
        number = self._numbers.get(key)
        if number is None:
            if len(self._numbers) >= MAX_CONTENTS:
                self.exhausted = True
                return b"\xff" * size
            number = self._next.get(size, 1)
            self._next[size] = number + 1
            self._numbers[key] = number
        return number.to_bytes(max(size, 8), "little")[:size]


MAX_BRANCHES: Final = 1024
MAX_BRANCH_BYTES: Final = 32 * 2**20
"""Contents that are kept to compare later ones with: how many, and bytes of all."""


class Branches:
    """Tells contents of one length apart where they first differ, as a reader of MIGRATE_DATA would see it.

    A filler follows that of the content with which it has the longest beginning in common; there it takes a byte of its own,
    and zeros behind it. So two fillers are equal if the contents are, and differ first where those do. Nothing else is in
    them. Every number of contents fits, since a byte has as many values as it may have different ones.
    """

    def __init__(self) -> None:
        self._known: dict[int, dict[bytes, bytes]] = {}  # by length: contents and their fillers
        self._count = self._bytes = 0
        self.exhausted = False

    def filler(self, content: bytes) -> bytes:
        """As many bytes as `content` has."""
        size = len(content)
        known = self._known.setdefault(size, {})
        filler = known.get(content)
        if filler is not None:
            return filler
        filler = bytes(size)
        if known:
            shared = {other: _shared(content, other) for other in known}
            at = max(shared.values())
            nearest = [known[other] for other, length in shared.items() if length == at]
            own = min(set(range(256)) - {each[at] for each in nearest})
            filler = nearest[0][:at] + bytes([own]) + bytes(size - at - 1)
        if self._bytes + size > MAX_BRANCH_BYTES or self._count == MAX_BRANCHES:
            self.exhausted = True
            return filler
        self._bytes, self._count = self._bytes + size, self._count + 1
        known[content] = filler
        return filler


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes two different contents of one length have in common at their beginning."""
    low, high = 0, len(one)
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
