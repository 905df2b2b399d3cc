"""The building blocks of schemas, where messages alone do not show what they do."""

import io
import struct
import tracemalloc
from enum import IntEnum, IntFlag
from time import perf_counter
from typing import Any

import pytest
from construct import Construct, ConstructError

from dissectors.compiler import Unfit, compile_reader
from dissectors.errors import DissectionError
from dissectors.fields import (
    U8,
    U16,
    U32,
    U64,
    Choice,
    Count,
    CountedBytes,
    Flags,
    Items,
    OptionalRest,
    Pointer,
    Record,
    Rest,
    read,
    whole,
    write,
)


class Colour(IntEnum):
    RED = 1
    GREEN = 2


class Bit(IntFlag):
    ONE = 1
    TWO = 2
    EIGHT = 8


Name = Record("size" / Count(U8, "text"), "text" / CountedBytes("size"))
Names = Record("count" / Count(U32, "names"), "names" / Items("count", Name, limit=100, least=1))
Points = Record(
    "count" / Count(U32, "points"), "points" / Items("count", Record("x" / U16, "y" / U16), limit=3)
)


@pytest.mark.parametrize(("schema", "size"), [(U8, 1), (U16, 2), (U32, 4), (U64, 8)])
def test_numbers_are_little_endian_and_unsigned(schema: Any, size: int) -> None:
    assert write(schema, 1) == b"\1" + bytes(size - 1)
    assert read(schema, b"\xff" * size + b"more") == (2 ** (8 * size) - 1, size)
    for value in (-1, 2 ** (8 * size), 1.5, "1", None):
        with pytest.raises(DissectionError):
            write(schema, value)


def test_a_known_choice_is_a_member_and_an_unknown_one_a_bare_number() -> None:
    known, unknown = (read(Choice(U16, Colour), data)[0] for data in (b"\2\0", b"\3\0"))
    assert known is Colour.GREEN
    assert type(unknown) is int
    assert unknown == 3
    for value in (Colour.GREEN, 2, 3):
        assert write(Choice(U16, Colour), value) == bytes([value, 0])


def test_flags_with_names_are_a_member_and_with_an_unknown_bit_a_bare_number() -> None:
    assert repr(read(Flags(U8, Bit), b"\x0b")[0]) == "<Bit.ONE|TWO|EIGHT: 11>"
    assert read(Flags(U8, Bit), b"\0")[0] == Bit(0)
    unknown, _ = read(Flags(U8, Bit), b"\x05")
    assert type(unknown) is int
    assert unknown == 5
    for value in (Bit.TWO | Bit.EIGHT, 10, 0xFF):
        assert write(Flags(U8, Bit), value) == bytes([value])


def test_flags_that_a_peer_makes_up_leave_nothing_behind() -> None:
    known_before = len(Bit._value2member_map_)
    schema = Flags(U32, Bit)
    for value in range(0, 2**32, 2**22 + 5):
        assert read(schema, value.to_bytes(4, "little"))[0] == value
    assert len(Bit._value2member_map_) <= max(known_before, 2**3)


def test_a_record_is_a_plain_dict_in_the_order_of_its_fields() -> None:
    value, size = read(Names, b"\2\0\0\0\1a\0tail")
    assert size == 7
    assert value == {"count": 2, "names": [{"size": 1, "text": b"a"}, {"size": 0, "text": b""}]}
    assert list(value) == ["count", "names"]
    assert type(value) is type(value["names"][0]) is dict
    assert type(value["names"]) is list


def test_an_error_names_the_place_on_one_line() -> None:
    with pytest.raises(DissectionError, match=r"^names -> 1 -> text: size is 5, but only 1 bytes are left$"):
        read(Names, b"\2\0\0\0\0\5a")
    with pytest.raises(DissectionError, match=r"^names -> 0: has no field 'a', 'b'$"):
        write(Names, {"names": [{"text": b"", "b": 1, "a": 1}]})
    with pytest.raises(
        DissectionError, match=r"^x: stream read less than specified amount, expected 2, found 1$"
    ):
        read(Record("x" / U16 * "with a description"), b"\0")
    with pytest.raises(DissectionError, match=r"^stream read less"):
        read(U16, b"\0")


def test_an_error_without_a_place_is_told_all_the_same() -> None:
    class Failing(Construct):  # type: ignore[misc]
        def _parse(self, stream: io.BytesIO, context: Any, path: str) -> None:
            raise ConstructError("two\nlines")

    with pytest.raises(DissectionError, match=r"^two lines$"):
        read(Failing(), b"")


