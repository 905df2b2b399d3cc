"""Captures without their secrets: nothing is left of what was secret, and all else is what it was."""

import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.packets import packets_of
from spiceproxy.capture.streams import stream_events
from spiceproxy.errors import CaptureError
from spiceproxy.reading.decode import Decoder
from spiceproxy.redaction.kinds import KEEPABLE, Kind
from spiceproxy.redaction.redact import Options, redact
from tests.capture.build import pcapng, stamped
from tests.captures.corpus import Specimen, specimens
from tests.redaction.world import SECRETS, Network, capture, found_in, redacted, views

EACH = pytest.mark.parametrize("specimen", specimens(), ids=[specimen.name for specimen in specimens()])
# Of a message that announces more than any has: the number may be a piece of a secret.
ANNOUNCED = re.compile(r"(?<=message of )[0-9]+(?= bytes announced)")
CUTS = st.lists(st.integers(1, 200) | st.just(1460), min_size=1, max_size=8)
SEGMENTS = st.sets(st.integers(0, 400), max_size=40)


def read(file: bytes) -> Iterator[tuple[Any, ...]]:
    """What a reader says of each message but for what fields hold; errors quote them, so only whether there is one."""
    decoder = Decoder()
    for item in read_messages(stream_events(io.BytesIO(file))):
        if isinstance(item, CapturedMessage):
            view = decoder.view(item)
            inside = [(inner.name, inner.size, inner.error is None) for inner in view.inside or ()]
            headers = [header for _, header in view.image_headers()]
            yield (
                item.connection.id,
                item.time_ns,
                item.message.size,
                view.name,
                view.error is None,
                inside,
                headers,
            )
        else:
            yield item.connection.id, item.time_ns, item.event, ANNOUNCED.sub("", str(item.fields))


def test_the_secrets_are_in_the_capture_to_begin_with() -> None:
    file = capture()
    assert found_in(views(file)) == set(SECRETS)
    assert all(each[4] for each in read(file) if len(each) > 4)  # and every message decodes


def test_none_of_them_is_in_the_copy() -> None:
    copy, outcome = redacted(capture())
    assert found_in(views(copy)) == set()
    assert outcome.account.undecoded == 0
    expected = set(Kind) - {Kind.ADDRESSES, Kind.NOTICES, Kind.AGENT, Kind.UNREAD}
    assert set(outcome.account.kinds) == expected


@settings(deadline=None, max_examples=20)
@given(CUTS, SEGMENTS, SEGMENTS)
def test_neither_cuts_nor_retransmissions_nor_disorder_save_a_secret(
    cuts: list[int], repeats: set[int], swaps: set[int]
) -> None:
    file = capture(Network(cuts, sorted(repeats), sorted(swaps)))
    copy, _ = redacted(file)
    assert found_in(views(copy)) == set()
    assert list(read(copy)) == list(read(file))


@settings(deadline=None, max_examples=20)
@given(CUTS, st.sets(st.integers(0, 300), max_size=12))
def test_what_is_missing_in_the_capture_saves_no_secret(cuts: list[int], lost: set[int]) -> None:
    network = Network(cuts)
    capture(network)
    file = pcapng(packet for index, packet in enumerate(stamped(network.packets)) if index not in lost)
    copy, _ = redacted(file)
    assert found_in(views(copy)) == set()
    assert list(read(copy)) == list(read(file))


@given(st.sampled_from(KEEPABLE))
@settings(deadline=None, max_examples=len(KEEPABLE))
def test_a_kind_that_is_kept_is_in_the_copy_and_the_others_are_not(kind: Kind) -> None:
    copy, outcome = redacted(capture(), keep=frozenset({kind}))
    left = found_in(views(copy))
    assert kind not in outcome.account.kinds
    names = {
        Kind.KEYS: {"keys", "key messages", "word"}, Kind.CLIPBOARD: {"clipboard", "clipboard as UTF-16"},
        Kind.FILES: {"file", "file name"}, Kind.WEBDAV: {"webdav"}, Kind.USB: {"usb"}, Kind.SMARTCARD: {"pin"},
        Kind.PORT: {"port"}, Kind.PIXELS: {"picture", "end of the picture", "video", "glyph", "cursor"},
        Kind.SOUND: {"sound"}, Kind.GUEST: {"guest", "uuid"}, Kind.MIGRATION: {"device"},
    }  # fmt: skip
    assert left == names.get(kind, set())


