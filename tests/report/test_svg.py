"""The sequence chart as SVG."""

import re
from xml.etree import ElementTree as ET

import pytest

from spiceproxy.protocol.migration.model import Migration, Outcome, Party, Severity, Violation
from spiceproxy.report.svg import render_svg
from spiceproxy.report.verdict import Report
from spiceproxy.report.words import short_name
from tests.report.examples import CAPTURE_NS, EXAMPLES, seamless, semi_seamless, wedged
from tests.report.hostile import flooded, spoiled
from tests.report.images import migrations_of

SVG = "{http://www.w3.org/2000/svg}"
CAPTURES = (
    "seamless-two-hops",
    "semi-seamless",
    "switch-host",
    "destination-refuses",
    "two-heads-one-adapter",
    "demo",
)


def drawn(*migrations: Migration) -> ET.Element:
    return ET.fromstring(render_svg(migrations))


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [each for each in root.iter() if name in each.get("class", "").split()]


def said(root: ET.Element) -> str:
    return "\n".join("".join(each.itertext()) for each in root.iter(f"{SVG}text"))


def numbers(root: ET.Element) -> set[int]:
    found = [each.get("data-numbers", "").split() for each in root.iter()]
    return {int(number) for each in found for number in each}


def check_all_is_there(root: ET.Element, migrations: list[Migration]) -> None:
    lanes = [each.get("data-channel") for each in of_class(root, "channel")]
    assert sorted(lanes, key=str) == sorted(name for each in migrations for name in each.channels)
    text = said(root)
    for migration in migrations:
        for message in migration.messages:
            assert message.number in numbers(root)
            if message.channel == "main:0":
                assert short_name(message.name, message.channel) in text
        for phase, _ in migration.phases:
            assert str(phase) in text or phase == "over"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_channel_and_every_message_of_an_example_is_drawn(name: str) -> None:
    migration = EXAMPLES[name]()
    check_all_is_there(drawn(migration), [migration])


@pytest.mark.parametrize("name", CAPTURES)
def test_every_channel_and_every_message_of_a_capture_is_drawn(name: str) -> None:
    migrations = migrations_of(name)
    assert migrations
    check_all_is_there(drawn(*migrations), migrations)


@pytest.mark.parametrize("name", [*EXAMPLES, *CAPTURES])
def test_nothing_is_drawn_outside_the_picture(name: str) -> None:
    root = drawn(*([EXAMPLES[name]()] if name in EXAMPLES else migrations_of(name)))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for each in root.iter():
        for key, most in (
            ("x", width),
            ("x1", width),
            ("x2", width),
            ("cx", width),
            ("y", height),
            ("y1", height),
            ("y2", height),
        ):
            if each.get(key) is not None:
                assert -30 <= float(each.get(key, "")) <= most
        if each.tag == f"{SVG}rect":
            assert float(each.get("width", "")) > 0
            assert float(each.get("height", "")) >= 0


def test_arrows_point_from_who_speaks_to_who_hears() -> None:
    root = drawn(seamless())
    heads = {"".join(each.itertext()): each for each in of_class(root, "head")}
    assert not any(heads)  # heads are boxes; their places tell where the lifelines are
    lines = [float(each.get("x1", "")) for each in of_class(root, "lifeline")]
    source, client, destination = lines
    ways = {}
    for arrow in of_class(root, "arrow"):
        line = next(arrow.iter(f"{SVG}line"))
        ways[arrow.get("data-name")] = (float(line.get("x1", "")), float(line.get("x2", "")))

    def near(name: str, start: float, end: float) -> bool:
        return ways[name][0] == start and abs(ways[name][1] - end) < 10

    assert near("SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS", source, client)
    assert near("SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS", client, destination)
    assert near("SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK", destination, client)
    assert near("SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS", client, source)


def test_the_verdict_is_the_title() -> None:
    assert "Seamless as offered, completed; the user saw nothing new for 59.0 ms" in said(drawn(seamless()))


def test_a_chain_has_a_chart_for_each_migration_one_below_the_other() -> None:
    one, two = drawn(seamless()), drawn(seamless(), seamless(number=2))
    assert float(two.get("height", "")) == pytest.approx(2 * float(one.get("height", "")), abs=1)
    assert len(of_class(two, "lifeline")) == 6


