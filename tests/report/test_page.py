"""The HTML page, read by a parser; `test_in_chromium` looks at it."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from spiceproxy.report.page import MAX_FINDINGS, render_html
from spiceproxy.report.verdict import Report
from tests.report.examples import EXAMPLES, seamless, wedged
from tests.report.hostile import EVIL, flooded, spoiled
from tests.report.images import migrations_of

VOID = {"meta", "br", "hr", "img", "input", "link", "base"}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, *, without: tuple[str, ...] = ("script", "style")) -> str:
        return "".join(text for tag, text in self.texts if tag not in without)

    def policy(self) -> str:
        metas = [attrs for tag, attrs in self.tags if tag == "meta" and attrs.get("http-equiv")]
        assert [each["http-equiv"] for each in metas] == ["Content-Security-Policy"]
        return metas[0]["content"] or ""


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_tag_is_closed_and_every_channel_has_a_row_and_a_lane(name: str) -> None:
    migration = EXAMPLES[name]()
    page = Page(render_html([migration]))
    assert page.open == []
    rows = [attrs["data-channel"] for tag, attrs in page.tags if tag == "tr" and "data-channel" in attrs]
    assert rows == list(migration.channels)
    lanes = [attrs["data-channel"] for tag, attrs in page.tags if attrs.get("class") == "channel"]
    assert set(lanes) == set(migration.channels)


def test_every_message_of_a_capture_is_on_the_page() -> None:
    migrations = migrations_of("seamless-two-hops")
    page = Page(render_html(migrations))
    found = {number for _, attrs in page.tags for number in (attrs.get("data-numbers") or "").split()}
    assert {str(said.number) for each in migrations for said in each.messages} <= found


@pytest.mark.parametrize("name", [*EXAMPLES, "spoiled"])
def test_the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else(name: str) -> None:
    page = Page(render_html([spoiled() if name == "spoiled" else EXAMPLES[name]()]))
    styles = "".join(text for tag, text in page.texts if tag == "style")
    scripts = "".join(text for tag, text in page.texts if tag == "script")
    rules = dict(part.split(" ", 1) for part in page.policy().split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == digest(styles)
    assert rules["script-src"] == digest(scripts)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert [tag for tag, _ in page.tags].count("style") == 1
    keys = {key for _, attrs in page.tags for key in attrs}
    assert not {key for key in keys if key.startswith("on")} | (
        keys & {"src", "href", "style", "srcdoc", "action"}
    )


def test_what_a_peer_wrote_stays_text() -> None:
    text = render_html([spoiled()], report=Report([spoiled()], problems=[EVIL], file=EVIL))
    text.encode()
    assert "<script>alert" not in text
    assert Page(text).comments == []
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert "</title></text></script><script>alert(1)" in Page(text).text()


def test_verdict_times_rules_diagnoses_and_who_waits_are_told() -> None:
    text = Page(render_html([wedged()])).text()
    order = [
        "wedged: inputs:0 blocks",
        "Who waits",
        "Channels",
        "Times",
        "Rules",
        "R26 error",
        "Diagnoses",
        "data-missing",
        "Look at",
    ]
    places = [text.rindex(word) for word in order]
    assert places == sorted(places)
    assert "#115" in text  # the evidence


def test_the_file_and_what_is_wrong_with_it_are_named() -> None:
    text = Page(
        render_html([seamless()], report=Report([seamless()], problems=["packet 7: cut"], file="a.pcap"))
    ).text()
    assert "Migrations in a.pcap" in text
    assert "packet 7: cut" in text


def test_a_flood_gives_a_bounded_page() -> None:
    migration = flooded()
    migration.losses += [f"loss {index}" for index in range(MAX_FINDINGS + 7)]
    text = render_html([migration])
    assert len(text) < 2_000_000
    assert "and 7 more" in Page(text).text()


def test_without_a_migration_the_page_says_so() -> None:
    assert "No migration in this capture." in Page(render_html([])).text()


def test_the_script_asks_for_nothing_and_writes_no_markup() -> None:
    page = Page(render_html([seamless()]))
    script = "".join(text for tag, text in page.texts if tag == "script")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|XMLHttp|import\(", script
    )
