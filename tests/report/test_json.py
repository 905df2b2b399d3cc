"""The report for programs, against the tables of docs/report.md."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiceproxy.protocol.migration.model import TIMES, Kind
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.verdict import Report
from tests.report.examples import CAPTURE_NS, EXAMPLES, seamless, wedged
from tests.report.golden import report_of

DOCUMENT = Path(__file__).parents[2] / "docs/report.md"
OBJECTS = (
    "The report", "A migration", "A message", "An offer", "A handshake", "An ending", "Times", "A channel", "A link",
    "Who waits", "A violation", "A diagnosis",
)  # fmt: skip
# The keys that whoever reads reports was promised first.
PROMISED = {
    "A migration": "offered agreed performed outcome reason times_ms channels violations diagnoses session number damaged",
    "A channel": "channel flags source_linked destination_linked migrate flush_mark data_from_source data_to_destination "
    "data_equal first_from_destination pause_ms",
    "A violation": "rule by severity message evidence",
    "A diagnosis": "code channels text evidence",
}


def documented() -> dict[str, set[str]]:
    """Object to its keys, as the document has them."""
    found: dict[str, set[str]] = {}
    heading = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| `") and heading in OBJECTS:
            found.setdefault(heading, set()).update(re.findall(r"`([a-z0-9_]+)`", line.split("|")[1]))
    return found


KEYS = documented()


def object_of(report: Report) -> dict[str, Any]:
    """As a program reads it."""
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(report_object(report)))
    return made


def seen(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Object to all of its kind in this report."""
    found: dict[str, list[dict[str, Any]]] = {each: [] for each in OBJECTS}
    found["The report"].append(report)
    for migration in report["migrations"]:
        found["A migration"].append(migration)
        found["An offer"] += filter(None, [migration["offer"]])
        found["A handshake"].append(migration["handshake"])
        found["An ending"].append(migration["ending"])
        found["A message"] += migration["messages"]
        found["A message"] += filter(None, migration["ending"].values())
        found["A channel"] += migration["channels"]
        for channel in migration["channels"]:
            found["A link"] += filter(None, [channel["source"], channel["destination"]])
            found["A message"] += filter(None, [channel["migrate"], channel["flush_mark"]])
        found["Who waits"] += migration["waiting"]
        found["A violation"] += migration["violations"]
        found["A diagnosis"] += migration["diagnoses"]
        for each in (*migration["violations"], *migration["diagnoses"]):
            found["A message"] += each["evidence"]
    found["A violation"] += report["violations"]
    found["A message"] += [said for each in report["violations"] for said in each["evidence"]]
    return found


def test_every_object_is_documented() -> None:
    assert KEYS.keys() == set(OBJECTS)


@pytest.mark.parametrize("name", [each for each in OBJECTS if each != "Times"])
def test_every_object_has_exactly_the_keys_that_are_documented(name: str) -> None:
    checked = 0
    for example in EXAMPLES:
        for found in seen(object_of(report_of(example)))[name]:
            assert found.keys() == KEYS[name], example
            checked += 1
    assert checked


@pytest.mark.parametrize("name", PROMISED)
def test_the_keys_that_were_promised_are_there(name: str) -> None:
    assert set(PROMISED[name].split()) <= KEYS[name]


def test_every_time_is_documented() -> None:
    assert KEYS["Times"] == TIMES.keys()


def test_the_version_is_one() -> None:
    assert object_of(Report([]))["v"] == 1


def test_kinds_are_names() -> None:
    migration = object_of(report_of("semi-seamless"))["migrations"][0]
    kinds = [migration[key] for key in ("offered", "agreed", "performed")]
    assert kinds == ["seamless", "semi-seamless", "semi-seamless"]
    assert migration["outcome"] == "completed"
    expected = object_of(Report([], expected=Kind.SWITCH_HOST))["expected"]
    assert expected == "switch-host"


def test_what_did_not_happen_is_null_and_what_did_is_its_message() -> None:
    channels = {each["channel"]: each for each in object_of(report_of("wedged"))["migrations"][0]["channels"]}
    inputs = channels["inputs:0"]
    assert (inputs["data_from_source"], inputs["data_equal"]) == (None, None)
    assert inputs["flush_mark"] == {
        "number": 115,
        "time_ms": 1074.6,
        "time_ns": "1700000005074600000",
        "connection": "c3",
        "channel": "inputs:0",
        "hop": 0,
        "leg": "source",
        "from": "client",
        "name": "SPICE_MSGC_MIGRATE_FLUSH_MARK",
        "size": 0,
    }
    main = channels["main:0"]
    assert main["data_equal"] is True
    assert main["data_from_source"]["sha256"] == main["data_to_destination"]["sha256"]
    assert main["flags"] == ["NEED_FLUSH", "NEED_DATA_TRANSFER"]


def test_evidence_leads_back_to_its_messages() -> None:
    violation = object_of(Report([wedged()], start_ns=CAPTURE_NS))["migrations"][0]["violations"][0]
    assert [each["number"] for each in violation["evidence"]] == [114, 115]


def test_times_in_texts_can_be_found_in_the_capture() -> None:
    report = object_of(Report([seamless()], start_ns=CAPTURE_NS))
    begin = report["migrations"][0]["offer"]["message"]
    assert int(begin["time_ns"]) - int(report["start_ns"]) == 4_000_000_000


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_state_of_channels_is_not_in_it(name: str) -> None:
    text = msgspec.json.encode(report_object(report_of(name)))
    assert b"'s state" not in text
    assert b"'s state".hex().encode() not in text