def test_the_pause_of_a_channel_is_a_bar_from_the_last_to_the_first_thing_to_see() -> None:
    lane = next(
        each for each in of_class(drawn(seamless()), "channel") if each.get("data-channel") == "display:0"
    )
    (pause,) = of_class(lane, "pause")
    bar = next(pause.iter(f"{SVG}rect"))
    top = float(bar.get("y", ""))
    seen = [float(next(each.iter(f"{SVG}circle")).get("cy", "")) for each in of_class(lane, "seen")]
    assert seen == pytest.approx([top, top + float(bar.get("height", ""))], abs=0.2)
    assert "59.0 ms" in said(pause)


def test_steps_of_a_channel_stand_in_their_order() -> None:
    lane = next(
        each for each in of_class(drawn(seamless()), "channel") if each.get("data-channel") == "inputs:0"
    )
    steps = [each.get("class", "").split()[1] for each in of_class(lane, "step")]
    assert steps == ["linked", "migrate", "flush", "out", "in", "first"]


def test_who_waits_is_a_bar_that_stays_open_down_to_the_edge_and_is_told_below() -> None:
    root = drawn(wedged())
    (wait,) = of_class(root, "wait")
    assert "client waits for MIGRATE_DATA" in said(wait)
    bar = next(wait.iter(f"{SVG}rect"))
    lifeline = of_class(root, "lifeline")[0]
    assert float(bar.get("y", "")) + float(bar.get("height", "")) == pytest.approx(
        float(lifeline.get("y2", "")), abs=0.2
    )
    assert "the client waits for MIGRATE_DATA of the source on inputs:0 (since 1074.6 ms)" in said(root)
    assert not of_class(drawn(seamless()), "wait")


def test_who_waits_on_no_channel_has_the_bar_at_its_lifeline() -> None:
    migration = wedged()
    migration.waiting[0] = migration.waiting[0]._replace(channel=None, who=Party.SOURCE)
    root = drawn(migration)
    (wait,) = of_class(root, "wait")
    bar, line = next(wait.iter(f"{SVG}rect")), of_class(root, "lifeline")[0]
    assert float(bar.get("x", "")) + 9 == pytest.approx(float(line.get("x1", "")), abs=0.2)


def test_a_message_that_breaks_a_rule_has_the_number_of_the_rule_beside_it() -> None:
    root = drawn(wedged())
    marked = {said(each): each for each in of_class(root, "broken")}
    assert any("R26" in text for text in marked)
    steps = [each for each in of_class(root, "step") if of_class(each, "rule")]
    assert {(each.get("data-channel"), said(each).split("\n")[-1]) for each in steps} == {
        ("inputs:0", "R26"),
        ("display:0", "R25"),
    }
    migration = seamless()
    evidence = [migration.messages[0]]
    migration.violations.append(Violation("R7", Party.SOURCE, Severity.ERROR, "no port is given", evidence))
    root = drawn(migration)
    (arrow,) = [each for each in of_class(root, "arrow") if of_class(each, "rule")]
    assert arrow.get("data-numbers") == str(evidence[0].number)
    assert "R7" in said(arrow)
    assert "no port is given" in said(root)
    assert "no port is given" in next(arrow.iter(f"{SVG}title")).text  # type: ignore[operator]


def test_a_message_that_breaks_a_rule_and_was_not_kept_is_drawn_all_the_same() -> None:
    migration = seamless()
    stray = migration.messages[0]._replace(
        number=999_999, time_ns=migration.started_ns + 1, name="SPICE_MSG_MAIN_NAME"
    )
    migration.violations.append(Violation("R9", Party.SOURCE, Severity.ERROR, "x", [stray]))
    assert 999_999 in numbers(drawn(migration))


