"""What a reader of smartcards and its guest say to each other: the data of SMARTCARD_DATA, by its type.

Numbers are little-endian on the SPICE link, in network order on the guest's side.
Source: libcacard vscard_common.h, VSCMsg*; spice-server smartcard.cpp and spice-gtk channel-smartcard.c.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from dissectors.errors import DissectionError
from dissectors.fields import U32, BulkRest, Choice, Data, ItemsToEnd, Record, Rest
from dissectors.message import Dissection, MessageSpec, table

MAX_CAP_WORDS: Final = 64  # one is ever sent, and no bit of it has a meaning


class VscErrorCode(IntEnum):
    """VSC_* error codes."""

    SUCCESS = 0
    GENERAL_ERROR = 1
    CANNOT_ADD_MORE_READERS = 2
    CARD_ALREADY_INSERTED = 3


VSC_MESSAGES: Final = table(
    MessageSpec(
        1,
        "VSC_Init",
        "Both ends, once: who speaks which version; spice-gtk and spice-server send none.",
        Record(
            "magic" / U32 * "the letters VSCD",
            "version" / U32 * "bits 21 and up major, 10 to 20 middle, 0 to 9 minor",
            "capabilities" / ItemsToEnd(U32, limit=MAX_CAP_WORDS) * "words of bits; none has a meaning yet",
        ),
    ),
    MessageSpec(
        2,
        "VSC_Error",
        "Answers ReaderAdd, ReaderRemove, ATR and CardRemove, also where all went well.",
        Record("code" / Choice(U32, VscErrorCode)),
    ),
    MessageSpec(
        3,
        "VSC_ReaderAdd",
        "Client to guest: there is a reader; the answer brings its reader_id.",
        Record("name" / Rest * "UTF-8, often with a NUL at its end; spice-server ignores it"),
    ),
    MessageSpec(4, "VSC_ReaderRemove", "Client to guest: the reader is gone."),
    MessageSpec(
        5,
        "VSC_ATR",
        "Client to guest: a card was put in, or reset, and says what it is.",
        Record("atr" / Rest * "answer to reset, ISO 7816-3"),
    ),
    MessageSpec(6, "VSC_CardRemove", "Client to guest: the card is gone."),
    MessageSpec(
        7,
        "VSC_APDU",
        "A command to the card or its response.",
        Record("data" / BulkRest * "ISO 7816-4; may hold a PIN"),
    ),
    MessageSpec(8, "VSC_Flush", "Answer all commands that wait, then send FlushComplete."),
    MessageSpec(9, "VSC_FlushComplete", "Answers Flush."),
)


def dissect_vscard(type_: int, body: Data) -> Dissection:
    """Name a smartcard message and take its data apart.

    Args:
        type_: `type` of SMARTCARD_DATA.
        body: Its `data`.

    Returns:
        "unknown_99" with {"raw": data} for a type that is not known.

    Raises:
        DissectionError: The data does not fit the type.
    """
    spec = VSC_MESSAGES.get(type_)
    if spec is None:
        return Dissection(f"unknown_{type_}", {"raw": bytes(body)})
    return spec.dissect(body)


def build_vscard(type_: int, fields: Mapping[str, Any], *, trailing: bytes = b"") -> bytes:
    """Put the data of a smartcard message together: the reverse of `dissect_vscard`.

    Raises:
        DissectionError: The fields do not fit the type.
    """
    spec = VSC_MESSAGES.get(type_)
    if spec is not None:
        return spec.build(fields, trailing)
    if set(fields) != {"raw"} or not isinstance(fields["raw"], bytes | bytearray | memoryview):
        raise DissectionError(f"unknown_{type_}: wants the field 'raw' with its data, and nothing else")
    return bytes(fields["raw"]) + trailing
