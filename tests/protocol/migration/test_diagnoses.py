"""Diagnoses as a whole: the table, the good migrations, the real captures, and the documents."""

import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.capture.migrations import migrations_in
from spiceproxy.capture.streams import stream_events
from spiceproxy.protocol.migration.diagnoses.table import CODES
from spiceproxy.protocol.migration.facts import Fact, Missing, Said
from spiceproxy.protocol.migration.model import Migration, Outcome
from tests.captures.corpus import specimens
from tests.protocol.migration import test_diagnoses_after, test_diagnoses_before, test_diagnoses_switch
from tests.protocol.migration.expected import Row, complete
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    cancelled,
    refused,
    seamless,
    semi_seamless,
    switch_host,
    too_early,
)
from tests.protocol.migration.spoilt import agent, full, gapless

ROOT: Final = Path(__file__).parents[3]
MODULES: Final = (test_diagnoses_before, test_diagnoses_switch, test_diagnoses_after)
ROWS: Final = [row for module in MODULES for row in module.ROWS]
NAMES: Final = [code.name for code in CODES]

# What the captures show, by their notes. Every other migration in them was seamless and good, and has none.
CAPTURES: Final = {
    # The source's seamless-migration option was off, as the lab turns it off for a semi-seamless migration.
    "semi-seamless": [["seamless-option-off"]],
    "simulated-client": [["seamless-option-off"]],
    "two-heads-one-adapter": [["seamless-option-off"]],
    # Port 1, where nobody listens; the client went there all the same when SWITCH_HOST came.
    "destination-refuses": [["destination-unreachable"]],
    # The destination's port was closed until the client had given up; then SWITCH_HOST.
    "switch-host": [["destination-unreachable", "reconnected-from-scratch"]],
    "switch-host-direct": [["destination-unreachable", "reconnected-from-scratch"]],
    "unreachable": [["destination-unreachable"]],
    # The link of main was refused with PERMISSION_DENIED, before SWITCH_HOST and after it.
    "expired-ticket": [["ticket-refused"]],
    # migrate_cancel; the next migration is good.
    "cancelled": [["cancelled"], []],
    # The destination was killed: QEMU's migration failed, and the source took it back.
    "killed-during": [["cancelled"]],
    # It was killed when all had moved: completed, and then the session was lost.
    "killed-after": [["destination-died"]],
    "killed-source": [["source-died"]],
    # A second port on the source alone: its link is closed unanswered, and the client crashes over it.
    "more-on-source": [["destination-lacks-channel", "client-left"]],
    # The guest had moved 89 ms after BEGIN; the client still holds the links of that when the next BEGIN comes.
    "too-early": [
        ["too-early-migrate", "reconnected-from-scratch"],
        ["earlier-unfinished", "reconnected-from-scratch"],
    ],
    # client_migrate_info came again, and a good migration of it.
    "twice": [["cancelled"], []],
    # spice-gtk waits for the MIGRATE of a channel that it had never opened; what follows finds it still waiting.
    "unopened-webdav": [
        ["never-open-at-source", "source-gave-up"],
        ["begin-postponed", "reconnected-from-scratch"],
    ],
    "idle-head": [
        ["never-open-at-source", "source-gave-up"],
        ["earlier-unfinished", "reconnected-from-scratch"],
    ],
}


def of_captures(name: str) -> list[Migration]:
    (specimen,) = [each for each in specimens() if each.name == name]
    with specimen.capture.open("rb") as source:
        return migrations_in(stream_events(source))


def test_every_code_has_one_row_and_names_others_that_are_there() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for at, code in enumerate(CODES):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|nack|cancelled|unexplained", code.name)
        # A row can only hide what comes behind it.
        assert set(code.hides) <= set(NAMES[at + 1 :])


def test_every_code_is_given_by_a_spoilt_migration_and_withheld_from_one_that_is_nearly_so() -> None:
    assert {code for row in ROWS for code in row.codes} == set(NAMES)
    assert {near.code for module in MODULES for near in module.NEAR} == set(NAMES)


@pytest.mark.parametrize(
    "play",
    [
        seamless(2), seamless(2, mini=False), gapless(full()), agent(busy=3), seamless(channels=(*CHANNELS, "display:1")),
        seamless(channels=("main:0", "display:0")),
    ],
    ids=["mini", "full", "serials", "agent", "heads", "few"],
)  # fmt: skip
def test_good_migrations_have_none(play: Play) -> None:
    assert [each.diagnoses for each in play.migrations(quiet_ns=10 * SECOND)] == [[]] * len(play.migrations())


