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
