"""The page and the picture in a real browser: what is on them can be seen, and works."""

from pathlib import Path
from typing import Any

import pytest

from spiceproxy.protocol.migration.model import Migration
from spiceproxy.report.page import render_html
from spiceproxy.report.svg import draw, render_svg
from spiceproxy.report.verdict import Report
from tests.programs import require_programs
from tests.report.browser import probe, screenshot
from tests.report.examples import seamless, wedged
from tests.report.hostile import spoiled
from tests.report.images import migrations_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def chromium() -> None:
    require_programs("chromium")


def looked_at(migrations: list[Migration], folder: Path) -> tuple[dict[str, Any], list[str]]:
    page = folder / "report.html"
    page.write_text(render_html(migrations), encoding="utf-8")
    return probe(page, folder)


@pytest.mark.parametrize("name", ["seamless-two-hops", "semi-seamless", "destination-refuses", "switch-host"])
def test_every_channel_and_every_message_of_a_capture_can_be_seen(name: str, tmp_path: Path) -> None:
    migrations = migrations_of(name)
    found, console = looked_at(migrations, tmp_path)
    assert console == []
    assert found["wide"] <= 1280
    shown = {number for each in found["messages"] if each["seen"] for number in str(each["numbers"]).split()}
    assert {str(said.number) for each in migrations for said in each.messages} <= shown
    channels = sorted(name for each in migrations for name in each.channels)
    assert sorted(each["name"] for each in found["channels"] if each["seen"]) == channels
    assert sorted(found["rows"]) == channels


def test_the_pointer_brings_details_and_the_chart_can_be_made_larger(tmp_path: Path) -> None:
    found, console = looked_at([wedged()], tmp_path)
    assert console == []
    assert found["before"] is True
    assert found["hover"].startswith("SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS\nmessage 101, ")
    assert found["larger"] == pytest.approx(1.25, abs=0.03)
    assert found["again"] == pytest.approx(1, abs=0.03)
    assert found["pressed"] == pytest.approx(1.25, abs=0.03)
    assert found["wheeled"] == pytest.approx(1.25 / 1.15, abs=0.03)


def test_what_a_hostile_peer_wrote_does_nothing(tmp_path: Path) -> None:
    found, console = looked_at([spoiled()], tmp_path)
    assert console == []
    assert found["scripts"] == 1
    assert len(found["channels"]) == 5


def test_the_picture_is_light_or_dark_as_its_reader_likes_it(tmp_path: Path) -> None:
    migration = seamless()
    size = draw(migration, Report([migration]))
    page = tmp_path / "chart.svg"
    page.write_text(render_svg([migration]), encoding="utf-8")
    sizes = {}
    for dark in (False, True):
        picture = tmp_path / f"{dark}.png"
        console = screenshot(
            page, picture, tmp_path, width=round(size.width), height=round(size.height), dark=dark
        )
        assert console == []
        sizes[dark] = picture.read_bytes()
    assert all(data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 20_000 for data in sizes.values())
    assert sizes[False] != sizes[True]
