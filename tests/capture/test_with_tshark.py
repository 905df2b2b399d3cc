"""The same captures, read by tshark and rewritten by editcap and mergecap."""

import gzip
import itertools
import random
from pathlib import Path

import pytest

from dissectors.side import Side
from spiceproxy.capture.streams import Opened, StreamEvent
from tests.capture.build import (
    ACK,
    FIN,
    LINK_MESSAGE,
    Captured,
    Heard,
    Talk,
    ethernet,
    hear,
    pcap,
    pcapng,
    stamped,
)
from tests.recording.tshark import run

pytestmark = pytest.mark.lab

C, S = Side.CLIENT, Side.SERVER
SPECIMENS = sorted(Path(__file__).parents[2].joinpath("captures").glob("**/*.pcapng*"))


def name_of(specimen: str | Path) -> str:
    return specimen if isinstance(specimen, str) else specimen.parent.name


def messy(path: Path) -> Path:
    """Several connections; segments mixed, repeated, overlapping and cut anew."""
    dice = random.Random(7)
    packets: list[Captured] = []
    for number in range(4):
        talk = Talk(
            client=("192.0.2.1", 40000 + number), client_isn=2**32 - 50, server_isn=2**32 - 3000
        ).greet()
        talk.say(C, 0, LINK_MESSAGE)
        stream = dice.randbytes(40_000)
        spans = [(at, at + 700) for at in range(0, 40_000, 500)]
        for at in range(0, len(spans), 6):  # mixed within a window, as networks do
            window = spans[at : at + 6] + dice.sample(spans[max(at - 6, 0) : at + 6], 2)
            dice.shuffle(window)
            for start, end in window:
                talk.say(S, start, stream[start:end], ack=len(LINK_MESSAGE))
            talk.say(C, len(LINK_MESSAGE), ack=min(at * 500, 40_000))
        talk.say(S, 40_000, flags=FIN, ack=len(LINK_MESSAGE))
        talk.say(C, len(LINK_MESSAGE), flags=FIN | ACK, ack=40_001)
        packets += talk.packets
    path.write_bytes(pcapng([Captured(ethernet(p.data), p.time_ns) for p in stamped(packets)], link=1))
    return path


def read(path: Path) -> Heard:
    return hear(path.read_bytes())


def as_tshark(parts: list[bytes | int]) -> bytes:
    """With the words that tshark puts where bytes are missing."""
    return b"".join(
        b"[%d bytes missing in capture file]\0" % part if isinstance(part, int) else part for part in parts
    )


def followed(path: Path, count: int) -> list[tuple[bytes, bytes]]:
    """What both ends of each of the first `count` connections said, as `Follow TCP stream` shows it, in one run."""
    wishes = [part for number in range(count) for part in ("-z", f"follow,tcp,raw,{number}")]
    text = run("tshark", "-r", str(path), "-q", *wishes)
    found = []
    for section in text.split("Node 1: ")[1:]:
        lines = itertools.takewhile(lambda line: not line.startswith("="), section.splitlines()[1:])
        said: dict[bool, list[str]] = {False: [], True: []}
        for line in lines:
            said[line.startswith("\t")].append(line.strip())
        found.append((bytes.fromhex("".join(said[False])), bytes.fromhex("".join(said[True]))))
    return found


@pytest.mark.parametrize("specimen", ["messy", *SPECIMENS], ids=name_of)
def test_the_bytes_are_those_that_tshark_follows(specimen: str | Path, tmp_path: Path) -> None:
    path = messy(tmp_path / "messy.pcapng") if isinstance(specimen, str) else specimen
    heard = read(path)
    ours = [[as_tshark(heard.parts(opened.connection, side)) for side in Side] for opened in heard.opened]
    theirs = followed(path, heard.summary.tcp_connections)
    assert len(theirs) == heard.summary.tcp_connections
    assert ours
    # Without a SYN tshark takes whoever spoke first for the client, so which is which is not compared.
    magic = [pair for pair in theirs if pair[0].startswith(b"REDQ") or pair[1].startswith(b"REDQ")]
    assert sorted(map(sorted, ours)) == sorted(map(sorted, magic))


@pytest.mark.parametrize("specimen", ["messy", *SPECIMENS[:3]], ids=name_of)
@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "modpcap", "pcapng"])
def test_what_editcap_makes_of_it_reads_the_same(specimen: str | Path, kind: str, tmp_path: Path) -> None:
    path = messy(tmp_path / "messy.pcapng") if isinstance(specimen, str) else specimen
    made = tmp_path / f"made.{kind}"
    run("editcap", "-F", kind, str(path), str(made))
    unit = 1000 if kind in ("pcap", "modpcap") else 1
    expected: list[StreamEvent] = []
    for event in read(path).events:
        rounded = event._replace(time_ns=event.time_ns // unit * unit)
        if kind != "pcapng" and isinstance(rounded, Opened):
            rounded = rounded._replace(comment=None)  # pcap has no comments
        expected.append(rounded)
    assert read(made).events == expected


def test_packets_cut_by_editcap_are_gaps_of_the_right_size(tmp_path: Path) -> None:
    path, made = messy(tmp_path / "messy.pcapng"), tmp_path / "cut.pcapng"
    run("editcap", "-s", "200", str(path), str(made))
    whole, cut = read(path), read(made)
    for connection in range(1, 5):
        parts = cut.parts(connection, S)
        stream, at = whole.of(connection, S), 0
        for part in parts:
            if isinstance(part, bytes):
                assert stream[at : at + len(part)] == part
            at += part if isinstance(part, int) else len(part)
        assert at == len(stream) == 40_000
        assert any(isinstance(part, int) for part in parts)


def test_files_that_mergecap_puts_together_have_the_connections_of_both(tmp_path: Path) -> None:
    one = messy(tmp_path / "one.pcapng")
    talk = Talk(client=("2001:db8::1", 50000), server=("2001:db8::2", 5901)).greet()
    talk.say(C, 0, LINK_MESSAGE)
    two = tmp_path / "two.pcap"
    two.write_bytes(pcap(stamped(talk.packets), nano=True))  # raw IP beside Ethernet: two interfaces
    merged = tmp_path / "merged.pcapng"
    run("mergecap", "-w", str(merged), str(one), str(two))
    heard = read(merged)
    assert len(heard.opened) == 5
    assert heard.summary.problems == []
    assert sum(opened.server.port == 5901 for opened in heard.opened) == 1
    packed = tmp_path / "merged.pcapng.gz"
    packed.write_bytes(gzip.compress(merged.read_bytes()))
    assert read(packed).events == heard.events
