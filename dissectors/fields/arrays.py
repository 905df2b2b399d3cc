"""Bytes, text and lists: as many as a field says, a fixed number, or all that is left."""

from typing import Any

from construct import Construct, SizeofError, StreamError, Subconstruct, ValidationError

from dissectors.fields.boundary import Body, found

# ruff: noqa: ARG002, SLF001 - construct is extended by overriding _parse and _build and calling those of others


def as_bytes(value: Any) -> bytes:
    """Bytes of a value that a field of bytes may be built from; text is UTF-8."""
    return value.encode() if isinstance(value, str) else bytes(memoryview(value))


def as_text(raw: bytes, *, nul: bool) -> str | bytes:
    """Read text, if it is text and can be built back: UTF-8 with one NUL at its end (`nul`) or without any."""
    if nul != raw.endswith(b"\0") or raw.find(b"\0", 0, len(raw) - nul) >= 0:
        return raw
    try:
        return raw[: len(raw) - nul].decode()
    except UnicodeDecodeError:
        return raw


def _take(stream: Body, size: int, why: str, path: str) -> bytes:
    left = stream.left()
    if size > left:
        raise StreamError(f"{why} is {size}, but only {left} bytes are left", path=path)
    return stream.read(size)


class Count(Subconstruct):
    """The number of items (or bytes) of the field `of`, which comes later in the same record."""

    def __init__(self, subcon: Construct, of: str) -> None:
        super().__init__(subcon)
        self.flagbuildnone = True
        self.of = of
        self.nul = False  # whether the NUL of a text is counted: its record knows

    def _build(self, obj: int | None, stream: Body, context: Any, path: str) -> int:
        try:
            counted = found(context, self.of)
        except KeyError:
            counted = None  # a null pointer, or a case of a switch that is not there: any count will do
        if counted is None:
            count = obj or 0
        else:
            count = len(as_bytes(counted)) if isinstance(counted, str) else len(counted)
            count += isinstance(counted, str) and self.nul
        if obj is not None and obj != count:
            raise ValidationError(
                f"is {obj}, but {self.of} has {count}; leave it out to have it counted", path=path
            )
        self.subcon._build(count, stream, context, path)
        return count


class CountedBytes(Construct):
    """As many bytes as the earlier field `count` says. Builds from bytes, or from text as UTF-8.

    Args:
        count: The field that has the number.
        bulk: Images, sound and the like, which are shown by their length.
    """

    def __init__(self, count: str, *, bulk: bool = False) -> None:
        super().__init__()
        self.count, self.bulk = count, bulk

    def _parse(self, stream: Body, context: Any, path: str) -> str | bytes:
        return _take(stream, found(context, self.count), self.count, path)

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> bytes:
        data = as_bytes(obj)
        stream.write(data)
        return data


class FixedBytes(Construct):
    """Exactly `size` bytes."""

    def __init__(self, size: int, *, bulk: bool = False) -> None:
        super().__init__()
        self.size, self.bulk = size, bulk

    def _parse(self, stream: Body, context: Any, path: str) -> bytes:
        return _take(stream, self.size, "the size", path)

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> bytes:
        data = as_bytes(obj)
        if len(data) != self.size:
            raise ValidationError(f"has {len(data)} bytes, wants {self.size}", path=path)
        stream.write(data)
        return data

    def _sizeof(self, context: Any, path: str) -> int:
        return self.size


class RestBytes(Construct):
    """All bytes to the end of the message.

    Args:
        bulk: Images, sound and the like, which are shown by their length.
        optional: May be left out when building.
    """

    def __init__(self, *, bulk: bool = False, optional: bool = False) -> None:
        super().__init__()
        self.bulk = bulk
        self.flagbuildnone = optional

    def _parse(self, stream: Body, context: Any, path: str) -> bytes:
        return stream.read()

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> bytes:
        data = b"" if obj is None else as_bytes(obj)
        stream.write(data)
        return data