@pytest.mark.parametrize("name", [each.name for each in specimens()])
def test_real_captures_have_what_their_notes_say(name: str) -> None:
    found = of_captures(name)
    codes = [[each.code for each in migration.diagnoses] for migration in found]
    assert codes == CAPTURES.get(name, [[]] * len(found))
    for migration in found:
        for diagnosis in migration.diagnoses:
            complete(diagnosis, migration)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_no_migration_that_failed_or_hangs_is_without_a_diagnosis_wherever_the_capture_ends(row: Row) -> None:
    play = row.play()
    for length in range(1, len(play.facts), 7):
        for found in Play(play.facts[:length]).migrations(quiet_ns=16 * SECOND):
            if found.outcome in {Outcome.FAILED, Outcome.WEDGED} and found.offered is not None:
                assert found.diagnoses, found.reason
                assert not found.blocking or any(
                    set(each.channels) & set(found.blocking) for each in found.diagnoses
                ), (found.blocking, found.diagnoses)
            for diagnosis in found.diagnoses:
                complete(diagnosis, found)


@pytest.mark.parametrize(
    "play",
    [
        seamless(2),
        semi_seamless(2),
        refused(),
        switch_host(),
        switch_host(begin=True),
        cancelled(),
        too_early(),
    ],
    ids=["seamless", "semi-seamless", "refused", "switch-host", "connect-error", "cancelled", "too-early"],
)
def test_a_capture_of_a_migration_that_ends_anywhere_says_nothing_that_the_whole_one_does_not(
    play: Play,
) -> None:
    whole = {each.code for found in play.migrations() for each in found.diagnoses}
    for length in range(1, len(play.facts)):
        for found in Play(play.facts[:length]).migrations(quiet_ns=500 * MS):
            assert {each.code for each in found.diagnoses} <= whole


NEVER_CAME: Final = frozenset(NAMES) & {
    "migrate-missing", "flush-mark-missing", "data-missing", "data-not-delivered", "silent-after-switch", "reply-missing",
    "verdict-missing", "init-missing", "client-ignored-end", "channel-not-linked", "destination-silent", "client-did-not-ask",
    "client-never-connected", "messages-lost", "window-shut", "window-not-restored", "unexplained", "connected-without-ack",
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_where_anything_may_be_missing_nobody_is_said_to_have_been_silent(row: Row) -> None:
    play = row.play()
    first = play.facts[0]
    torn = Play(
        (
            first,
            Missing(first.time_ns, None, None, 0, "connections that began before the capture"),
            *play.facts[1:],
        )
    )
    for found in torn.migrations(quiet_ns=row.quiet_ns):
        assert not NEVER_CAME & {each.code for each in found.diagnoses}


def test_holes_in_any_channel_of_a_good_migration_accuse_nobody() -> None:
    play = seamless()
    for channel in CHANNELS:
        for hop in (0, 1):
            name = play.connection(channel, hop)
            for side in (CLIENT, SERVER):
                at = play.where("MIGRATE_BEGIN_SEAMLESS" if hop == 0 else "MIGRATE_CONNECTED_SEAMLESS")
                now = play.facts[at].time_ns
                facts = [
                    fact
                    for fact in play.facts[at + 1 :]
                    if (getattr(fact, "connection", ""), getattr(fact, "side", None)) != (name, side)
                    or not hasattr(fact, "serial")
                ]
                holed = Play((*play.facts[: at + 1], Missing(now, name, side, 1000), *facts))
                assert holed.migration(quiet_ns=20 * SECOND).diagnoses == []


def test_the_documents_have_every_code_with_its_meaning_in_order() -> None:
    text = (ROOT / "docs" / "diagnoses.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \|$", text, re.MULTILINE)
    assert rows == [(code.name, code.meaning) for code in CODES]


def _without_body(fact: Fact) -> Fact:
    return fact._replace(body=None) if isinstance(fact, Said) else fact


@given(st.data())
def test_whatever_is_lost_doubled_or_held_back_is_told_in_whole_sentences(data: st.DataObject) -> None:
    play = data.draw(
        st.sampled_from([seamless(mini=False), seamless(), semi_seamless(), too_early(), refused()])
    )
    facts = list(play.facts)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(facts) - 2))
        edit = data.draw(st.sampled_from(["lost", "doubled", "later", "cut"]))
        if edit == "lost":
            del facts[at]
        elif edit == "doubled":
            facts.insert(at, facts[at])
        elif edit == "cut":
            facts[at] = _without_body(facts[at])
        else:
            late = data.draw(st.integers(1, 20 * SECOND))
            facts[at:] = [fact._replace(time_ns=fact.time_ns + late) for fact in facts[at:]]
        if len(facts) < 3:
            break
    for found in Play(tuple(facts)).migrations(quiet_ns=16 * SECOND):
        if found.outcome in {Outcome.FAILED, Outcome.WEDGED} and found.offered is not None:
            assert found.diagnoses, found.reason
        for diagnosis in found.diagnoses:
            complete(diagnosis, found)
