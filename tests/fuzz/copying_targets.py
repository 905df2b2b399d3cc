"""Copies of captures: redacted ones keep sizes and times and no secret, repaired ones hold what was there and nothing else."""

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Final, NamedTuple

from spiceproxy.capture.events import Summary
from spiceproxy.capture.packets import packets_of
from spiceproxy.capture.pcapng import ORIGINAL_DAMAGED
from spiceproxy.errors import CaptureError
from spiceproxy.redaction.redact import Options, redact
from spiceproxy.repair.repair import Repaired, repair
from tests.capture.build import Captured, pcap, pcapng, stamped
from tests.fuzz.pieces import is_one_line, split
from tests.redaction import world
from tests.redaction.smuggling import FORMS, REACHES_BACK, WAYS, Frame, Making, survives, talk

PORT: Final = 5900
_LATEST_NS: Final = 2**64 - 1
_BLOCKS: Final = {0x0A0D0D0A: 28, 1: 20, 5: 24, 6: 32}  # that copies consist of, and their least sizes


class Seen(NamedTuple):
    """A packet as a reader sees it."""

    time_ns: int
    link_type: int
    data: bytes
    missing: int


def seen(file: bytes, summary: Summary) -> Iterator[Seen]:
    """The packets of a file, as far as it can be read."""
    try:
        for time_ns, link_type, buffer, at, end, missing, *_ in packets_of(io.BytesIO(file), None, summary):
            yield Seen(time_ns, link_type, buffer[at:end], missing)
    except CaptureError as error:
        is_one_line(error)
        summary.problem(str(error))


def copied(file: bytes, **options: bool) -> tuple[bytes, int]:
    """The copy without secrets, and how many packets are said to be in it; empty if it is no capture."""
    out = io.BytesIO()
    ports = (PORT,) if options.pop("port", False) else ()
    try:
        outcome = redact(lambda: io.BytesIO(file), out, Options(**options, ports=ports))  # type: ignore[arg-type]
    except CaptureError as error:
        is_one_line(error)
        assert not out.getvalue()
        return b"", 0
    assert all("\n" not in line for line in (*outcome.summary.problems, *outcome.account.notes))
    return out.getvalue(), outcome.account.packets


def is_valid(copy: bytes) -> None:
    """Every block of it is one that any program reads; the sums of its options and of its packet fit."""
    at, interfaces = 0, 0
    while at < len(copy):
        kind, length = struct.unpack_from("<II", copy, at)
        assert at or kind == 0x0A0D0D0A
        assert length >= _BLOCKS[kind]
        assert not length & 3
        assert struct.unpack_from("<I", copy, at + length - 4)[0] == length
        fixed = _BLOCKS[kind] - 4
        if kind == 6:
            which, _, _, captured, original = struct.unpack_from("<IIIII", copy, at + 8)
            assert which < interfaces
            fixed += captured + (-captured & 3)
            assert original < 2**32
        interfaces += kind == 1
        _options(copy[at + fixed : at + length - 4])
        at += length
    assert at == len(copy)


def _options(data: bytes) -> None:
    at, code = 0, 0
    while at < len(data):
        code, size = struct.unpack_from("<HH", data, at)
        assert code or not size
        at += 4 + size + (-size & 3)
        assert at <= len(data)
        if not code:
            break
    assert not code
    assert at == len(data)


# Redaction ------------------------------------------------------------------------------------------------


def redaction(data: bytes) -> None:
    """The bytes of a capture to a copy without secrets: a byte of options, then the file."""
    if not data:
        return
    choice = {
        "addresses": bool(data[0] & 1), "keep_others": bool(data[0] & 2), "keep_comments": bool(data[0] & 4),
        "port": bool(data[0] & 0x80),
    }  # fmt: skip
    file = data[1:]
    copy, count = copied(file, **choice)
    if not copy:
        return
    is_valid(copy)
    summary = Summary()
    after = list(seen(copy, summary))
    assert len(after) == count == summary.packets
    assert all(problem.startswith(ORIGINAL_DAMAGED) for problem in summary.problems)
    before = list(seen(file, Summary()))
    assert len(after) == len(before) if choice["keep_others"] else len(after) <= len(before)
    if choice["keep_others"]:
        for one, other in zip(before, after, strict=True):
            assert other.time_ns == min(max(one.time_ns, 0), _LATEST_NS)
            assert (other.link_type, len(other.data)) == (one.link_type, len(one.data))
            assert other.missing == max(one.missing, -len(one.data))
    if not choice["addresses"]:
        assert list(seen(copied(copy, **choice)[0], Summary())) == after, "a copy of a copy is the same"


_ENDS: Final = (
    {"client": ("192.0.2.1", 40000), "server": ("192.0.2.2", PORT)},
    {"client": ("2001:db8::9", 40000), "server": ("2001:db8::1", PORT)},
)
MAX_TRICKS: Final = 12


@cache
def _frames(first: int, second: int, ends: int, size: int) -> tuple[Frame, ...]:
    speeches = world.speeches()
    chosen = (speeches[first % len(speeches)], speeches[second % len(speeches)])
    return tuple(talk(chosen, cut=size, **_ENDS[ends]).frames)


