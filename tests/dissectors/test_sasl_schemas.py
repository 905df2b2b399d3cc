"""The SASL exchange, step by step."""

import struct

import pytest
from construct import Construct
from hypothesis import given
from hypothesis import strategies as st

from dissectors.errors import DissectionError
from dissectors.fields import read, write
from dissectors.sasl import (
    SaslClientStep,
    SaslMechList,
    SaslMechName,
    SaslReason,
    SaslResult,
    SaslServerStep,
    SaslVerdict,
)
from tests.dissectors.bodies import unhurried

STEPS = [
    (SaslMechList, "mechlist", 0, 300, b""),
    (SaslMechName, "mechname", 1, 100, b""),
    (SaslClientStep, "data", 0, 2**20, b""),
    (SaslServerStep, "data", 0, 2**20, b"\1"),
    (SaslReason, "reason", 0, 2**20, b""),
]
every_step = pytest.mark.parametrize(("schema", "name", "least", "most", "rest"), STEPS)


def test_the_words_of_a_real_exchange_are_read() -> None:
    mechanisms = b",GSSAPI,DIGEST-MD5,"
    assert read(SaslMechList, struct.pack("<I", 19) + mechanisms) == (
        {"mechlist_len": 19, "mechlist": mechanisms},
        23,
    )
    assert read(SaslClientStep, bytes(4))[0] == {"len": 0, "data": b""}
    assert read(SaslServerStep, b"\4\0\0\0abc\0\1")[0] == {"len": 4, "data": b"abc\0", "complete": 1}
    assert read(SaslResult, bytes(4))[0]["verdict"] is SaslVerdict.ACCEPTED
    assert read(SaslResult, b"\1\0\0\0")[0]["verdict"] is SaslVerdict.REJECTED
    assert read(SaslReason, b"\x16\0\0\0Authentication failed\0")[0]["reason"] == b"Authentication failed\0"


@every_step
@unhurried
@given(st.data())
def test_a_step_reads_as_it_was_built(
    schema: Construct, name: str, least: int, most: int, rest: bytes, data: st.DataObject
) -> None:
    content = data.draw(st.binary(min_size=least, max_size=90))
    fields = {name: content} | ({"complete": 1} if rest else {})
    built = write(schema, fields)
    assert built == struct.pack("<I", len(content)) + content + rest
    found, size = read(schema, built)
    assert size == len(built)
    assert found[name] == content
    assert write(schema, found) == built
    for cut in range(len(built)):
        with pytest.raises(DissectionError):
            read(schema, built[:cut])


@every_step
def test_a_length_that_neither_end_takes_is_an_error_before_its_bytes_are_there(
    schema: Construct, name: str, least: int, most: int, rest: bytes
) -> None:
    for length in (most + 1, 2**32 - 1, *range(least)):
        with pytest.raises(DissectionError, match=f"is {length}, not {least}..{most}"):
            read(schema, struct.pack("<I", length))
    with pytest.raises(DissectionError, match="only 0 bytes are left"):
        read(schema, struct.pack("<I", most))
