"""Our decoder beside the one that users of Wireshark have.

Every unit of every capture is read by both, from a file in which each has a packet of its own; what tshark shows of it
has to be what we have there. And tshark is given the captures as they are, to see that streams are cut into the same
messages for as far as it can follow. Where it is wrong is in known_differences.toml.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.captures.corpus import Specimen, specimens
from tests.differential import tshark
from tests.differential.comparison import Comparison, Verdict, same
from tests.differential.framing import Framing, compare_framing
from tests.differential.made_up import MADE_UP
from tests.differential.repacked import SPICE_PORT, Repacked
from tests.programs import require_programs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

VERSION = "4.0."  # of Debian 12
SPECIMENS = specimens()
# Of this one the messages are also given full headers, which have a serial number.
FULL_HEADERS, OF = "full headers", "drawing-seamless"
MADE_UP_HERE = "made up"
NAMES = [*(specimen.name for specimen in SPECIMENS), FULL_HEADERS, MADE_UP_HERE]


class Compared:
    """All captures, read once by both."""

    def __init__(self, path: Path) -> None:
        self.repacked = Repacked(path)
        for specimen in SPECIMENS:
            with specimen.capture.open("rb") as source:
                self.repacked.add(specimen.name, source)
            if specimen.name == OF:
                with specimen.capture.open("rb") as source:
                    self.repacked.add(FULL_HEADERS, source, full_header=True)
        for channel, messages in MADE_UP.items():
            self.repacked.make_up(MADE_UP_HERE, channel, messages)
        self.repacked.close()
        names = [*tshark.spice_fields(), *tshark.COMPLAINTS]
        self.rows = list(tshark.rows(path, names, [SPICE_PORT]))
        self.comparison = Comparison()
        for sent, row in zip(self.repacked.sent, self.rows, strict=True):
            self.comparison.compare(sent, row)


def require_tshark() -> None:
    require_programs("tshark")
    if not (version := tshark.version()).startswith(VERSION):
        pytest.skip(f"known_differences.toml is about tshark {VERSION}x, not {version}")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    require_tshark()
    return Compared(tmp_path_factory.mktemp("tshark") / "repacked.pcap")


@pytest.fixture(scope="module")
def framings() -> dict[str, Framing]:
    require_tshark()
    with ThreadPoolExecutor(2) as pool:  # most of it is waiting for tshark to start
        found = pool.map(compare_framing, [specimen.capture for specimen in SPECIMENS])
        return dict(zip([specimen.name for specimen in SPECIMENS], found, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_tshark_shows_what_we_read_or_is_known_to_be_wrong(
    compared: Compared, name: str, record_property: Callable[[str, Any], None]
) -> None:
    verdict = compared.comparison.verdicts[name]
    assert verdict.unexplained == []
    for key in ("messages", "agreed", "excused", "values", "differences"):
        record_property(key, getattr(verdict, key))


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: str(specimen.name))
def test_tshark_finds_the_same_messages_in_the_streams_until_it_loses_its_way(
    compared: Compared,
    framings: dict[str, Framing],
    specimen: Specimen,
    record_property: Callable[[str, Any], None],
) -> None:
    framing = framings[specimen.name]
    known = compared.comparison.known
    unexplained = [(after, at) for after, at in framing.lost if not known.explain(after, at)]
    assert unexplained == []
    record_property("messages", framing.messages)
    record_property("followed", framing.seen)


def test_every_field_that_tshark_shows_is_compared_or_not_for_a_reason(compared: Compared) -> None:
    assert compared.comparison.unmapped == set()
    assert all(compared.comparison.fields.not_compared.values())


def test_the_tables_name_fields_that_tshark_has(compared: Compared) -> None:
    known = {*tshark.spice_fields(), *tshark.COMPLAINTS}
    assert compared.comparison.fields.names <= known


def test_no_known_difference_is_out_of_date(compared: Compared, framings: dict[str, Framing]) -> None:
    known = compared.comparison.known
    for framing in framings.values():
        for after, at in framing.lost:
            known.explain(after, at)
    stale = [(row.tshark, row.stale) for row in known.differences if row.stale]
    stale += [(row.reason, row.stale) for row in known.lost if row.stale]
    assert stale == []
    assert [row.field for row in known.misnamed.values() if not row.differed] == []


def test_every_message_that_fits_a_packet_was_decoded(compared: Compared) -> None:
    assert [sent for sent in compared.repacked.sent if sent.error is not None] == []
    assert len(compared.repacked.left_out) < 5, compared.repacked.left_out


def _another(kind: str, text: str) -> str:
    if kind == "FT_BYTES":
        return "00" if text == tshark.NO_BYTES else text[:-1] + ("0" if text[-1] != "0" else "1")
    if kind == "FT_GUID":
        return text[:-1] + ("0" if text[-1] != "0" else "1")
    return text + "x" if kind.startswith("FT_STRING") else str(int(text, 0) ^ 1)


def test_another_value_than_ours_would_be_noticed_in_every_field(compared: Compared) -> None:
    noticed: set[str] = set()
    compared_fields: set[str] = set()
    for sent, row in zip(compared.repacked.sent, compared.rows, strict=True):
        for name in row.keys() - compared_fields:
            ours = compared.comparison.ours(name, sent)
            if ours is None or not same(name, row[name], ours):
                continue
            compared_fields.add(name)
            changed = [_another(tshark.spice_fields()[name], row[name][0]), *row[name][1:]]
            for other in (changed, [*row[name], row[name][0]], row[name][:-1]):
                if same(name, other, ours):
                    break
            else:
                noticed.add(name)
    assert noticed == compared_fields
    assert len(noticed) > 180


def test_a_difference_that_nobody_knows_of_is_unexplained(compared: Compared) -> None:
    comparison = Comparison()
    sent = next(sent for sent in compared.repacked.sent if sent.name == "SPICE_MSG_DISPLAY_DRAW_COPY")
    row = compared.rows[compared.repacked.sent.index(sent)]
    comparison.compare(sent, row | {"spice.image_width": ["7"]})
    (unexplained,) = comparison.verdicts[sent.capture].unexplained
    assert unexplained.startswith("display/SPICE_MSG_DISPLAY_DRAW_COPY: spice.image_width is ['7'], ours [")
    assert all(row.stale for row in comparison.known.differences if "main/SPICE_MSG_MAIN_INIT" in row.where)


def test_nearly_all_of_what_tshark_reads_is_compared(
    compared: Compared, framings: dict[str, Framing], capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = compared.comparison.verdicts
    total = sum(verdicts.values(), start=Verdict())
    with capsys.disabled():
        print(
            "\n\ntshark and we: messages, the same in all that it shows, known to differ, header only, values, streams"
        )
        for name, verdict in [*verdicts.items(), ("all", total)]:
            framing = framings.get(name)
            followed = f"{framing.seen} of {framing.messages} messages" if framing else ""
            print(f"{name:>24} {verdict} {followed}")
    assert total.agreed + total.excused == total.messages
    assert total.agreed / total.messages > 0.85
    in_streams = sum(framing.seen for framing in framings.values())
    assert in_streams / sum(framing.messages for framing in framings.values()) > 0.85
    known = compared.comparison.known
    assert all(row.tshark and row.reason for row in known.differences)