def copy_of(path: Path, **options: Any) -> bytes:
    out = io.BytesIO()
    redact(lambda: open_capture(str(path)), out, Options(**options))
    return out.getvalue()


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "spiceproxy", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, done.stdout


def without_digests(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_digests(each) for key, each in value.items() if key not in {"file", "sha256"}}
    return [without_digests(each) for each in value] if isinstance(value, list) else value


@EACH
def test_the_report_on_a_copy_is_the_same(specimen: Specimen, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pcapng"
    copy.write_bytes(copy_of(specimen.capture))
    (before, text), (after, copied) = (
        run("report", "--json", str(specimen.capture)),
        run("report", "--json", str(copy)),
    )
    assert (after, without_digests(json.loads(copied))) == (before, without_digests(json.loads(text)))


@EACH
def test_what_is_read_of_a_copy_is_the_same_but_for_secret_fields(specimen: Specimen) -> None:
    with open_capture(str(specimen.capture)) as source:
        original = plain_pcapng(source.read())
    assert list(read(copy_of(specimen.capture))) == list(read(original))


def plain_pcapng(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


@EACH
def test_a_copy_of_a_copy_is_the_same(specimen: Specimen) -> None:
    once = copy_of(specimen.capture)
    out = io.BytesIO()
    outcome = redact(lambda: io.BytesIO(once), out, Options())
    assert packets(out.getvalue()) == packets(once)
    assert set(outcome.account.kinds) <= {
        Kind.PIXELS,
        Kind.GUEST,
        Kind.NOTICES,
        Kind.PORT,
        Kind.UNREAD,
        Kind.USB,
        Kind.WEBDAV,
        Kind.AGENT,
        Kind.CLIPBOARD,
    }


def packets(file: bytes) -> list[tuple[int, bytes]]:
    return [
        (time_ns, buffer[start:end])
        for time_ns, _, buffer, start, end, *_ in packets_of(io.BytesIO(file), None, Summary())
    ]


@EACH
def test_packets_keep_their_sizes_and_times(specimen: Specimen) -> None:
    with open_capture(str(specimen.capture)) as source:
        before = packets(plain_pcapng(source.read()))
    after = packets(copy_of(specimen.capture, keep_others=True))
    assert [(time_ns, len(data)) for time_ns, data in after] == [
        (time_ns, len(data)) for time_ns, data in before
    ]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(28, 10**6), st.integers(0, 255)), max_size=40), st.booleans())
def test_a_capture_with_other_bytes_anywhere_ends_in_a_copy_or_in_an_error(
    flips: list[tuple[int, int]], addresses: bool
) -> None:
    file = bytearray(capture())
    for at, byte in flips:
        file[at % (len(file) - 28) + 28] = byte
    try:
        copy, _ = redacted(bytes(file), addresses=addresses)
    except CaptureError:
        return
    list(read(copy))


@pytest.mark.parametrize("name", ["switch-host-direct", "port-webdav-two-hops", "seamless-text"])
def test_with_stand_ins_a_report_differs_in_nothing_but_addresses(name: str, tmp_path: Path) -> None:
    """All of a specimen is on loopback, which stays; so it moves to another address first."""
    (specimen,) = (each for each in specimens() if each.name == name)
    file = gzip.decompress(specimen.capture.read_bytes())
    file = file.replace(b"127.0.0.1\0", b"10.77.0.1\0").replace(bytes([127, 0, 0, 1]), bytes([10, 77, 0, 1]))
    original, copy = tmp_path / "original.pcapng", tmp_path / "copy.pcapng"
    original.write_bytes(file)
    copy.write_bytes(redacted(file, addresses=True)[0])
    assert b"10.77.0.1" not in copy.read_bytes()
    assert bytes([10, 77, 0, 1]) not in copy.read_bytes()
    (before, text), (after, copied) = (
        run("report", "--json", str(original)),
        run("report", "--json", str(copy)),
    )
    (stand_in,) = set(re.findall(r"\b10\.\d+\.\d+\.\d+\b", copied))
    assert len(stand_in) == len("10.77.0.1")
    assert (after, without_digests(json.loads(copied.replace(stand_in, "10.77.0.1")))) == (
        before, without_digests(json.loads(text)),
    )  # fmt: skip
