"""Where lines go, and what is said of problems."""

import io
import os
import struct
import subprocess
import sys

import pytest

from dissectors.message_ids import Msg
from spiceproxy.reading.output import PIECE_BYTES, GoneError, Output
from spiceproxy.reading.problems import MAX_LINES, Problems
from spiceproxy.reading.reader import Reader, ReadOptions
from tests.capture.wire import SERVER, Wire


def test_lines_are_written_in_large_pieces_and_all_of_them() -> None:
    class Stream(io.BytesIO):
        writes = 0

        def write(self, data: object) -> int:
            self.writes += 1
            return super().write(data)  # type: ignore[arg-type]

    stream = Stream()
    output = Output(stream)
    for _ in range(1000):
        output.line(b"x" * 255)
    output.flush()
    assert stream.getvalue() == (b"x" * 255 + b"\n") * 1000
    assert stream.writes <= 256_000 // PIECE_BYTES + 1


def test_a_reader_that_is_gone_is_told_once_and_leaves_no_complaint() -> None:
    program = (
        "import sys\n"
        "from spiceproxy.reading.output import GoneError, Output\n"
        "output = Output(sys.stdout.buffer)\n"
        "try:\n"
        "    while True: output.line(b'x' * 1000)\n"
        "except GoneError: print('gone', file=sys.stderr)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=30)) == ("gone\n", 0)


def test_a_closed_pipe_is_an_error_of_its_own() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as stream:
        output = Output(stream)
        output.line(b"x")
        with pytest.raises(GoneError):
            output.flush()


def test_problems_are_listed_up_to_a_limit_and_then_counted() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    for _ in range(MAX_LINES + 20):
        wire.say(1, SERVER, Msg.SET_ACK, b"?")
    wire.gap(1, SERVER, 1)
    reader = Reader(ReadOptions(as_json=True, events=False), Output(io.BytesIO()))
    reader.read(wire.events)
    report = reader.problems.report()
    assert len(report) == MAX_LINES + 1
    assert report[0].startswith("s1/c1 main:0: SPICE_MSG_SET_ACK, 1 bytes: ")
    assert report[-1] == "and 22 more"  # the gap, and that framing is lost
    both = Problems()
    both.add("first")
    both.take(reader.problems)
    assert both.report()[0] == "first"
    assert (len(both.report()), both.report()[-1]) == (MAX_LINES + 1, "and 23 more")


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    wire.say(1, SERVER, Msg.SET_ACK, struct.pack("<II", 1, 20))
    wire.close(1, None)
    reader = Reader(ReadOptions(), Output(io.BytesIO()))
    reader.read(wire.events)
    assert reader.problems.report() == []
