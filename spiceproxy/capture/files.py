"""Bytes of a capture, in pieces of bounded size: from a file or standard input, unpacked, waiting for more if asked."""

import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from spiceproxy.capture.events import Summary
from spiceproxy.errors import CaptureError, UsageError

PIECE_BYTES: Final = 256 * 1024
"""What is read, and what is unpacked, in one go."""

MAX_ZSTD_WINDOW_LOG: Final = 23
"""8 MiB of memory for unpacking, which RFC 8878 wants every decoder to have, and `zstd -19` needs."""

PACKED_PIECE_BYTES: Final = 64 * 1024
"""What is read of a compressed file in one go."""

_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = (
    b"\x2a\x4d\x18"  # after 0x50 to 0x5f: a frame without data. pzstd begins its files so
)


class Pieces(Protocol):
    """Where the bytes of a capture come from."""

    def read(self) -> bytes:
        """Some bytes, at most PIECE_BYTES; none at the end."""


def open_capture(name: str) -> BinaryIO:
    """Open a file for reading, or standard input for `-`.

    Raises:
        UsageError: It cannot be opened.
    """
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from error


def pieces_of(
    source: BinaryIO,
    follow: Callable[[], bool] | None,
    summary: Summary,
    *,
    packed_bytes: int = PACKED_PIECE_BYTES,
) -> Pieces:
    """Read `source`, unpacked if its first bytes say that it is compressed.

    Args:
        source: A file; what is read of it need not be all that was asked for.
        follow: Called at the end: waits for more and returns True, or returns False to stop.
        summary: Takes a problem if the compressed data end in the middle.
        packed_bytes: Compressed bytes that are unpacked in one go. What these give is lost if there is damage in them.

    Raises:
        CaptureError: It is compressed in a way that cannot be unpacked.
    """
    file = _File(source, follow)
    magic = file.peek(4)
    if magic[:2] == _GZIP_MAGIC:
        return _Unpacked(file, "gzip", lambda: _Gzip(), zlib.error, summary, packed_bytes)  # noqa: PLW0108 - one type for both
    if magic == _ZSTD_MAGIC or (magic[1:] == _ZSTD_SKIPPABLE and magic[0] & 0xF0 == 0x50):
        return _zstd(file, summary, packed_bytes)
    return file


class _File:
    """The file as it is."""

    def __init__(self, source: BinaryIO, follow: Callable[[], bool] | None) -> None:
        # read1() returns what is there; read() of a pipe would wait until there is as much as was asked for.
        self._read: Callable[[int], bytes] = getattr(source, "read1", source.read)
        self._follow = follow
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        """The first `size` bytes, or fewer if there are no more."""
        while len(self._ahead) < size and (more := self._more(size)):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int = PIECE_BYTES) -> bytes:
        """Some bytes, at most `size` if that is not less than what was looked at ahead."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        return self._more(size)

    def _more(self, size: int) -> bytes:
        while True:
            try:
                data = self._read(size)
            except OSError as error:
                raise UsageError(f"the capture cannot be read: {error.strerror or error}") from error
            if data or self._follow is None or not self._follow():
                return data


class _Decompressor(Protocol):
    """What bz2, lzma and zstd decompressors of the standard library have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor, with the interface of the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)  # with gzip's header and checksum
        self._full = False  # the last call gave all it might: there may be more inside

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not (self._full or self._zlib.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        unpacked = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self._full = len(unpacked) == max_length
        return unpacked


class _Unpacked:
    """One compressed stream after the other. What is unpacked at a time is bounded, however well it was packed."""

    def __init__(
        self,
        file: _File,
        name: str,
        new: Callable[[], _Decompressor],
        broken: type[Exception],
        summary: Summary,
        packed_bytes: int,
    ) -> None:
        self._packed_bytes = packed_bytes
        self._file, self._name, self._new, self._broken, self._summary = file, name, new, broken, summary
        self._decompressor: _Decompressor | None = None
        self._packed = b""
        self._offset = 0  # of what is unpacked

    def read(self) -> bytes:
        """Some bytes, at most PIECE_BYTES; none at the end.

        Raises:
            CaptureError: What is packed is damaged.
        """
        while True:
            if not self._packed and (self._decompressor is None or self._decompressor.needs_input):
                self._packed = self._file.read(self._packed_bytes)
                if not self._packed:
                    if self._decompressor is not None:
                        self._decompressor = None
                        self._summary.problem(f"the {self._name} data end in the middle: the file is cut")
                    return b""
            if self._decompressor is None:
                # More may follow: such files may be put one behind the other. Zeros are padding, of tapes once.
                self._packed = self._packed.lstrip(b"\0")
                if not self._packed:
                    continue
                self._decompressor = self._new()
            try:
                data = self._decompressor.decompress(self._packed, PIECE_BYTES)
            except self._broken as error:
                raise CaptureError(
                    f"the {self._name} data are damaged: {error}", offset=self._offset
                ) from error
            self._packed = b""
            if self._decompressor.eof:
                self._packed = self._decompressor.unused_data
                self._decompressor = None
            if data:
                self._offset += len(data)
                return data


def _zstd(file: _File, summary: Summary, packed_bytes: int) -> Pieces:
    """Imported only for who needs it."""
    if sys.version_info >= (3, 14):  # pragma: no cover - the same module under its later name
        from compression import zstd
    else:
        from backports import zstd

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW_LOG}
    return _Unpacked(
        file, "zstd", lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError, summary, packed_bytes
    )