def test_details_of_a_message_name_its_number_time_size_and_fields() -> None:
    root = drawn(seamless())
    details = {
        each.get("data-name"): next(each.iter(f"{SVG}title")).text or ""
        for each in of_class(root, "tip")
        if each.get("data-name")
    }
    begin = details["SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS"]
    assert "message 101" in begin
    assert "34 bytes" in begin
    assert "192.0.2.2, port 5900, version 1" in begin
    data = details["SPICE_MSGC_MIGRATE_DATA"]  # the last one drawn: the arrow of main
    assert "+1075.300 ms" in data
    assert "main:0, c6, client → destination" in data
    assert "magic TEST, serial 1" in data
    assert "the same bytes on both ways" in data


def test_moments_count_from_the_start_of_the_capture() -> None:
    text = render_svg([seamless()], report=Report([seamless()], start_ns=CAPTURE_NS))
    assert "message 101, 4.000000 s, +0.000 ms" in text


def test_what_was_in_the_state_of_a_channel_is_not_shown() -> None:
    assert b"inputs:0's state".hex() not in render_svg([seamless()]).replace(" ", "")


@pytest.mark.parametrize("name", [*EXAMPLES, "spoiled"])
def test_it_needs_nothing_from_elsewhere_and_runs_nothing(name: str) -> None:
    text = render_svg([spoiled() if name == "spoiled" else EXAMPLES[name]()])
    root = ET.fromstring(text)
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {
        "svg", "title", "style", "g", "rect", "line", "path", "circle", "text", "tspan",
    }  # fmt: skip
    assert not re.search(r"https?:", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert not re.search(r"@import|url\(|@font-face", text)
    assert not [key for each in root.iter() for key in each.keys() if key.startswith(("on", "href", "style"))]  # noqa: SIM118


def test_what_a_peer_wrote_stays_text() -> None:
    text = render_svg([spoiled()])
    text.encode()
    assert "<script" not in text
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert "</title></text></script><script>alert(1)" in "".join(ET.fromstring(text).itertext())


def test_colours_are_there_for_light_and_dark() -> None:
    style = next(drawn(seamless()).iter(f"{SVG}style")).text or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    names = set(re.findall(r"(--[a-z-]+):", light))
    assert set(re.findall(r"(--[a-z-]+):", dark)) == names
    assert set(re.findall(r"var\((--[a-z-]+)\)", render_svg([seamless()]))) <= names


def test_a_flood_of_messages_and_channels_gives_a_bounded_picture_that_says_so() -> None:
    migration = flooded()
    text = render_svg([migration])
    assert len(text) < 600_000
    assert "more are not shown" in text
    assert "and 264 channels more" in text
    assert len(of_class(ET.fromstring(text), "channel")) == 40


def test_in_a_flood_the_channels_that_block_or_break_rules_are_kept() -> None:
    migration = flooded()
    blamed = migration.messages[0]._replace(channel="display:299")
    migration.violations.append(Violation("R1", Party.SOURCE, Severity.ERROR, "x", [blamed], "display:299"))
    lanes = [each.get("data-channel") for each in of_class(drawn(migration), "channel")]
    assert {"main:0", "display:299"} <= set(lanes)


def test_without_a_migration_the_picture_says_so() -> None:
    assert "No migration in this capture" in said(drawn())


@pytest.mark.parametrize("outcome", [None, Outcome.INCOMPLETE])
def test_a_migration_of_which_next_to_nothing_is_known_is_drawn(outcome: Outcome | None) -> None:
    migration = Migration("s1", 1, 0, 1, CAPTURE_NS, outcome=outcome)
    assert "still connecting" in said(drawn(migration)) or outcome is not None


def test_findings_are_told_below_the_chart_the_gravest_first() -> None:
    migration = semi_seamless()
    for severity in (Severity.NOTE, Severity.ERROR, Severity.WARNING):
        migration.violations.append(Violation(f"R{len(severity)}", Party.CLIENT, severity, "it was so", []))
    text = said(drawn(migration))
    places = [text.rindex(word) for word in ("R5 error", "R7 warning", "R4 note", "nack", "2 key presses")]
    assert places == sorted(places)


def test_the_name_of_a_finding_does_not_reach_into_its_text() -> None:
    root = drawn(EXAMPLES["refused"]())
    name, text = of_class(root, "finding")[:2]
    assert "".join(name.itertext()) == "destination-unreachable"
    assert float(text.get("x", "")) > float(name.get("x", "")) + 8 * len("destination-unreachable")
