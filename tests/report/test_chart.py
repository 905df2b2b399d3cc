"""The sequence chart in text."""

import re

import pytest

from dissectors.side import Side
from spiceproxy.protocol.migration.model import Kind, Migration
from spiceproxy.reading.style import Look
from spiceproxy.report.textchart import LEAST_COLUMNS, MAX_ROWS, fits, text_chart
from spiceproxy.report.words import Clock, short_name
from tests.report.examples import EXAMPLES, Made, seamless, wedged


def chart(migration: Migration, width: int = 100) -> list[str]:
    return list(text_chart(migration, Look(colour=False, width=width), Clock(migration.started_ns)))


def sequence(migration: Migration, width: int = 100) -> list[str]:
    lines = chart(migration, width)
    return lines[2 : lines.index("") if "" in lines else None]


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_message_of_main_has_its_line_and_its_arrow_points_to_who_receives_it(name: str) -> None:
    migration = EXAMPLES[name]()
    rows = sequence(migration)
    for said in migration.messages:
        if said.channel != "main:0":
            continue
        word = short_name(said.name, said.channel)
        there = said.hop == migration.destination_hop
        moment = f"{(said.time_ns - migration.started_ns) / 1e6:.1f} "
        found = [row for row in rows if row.lstrip().startswith(moment) and f" {word} " in row]
        assert len(found) == 1
        left, middle = found[0].split("│")[1:3]
        assert (word in middle) is there
        rightward = (said.side is Side.CLIENT) is there
        assert (middle if there else left).strip().startswith("◀") is not rightward


def test_messages_of_a_migration_on_other_channels_are_counted() -> None:
    text = "\n".join(sequence(seamless()))
    assert "MIGRATE, 4 others" in text
    assert text.count("MIGRATE_DATA, 2 others") == 2


def test_a_message_that_breaks_a_rule_is_marked_even_if_it_is_on_another_channel() -> None:
    rows = sequence(wedged())
    assert any("display:0 DRAW_COPY !R25" in row for row in rows)
    assert any("MIGRATE_FLUSH_MARK, 2 others !R26" in row for row in rows)


def test_phases_stand_between_the_messages_that_bring_them_about() -> None:
    text = "\n".join(sequence(seamless()))
    order = [
        "CONNECTED_SEAMLESS",
        "the guest moves, 900.0 ms",
        "MIGRATE ─",
        "the channels change over, 3.0 ms",
        "completed",
    ]
    places = [text.index(each) for each in order]
    assert places == sorted(places)


def test_the_same_message_again_and_again_is_one_line() -> None:
    made = Made(Kind.SEAMLESS)
    for i in range(5):
        made.said(i + 1, "SPICE_MSG_PING", Side.SERVER)
    assert sum("PING ×5" in row for row in sequence(made.m)) == 1


def test_thousands_of_messages_make_a_chart_that_can_be_looked_at() -> None:
    migration = seamless()
    first = migration.messages[0]
    for i in range(3000):
        side = (Side.SERVER, Side.CLIENT)[i % 2]
        name = f"SPICE_MSG_MAIN_{'AB'[i % 2]}"
        migration.messages.append(first._replace(time_ns=first.time_ns + i * 10**5, name=name, side=side))
    rows = sequence(migration)
    assert len(rows) <= MAX_ROWS + 1
    assert sum(int(found[1]) for row in rows if (found := re.search(r"(\d+) other messages", row))) == 3001
    assert any("MIGRATE_CONNECTED_SEAMLESS" in row for row in rows)


def test_a_migration_that_never_stops_shows_its_begin_and_its_end() -> None:
    made = Made(Kind.SEAMLESS)
    for i in range(500):
        made.said(i + 1, f"SPICE_MSG_MAIN_MIGRATE_{i}", Side.SERVER)
    text = "\n".join(sequence(made.m))
    assert "MIGRATE_BEGIN_SEAMLESS" in text
    assert "MIGRATE_499" in text
    assert re.search(r"4\d\d more are not shown", text)


def lanes(migration: Migration) -> dict[str, str]:
    lines = chart(migration)
    start = next(i for i, line in enumerate(lines) if line.startswith("Lanes"))
    return {line.split()[0]: line[13:] for line in lines[start + 1 : -1]}


def test_every_channel_has_a_lane_and_its_pause_is_a_bar() -> None:
    found = lanes(seamless())
    assert list(found) == list(seamless().channels)
    assert found["display:0"].count("█") > found["main:0"].count("▒") > 0
    assert found["display:0"].endswith(" 59.0 ms")


def test_the_bar_of_a_channel_that_is_stuck_goes_to_the_end() -> None:
    found = lanes(wedged())
    assert re.fullmatch(r"─+▒+▶ +waits", found["inputs:0"])
    assert re.fullmatch(r"─+█+▶ +never", found["display:0"])  # where the user sees that nothing comes
    assert found["main:0"].endswith("━")


def test_the_mark_of_the_last_word_stands_below_the_place_where_the_change_begins() -> None:
    lines = chart(seamless())
    assert lines[-1].index("▲") == next(line for line in lines if line.startswith("  main:0")).index("▒")


@pytest.mark.parametrize(
    ("width", "expected"), [(LEAST_COLUMNS - 1, False), (LEAST_COLUMNS, True), (None, True)]
)
def test_whether_there_is_room_for_it(width: int | None, expected: bool) -> None:
    assert fits(Look(colour=False, width=width)) is expected


def test_it_fits_where_it_says_so() -> None:
    for make in EXAMPLES.values():
        assert max(map(len, chart(make(), LEAST_COLUMNS))) <= LEAST_COLUMNS
