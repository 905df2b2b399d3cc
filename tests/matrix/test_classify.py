"""How a scenario ended, from what was seen: recorded observations of real runs, and what no run has shown yet."""

import re
from pathlib import Path
from typing import Final

import msgspec
import pytest

from spiceproxy.faults.scenarios import scenario
from spiceproxy.matrix.classify import again, classify, judge
from spiceproxy.matrix.results import Attempt, Ending, Observation, Verdict
from tests.matrix.cells import cell

OBSERVED: Final = Path(__file__).with_name("observed.jsonl")


class Observed(msgspec.Struct):
    scenario: str
    seen: Observation


def observed() -> dict[str, Observation]:
    found = [msgspec.json.decode(line, type=Observed) for line in OBSERVED.read_bytes().splitlines()]
    return {each.scenario: each.seen for each in found}


# What somebody made of recording, logs and exit states by hand.
KNOWN: Final = {
    "nack-synth": ("semi-seamless", "NACK: the destination does not take version 1"),
    "nack-rewrite": ("destination-aborted", "SIGTRAP: .*semi_seamless_migrate_complete: unexpected"),
    "bad-magic": ("destination-aborted", "SIGTRAP: .*migration_protocol_validate_header: bad magic"),
    "refuse-dst": ("switch-host", "CONNECT_ERROR: .*refused by a fault"),
    "drop-data-inputs": ("wedged", "the destination waits for MIGRATE_DATA from the client on inputs:0"),
    "cancel-after-reply": ("cancelled", "the source cancelled"),
    "switch-inject": ("switch-host", ""),
    "switch-null": ("client-crashed", "SIGSEGV"),
    "flush-to-plain": ("source-aborted", "SIGTRAP: .*unexpected flush mark"),
    "wild-pointer-surfaces": ("destination-aborted", "SIGSEGV"),
    "strip-semi-source": ("session-lost", "the client ended with exit status 0"),
    "end-and-switch-host": ("session-lost", "the client has no connection left"),
    "dst-dead-before": ("unchanged", "QEMU's migration failed"),
    "cut-midframe-dst": ("wedged", "the display stands still .* lost display:0"),
    "close-one-dst-channel": ("client-crashed", "SIGSEGV"),
    "stall-dst": ("wedged", "the client waits for the link result from the destination on main:0"),
    "late-verdict": ("wedged", "the display stands still for the client on s2"),
    "migrate-at-once": ("seamless", ""),
    "second-migration-during-first": ("switch-host", ""),
    "fake-end": ("unchanged", ""),
    "drop-acks-display": ("source-aborted", "SIGABRT: .*wait_all_sent: timeout"),
    "header-split": ("session-lost", "the client ended with exit status 0"),
}


def test_all_observations_are_known() -> None:
    assert set(observed()) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_an_observation_of_a_real_run_is_what_it_was_by_hand(name: str) -> None:
    outcome, words = KNOWN[name]
    found, detail = classify(observed()[name])
    assert found == outcome
    assert re.search(words, detail), detail


def attempt(**changes: object) -> Attempt:
    plain = Attempt(
        "seamless", "seamless", "completed", "all moved", "the destination acknowledged", False, [], []
    )
    return msgspec.structs.replace(plain, **changes)


def seen(**changes: object) -> Observation:
    plain = Observation(
        fired=["it"],
        attempts=[attempt()],
        qmp=["completed"],
        guest_on="s2",
        client_on="s2",
        roles={"s1": "source", "s2": "destination"},
        channels=["display:0", "main:0"],
        alive=True,
        left_source=True,
    )
    return msgspec.structs.replace(plain, **changes)


def test_a_session_that_goes_on_at_the_destination_is_of_the_kind_that_was_performed() -> None:
    assert classify(seen()) == ("seamless", "the destination acknowledged")
    assert classify(seen(attempts=[attempt(performed="semi-seamless")]))[0] == "semi-seamless"


def test_what_no_rule_did_anything_to_has_shown_nothing() -> None:
    one = scenario("nack-synth")
    as_expected = seen(attempts=[attempt(performed="semi-seamless")])
    assert judge(one, as_expected).verdict is Verdict.EXPECTED
    assert judge(one, msgspec.structs.replace(as_expected, fired=[])).verdict is Verdict.SILENT


