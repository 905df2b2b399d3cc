"""Smartcard messages, packed by hand after vscard_common.h."""

from typing import Any

import pytest

from dissectors.errors import DissectionError
from dissectors.smartcard_channel import VscMessageType
from dissectors.vscard import VSC_MESSAGES, VscErrorCode, build_vscard, dissect_vscard

ROWS: list[tuple[int, str, dict[str, Any]]] = [
    (1, "56534344 02000000 00000000", {"magic": 0x44435356, "version": 2, "capabilities": [0]}),
    (2, "02000000", {"code": VscErrorCode.CANNOT_ADD_MORE_READERS}),
    (3, b"reader\0".hex(), {"name": b"reader\0"}),
    (4, "", {}),
    (5, "3b65", {"atr": b"\x3b\x65"}),
    (6, "", {}),
    (7, "00a40400", {"data": b"\0\xa4\4\0"}),
    (8, "", {}),
    (9, "", {}),
]


@pytest.mark.parametrize(("type_", "body", "fields"), ROWS)
def test_data_reads_as_what_it_says_and_builds_back(type_: int, body: str, fields: dict[str, Any]) -> None:
    raw = bytes.fromhex(body)
    found = dissect_vscard(type_, raw)
    assert (found.name, found.fields) == (f"VSC_{VscMessageType(type_).name}", fields)
    assert build_vscard(type_, found.fields) == raw


def test_every_type_is_there() -> None:
    assert set(VSC_MESSAGES) == set(VscMessageType)


def test_an_unknown_type_keeps_its_data() -> None:
    found = dissect_vscard(10, b"abc")
    assert (found.name, found.fields) == ("unknown_10", {"raw": b"abc"})
    assert build_vscard(10, found.fields) == b"abc"
    with pytest.raises(DissectionError, match="unknown_10"):
        build_vscard(10, {"raw": "abc"})