def smuggling(data: bytes) -> None:
    """A session full of secrets, to which the network and a forger did things: four bytes of what, then three for each."""
    if len(data) < 4:
        return
    frames = _frames(data[0] & 15, data[0] >> 4, data[1] & 1, (23, 100, 541, 1400)[data[1] >> 1 & 3])
    making = Making(list(frames), "<" if data[1] & 8 else ">")
    tricks = [data[at : at + 3] for at in range(4, min(len(data) - 2, 4 + 3 * MAX_TRICKS), 3)]
    network = [trick for trick in tricks if trick[0] & 0x80]
    for what, high, low in network:
        _disturb(making, (high << 8 | low) % len(making.frames), what & 0x7F)
    # Then the forger, who says everything only after somebody else has said it: what comes first is what was meant.
    names = [name for name in (*WAYS, *FORMS) if not network or name != REACHES_BACK]
    for what, high, low in tricks:
        if what < 0x80:
            making.act(names[what % len(names)], (high << 8 | low) % len(making.frames))
    file = making.file(
        link=1 if data[2] & 1 else 101, tags=(0x8100,) * (data[2] >> 1 & 3), packed=bool(data[2] & 8)
    )
    copy, _ = copied(file, addresses=bool(data[3] & 1), port=bool(data[3] & 2))
    assert not survives(copy)
    assert world.found_in(world.views(copy)) == set()
    if data[3] & 1:
        assert bytes([192, 0, 2]) not in b"".join(each.data for each in seen(copy, Summary()))
    is_valid(copy)
    shape = [(each.time_ns, len(each.data), each.missing) for each in seen(file, Summary())]
    others = copied(file, keep_others=True)[0]
    assert [(each.time_ns, len(each.data), each.missing) for each in seen(others, Summary())] == shape


def _disturb(making: Making, at: int, how: int) -> None:
    """Loss, repetition, disorder: what a network does to segments."""
    frames = making.frames
    if how & 3 == 0 and len(frames) > 8:
        del frames[at]
    elif how & 3 == 1:
        frames.insert(at + (how >> 2), frames[at])
    elif how & 3 == 2:
        frames.insert((at + (how >> 2)) % len(frames), frames.pop(at))
    elif len(frames[at].packet) > 60:
        frames[at] = replace(frames[at], captured=len(frames[at].packet) - 1 - (how >> 2))


# Repair ---------------------------------------------------------------------------------------------------


def repairing(data: bytes) -> None:
    """A damaged capture to one that is whole: the bytes of a file, or a byte below 0x0A and what is done to one of ours."""
    if data and data[0] < 0x0A:  # no capture begins so
        _damaged(data[0], data[1:])
    else:
        _repaired(data)


def _repaired(data: bytes) -> None:
    out = io.BytesIO()
    try:
        result = repair(io.BytesIO(data), out)
    except CaptureError as error:
        is_one_line(error)
        return
    _is_whole(out.getvalue(), result)
    assert repair(io.BytesIO(data), None) == result


def _is_whole(out: bytes, result: Repaired) -> None:
    """What a repair gives is read without a complaint, and there is nothing to repair in it."""
    summary = Summary()
    assert sum(1 for _ in packets_of(io.BytesIO(out), None, summary)) == result.packets
    assert not [each for each in summary.problems if not each.startswith(ORIGINAL_DAMAGED)]
    again = io.BytesIO()
    assert repair(io.BytesIO(out), again).is_whole
    assert again.getvalue() == out


_PACKETS: Final = stamped(
    Captured(bytes([0x45, number]) * (5 + number * number % 97)) for number in range(40)
)
FILES: Final = (
    pcapng(_PACKETS), pcapng(_PACKETS, order=">"), pcap(_PACKETS, nano=True), pcap(_PACKETS, order=">"),
    pcap(_PACKETS, modified=True),
)  # fmt: skip
_HAS_BLOCKS: Final = (0, 1)
_HEADS: Final = (28, 28, 24, 24, 24)
MAX_DAMAGES: Final = 4


def _damaged(which: int, data: bytes) -> None:
    """Cut, overwritten, bytes too many or too few, as pieces say: what stands in front is there, nothing is made up."""
    which %= len(FILES)
    file = bytearray(FILES[which])
    before = [(each.time_ns, each.data) for each in seen(bytes(file), Summary())]
    first, damages = len(file), []
    for piece in list(split(data))[:MAX_DAMAGES]:
        if len(piece.data) < 2:
            continue
        at = _HEADS[which] + int.from_bytes(piece.data[:2], "little") % (len(file) - _HEADS[which] + 1)
        first = min(first, at)
        damages.append(piece.kind & 3)
        if piece.kind & 3 == 0:
            del file[at:]
        elif piece.kind & 3 == 1:
            file[at : at + len(piece.data) - 2] = piece.data[2:]
        elif piece.kind & 3 == 2:
            file[at:at] = piece.data[2:]
        else:
            del file[at : at + (piece.kind >> 2)]
    out = io.BytesIO()
    try:
        result = repair(io.BytesIO(bytes(file)), out)
    except CaptureError as error:
        is_one_line(error)
        assert first < 128, "what stands before the damage can be saved"
        return
    _is_whole(out.getvalue(), result)
    after = [(each.time_ns, each.data) for each in seen(out.getvalue(), Summary())]
    intact = [(each.time_ns, each.data) for each in seen(bytes(file[:first]), Summary())]
    assert intact == before[: len(intact)]
    if damages == [0]:
        assert after == intact
    if which not in _HAS_BLOCKS:  # in pcap only the next packet proves a length, and nothing the first one's
        intact = intact[:-1]
    assert after[: len(intact)] == intact
    if intact and not {1, 2} & set(damages):  # nobody has written packets of his own
        whole = [each for each in after if each in before]
        assert whole == sorted(whole)
        assert len(after) - len(whole) <= 2 * len(damages)