def test_a_lesser_kind_than_was_tried_is_degraded_also_where_it_is_expected() -> None:
    one = scenario("nack-synth")
    assert judge(one, seen(attempts=[attempt(performed="semi-seamless")])).degraded
    assert not judge(one, seen()).degraded
    assert judge(one, seen()).verdict is Verdict.UNEXPECTED


def test_a_server_that_aborts_explains_a_client_that_ends() -> None:
    endings = [
        Ending("client", "client", 0, "", ["main channel: closed"]),
        Ending("s2", "destination", -5, "SIGTRAP", ["Spice: x.c:1:f: unexpected"]),
    ]
    lost = seen(endings=endings, client_on=None, guest_on=None, alive=False)
    assert classify(lost) == ("destination-aborted", "SIGTRAP: Spice: x.c:1:f: unexpected")
    assert judge(scenario("nack-rewrite"), lost).guest_lost


def test_a_client_that_a_signal_ends_has_crashed_and_one_that_ends_by_itself_has_lost_its_session() -> None:
    crashed = Ending("client", "client", -11, "SIGSEGV", ["main channel: opened", "GSpice-CRITICAL: no"])
    assert classify(seen(endings=[crashed], client_on=None)) == (
        "client-crashed",
        "SIGSEGV: GSpice-CRITICAL: no",
    )
    ended = Ending("client", "client", 1, "", [])
    assert classify(seen(endings=[ended], client_on=None))[0] == "session-lost"


def test_a_session_whose_display_stands_still_is_wedged_whatever_its_migration_came_to() -> None:
    outcome, detail = classify(seen(alive=False, missing=["display:0"]))
    assert outcome == "wedged"
    assert detail.startswith("the display stands still for the client on s2, which has lost display:0")
    assert classify(seen(alive=False, attempts=[], roles={"s1": "source"}, client_on="s1"))[0] == "wedged"


def test_a_client_that_is_not_where_the_guest_runs_is_wedged() -> None:
    outcome, detail = classify(seen(guest_on="s2", client_on="s1"))
    assert (outcome, detail) == ("wedged", "the guest runs on s2, the client is on s1")


def test_a_migration_that_is_still_going_on_is_wedged_and_says_who_waits() -> None:
    waits = "the client waits for MIGRATE from the source"
    going = attempt(outcome=None, performed=None, stalled=True, waiting=[waits])
    assert classify(seen(attempts=[going])) == ("wedged", waits)
    moving = attempt(outcome=None, performed=None)
    assert classify(seen(attempts=[moving])) == ("wedged", "the migration has not ended")


def test_channels_that_were_left_behind_are_named() -> None:
    outcome, detail = classify(seen(missing=["usbredir:0"]))
    assert outcome == "seamless"
    assert detail.startswith("without usbredir:0")


def test_noise_that_qemu_always_makes_is_no_message() -> None:
    said = ["warning: host doesn't support requested feature: x", "Spice: y.c:2:g: condition failed"]
    ending = Ending("s1", "source", -6, "SIGABRT", said)
    assert classify(seen(endings=[ending])) == ("source-aborted", "SIGABRT: Spice: y.c:2:g: condition failed")
    bare = Ending("s1", "source", -11, "SIGSEGV", said[:1])
    assert classify(seen(endings=[bare])) == ("source-aborted", "SIGSEGV")


def test_results_are_judged_again_by_what_the_catalog_expects_now() -> None:
    old = cell(
        scenario="nack-rewrite",
        verdict=Verdict.UNEXPECTED,
        expect=["wedged"],
        seen=observed()["nack-rewrite"],
    )
    unseen = cell(seen=None, verdict=Verdict.NOT_RUN)
    gone = cell(scenario="no-such", seen=observed()["nack-rewrite"])
    new, *others = again([old, unseen, gone])
    assert (new.verdict, new.expect) == (Verdict.EXPECTED, ["destination-aborted"])
    assert others == [unseen, gone]


def test_a_client_that_left_the_source_and_got_nowhere_has_lost_its_session_whatever_is_still_open() -> None:
    lost = attempt(
        performed="switch-host", outcome="failed", reason="session lost: the client left the source for x"
    )
    assert classify(seen(attempts=[attempt(), lost])) == ("session-lost", lost.reason)