def test_the_cause_of_an_error_is_kept_for_whoever_looks() -> None:
    with pytest.raises(DissectionError) as caught:
        read(U32, b"")
    assert isinstance(caught.value.__cause__, ConstructError)


def test_text_is_written_as_utf8_and_counted_in_bytes() -> None:
    assert write(Name, {"text": "né"}) == b"\3n\xc3\xa9"
    assert write(Name, {"text": bytearray(b"ab")}) == b"\2ab"
    with pytest.raises(DissectionError, match="wrong kind"):
        write(Name, {"text": "\ud800"})
    with pytest.raises(DissectionError):
        write(Name, {"text": "x" * 256})


def test_a_count_is_computed_or_has_to_be_right() -> None:
    one = [{"x": 1, "y": 2}]
    built = b"\1\0\0\0\1\0\2\0"
    assert write(Points, {"points": one}) == write(Points, {"points": one, "count": 1}) == built
    assert write(Points, {"points": one, "count": None}) == built
    with pytest.raises(
        DissectionError, match="count: is 2, but points has 1; leave it out to have it counted"
    ):
        write(Points, {"points": one, "count": 2})


@pytest.mark.parametrize(
    "value", [None, [1, 2], {}, {"points": None}, {"count": 0}, {"points": 5}, {"points": [7]}]
)
def test_a_value_of_the_wrong_shape_is_an_error(value: Any) -> None:
    with pytest.raises(DissectionError):
        write(Points, value)


@pytest.mark.parametrize("count", [1, 3, 4, 1000, 2**31, 2**32 - 1])
def test_a_count_beyond_what_is_there_is_an_error_before_anything_is_made(count: int) -> None:
    tracemalloc.start()
    begun = perf_counter()
    try:
        for schema in (Points, Names, Record("size" / Count(U32, "data"), "data" / CountedBytes("size"))):
            with pytest.raises(DissectionError, match=f"is {count},"):
                read(schema, count.to_bytes(4, "little"))
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()
    assert perf_counter() - begun < 5


def test_items_that_are_there_but_too_many_are_not_decoded() -> None:
    assert len(read(Points, b"\3\0\0\0" + bytes(12))[0]["points"]) == 3
    with pytest.raises(DissectionError, match="points: count is 4; more than 3 are not decoded"):
        read(Points, b"\4\0\0\0" + bytes(16))


def test_the_rest_may_be_empty_and_may_be_left_out_where_it_is_optional() -> None:
    assert read(Rest, b"") == (b"", 0)
    assert write(Record("data" / OptionalRest), {}) == b""
    with pytest.raises(DissectionError, match="wants a value for data"):
        write(Record("data" / Rest), {})


@pytest.mark.parametrize(("offset", "size"), [(9, 4), (12, 0), (13, 0), (2**32 - 1, 2), (5, 2**32 - 1)])
def test_a_pointer_that_leads_out_of_the_body_is_an_error(offset: int, size: int) -> None:
    schema = Record("size" / U32, "data" / Pointer(CountedBytes("size")))
    body = struct.pack("<II", size, offset) + b"89ab"
    with pytest.raises(DissectionError, match=r"^data: "):
        read(schema, body)
    with pytest.raises(Unfit):
        compile_reader(schema)(body)


def test_a_pointer_names_bytes_of_the_body_or_none() -> None:
    schema = Record("size" / U32, "data" / Pointer(CountedBytes("size")))
    assert read(schema, struct.pack("<II", 2**32 - 1, 0))[0]["data"] is None
    assert read(schema, struct.pack("<II", 3, 9) + b"8901")[0]["data"] == b"901"
    assert read(schema, struct.pack("<II", 0, 8) + b"8")[0]["data"] == b""


def test_the_whole_message_is_seen_from_any_place_in_it() -> None:
    body = bytes(range(50))
    stream = io.BytesIO(body)
    stream.read(20)
    assert whole(stream) == body
    assert stream.tell() == 20


def test_lists_inside_lists_are_counted_together() -> None:
    inner = Record("count" / Count(U16, "points"), "points" / Items("count", U8, limit=2**16))
    schema = Record("rows" / Items("number", inner, limit=2**16, least=2), "more" / Rest)
    schema = Record("number" / Count(U16, "rows"), *schema.subcons)
    body = b"\x03\x00" + (b"\x00\x60" + bytes(0x6000)) * 3  # 73,731 items in all, each list below its limit
    with pytest.raises(DissectionError, match="more than 65536 items are not decoded"):
        read(schema, body)
    with pytest.raises(Unfit):
        compile_reader(schema)(body)
    fewer = b"\x02\x00" + body[2 : 2 + 2 * (2 + 0x6000)]
    assert compile_reader(schema)(fewer) == read(schema, fewer)