class ImageBytes(Construct):
    """Pixels: ((bits_per_pixel * width + 7) // 8) * rows bytes.

    Source: spice-common python_modules/demarshal.py, write_image_size(): image_size[bpp:width:rows] of spice.proto.

    Args:
        bits_per_pixel: 8 where `width` is a stride in bytes.
        width: The field that has it.
        rows: The field that has their number.
    """

    bulk = True

    def __init__(self, bits_per_pixel: int, *, width: str, rows: str) -> None:
        super().__init__()
        self.bits_per_pixel, self.width, self.rows = bits_per_pixel, width, rows

    def _size(self, context: Any) -> int:
        width: int = found(context, self.width)
        rows: int = found(context, self.rows)
        return (self.bits_per_pixel * width + 7) // 8 * rows

    def _parse(self, stream: Body, context: Any, path: str) -> bytes:
        return _take(stream, self._size(context), f"{self.width} times {self.rows}", path)

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> bytes:
        data, size = as_bytes(obj), self._size(context)
        if len(data) != size:
            raise ValidationError(
                f"has {len(data)} bytes, {self.width} and {self.rows} say {size}", path=path
            )
        stream.write(data)
        return data


class CountedText(CountedBytes):
    """Text of as many bytes as the earlier field `count` says: str if it can be built back, else the bytes.

    Args:
        count: The field that has the number.
        nul: Whether a NUL ends the text and is counted.
    """

    def __init__(self, count: str, *, nul: bool = True) -> None:
        super().__init__(count)
        self.nul = nul

    def _parse(self, stream: Body, context: Any, path: str) -> str | bytes:
        return as_text(_take(stream, found(context, self.count), self.count, path), nul=self.nul)

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> bytes:
        data = as_bytes(obj)
        if isinstance(obj, str):
            if b"\0" in data:
                raise ValidationError("text cannot have a NUL inside", path=path)
            data += b"\0" if self.nul else b""
        stream.write(data)
        return data


class ListOf(Subconstruct):
    """Items one after another."""

    def _items(self, count: int, stream: Body, context: Any, path: str) -> list[Any]:
        stream.take_items(count, path)
        return [self.subcon._parsereport(stream, context, f"{path} -> {index}") for index in range(count)]

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> list[Any]:
        return [
            self.subcon._build(item, stream, context, f"{path} -> {index}") for index, item in enumerate(obj)
        ]

    def _sizeof(self, context: Any, path: str) -> int:
        raise SizeofError("a list has no size of its own", path=path)


class Items(ListOf):
    """As many `item`s as the earlier field `count` says.

    Args:
        count: The field that has the number.
        item: Schema of one; every one takes at least `least` bytes.
        limit: More than this many are not decoded, however long the message: an item costs far more time and memory
            decoded than on the wire.
        least: Fewest bytes of one item; needed where the item has no fixed size.
    """

    def __init__(self, count: str, item: Construct, *, limit: int, least: int | None = None) -> None:
        super().__init__(item)
        self.count, self.limit = count, limit
        self.least: int = item.sizeof() if least is None else least

    def _parse(self, stream: Body, context: Any, path: str) -> list[Any]:
        count, left = found(context, self.count), stream.left()
        if count * self.least > left:
            raise StreamError(
                f"{self.count} is {count}, at {self.least} bytes each, but only {left} bytes are left",
                path=path,
            )
        if count > self.limit:
            raise ValidationError(
                f"{self.count} is {count}; more than {self.limit} are not decoded", path=path
            )
        return self._items(count, stream, context, path)


class ItemsToEnd(ListOf):
    """Items of a fixed size up to the end of the message; a last one that is cut is an error.

    Args:
        item: Schema of one.
        limit: More than this many are not decoded.
    """

    def __init__(self, item: Construct, *, limit: int) -> None:
        super().__init__(item)
        self.limit, self.size = limit, item.sizeof()

    def _parse(self, stream: Body, context: Any, path: str) -> list[Any]:
        left = stream.left()
        if left % self.size:
            raise StreamError(f"{left} bytes are left, not a multiple of {self.size}", path=path)
        if left // self.size > self.limit:
            raise ValidationError(
                f"has {left // self.size}; more than {self.limit} are not decoded", path=path
            )
        return self._items(left // self.size, stream, context, path)


class FixedItems(ListOf):
    """Exactly `count` items."""

    def __init__(self, count: int, item: Construct) -> None:
        super().__init__(item)
        self.count = count

    def _parse(self, stream: Body, context: Any, path: str) -> list[Any]:
        return self._items(self.count, stream, context, path)

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> list[Any]:
        if len(obj) != self.count:
            raise ValidationError(f"has {len(obj)} items, wants {self.count}", path=path)
        return super()._build(obj, stream, context, path)

    def _sizeof(self, context: Any, path: str) -> int:
        size: int = self.count * self.subcon.sizeof()
        return size
