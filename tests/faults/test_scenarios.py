"""The catalog: complete, loadable, and each scenario does what it says to the messages it names."""

import re
from typing import get_args

import pytest

from dissectors.channels import ChannelType
from spiceproxy.errors import UsageError
from spiceproxy.faults import FaultFileError, convert, families
from spiceproxy.faults.actions import ACTIONS
from spiceproxy.faults.scenarios import Measured, Outcome, Scenario, measured, read, scenario, scenarios
from spiceproxy.faults.tables import PhaseName
from spiceproxy.protocol.migration.model import Phase

# The names of the list of faults that the catalog began with.
NUMBERED = """
F1 nack-rewrite; F2 nack-synth; F3 ack-synth; F4 version-begin; F5 version-do; F6 begin-downgrade; F7 begin-upgrade;
F8 strip-seamless-client; F9 strip-tokens-client; F10 strip-semi-client; F11 strip-seamless-dst; F12 refuse-dst;
F13 refuse-one-dst-channel; F14 stall-dst; F15 stall-verdict; F16 drop-connected; F17 late-connected;
F18 fake-connected; F19 connect-error-rewrite; F20 seamless-to-connected; F21 inject-cancel; F22 swallow-cancel;
F23 drop-end; F24 fake-end; F25 drop-migrate; F26 dup-migrate; F27 flags-zero; F28 flags-three-cursor;
F29 noise-before-data; F30 drop-flush; F31 delay-flush; F32 dup-flush; F33 traffic-after-flush; F34 drop-data-inputs;
F35 drop-data-display; F36 drop-data-vmc; F37 inject-migrate; F38 bad-magic; F39 bad-version; F40 truncate-data;
F41 pad-data; F42 dup-data; F43 cross-data; F44 wild-pointer; F45 corrupt-tokens; F46 connected-zero;
F47 unknown-surface; F48 serial-skew; F49 cut-midframe; F50 half-close; F51 stall-one-channel; F52 slow-display;
F53 do-seamless-to-plain; F54 flush-to-plain; F55 end-to-plain; F56 switch-null; F57 switch-inject; F58 dst-rewrite;
F59 subject-mismatch; F60 tls-downgrade; F61 wrong-connection-id; F62 zero-connection-id; F63 header-split;
F64 second-client; F65 hold-early-s2; F66 tls-only-sentinel
"""
UNSAFE = ["F1", "F20", "F28", "F32", "F37", "F38", "F39", "F40", "F43", "F46", "F47", "F53", "F54", "F62"]


def test_every_numbered_fault_is_there_under_its_name() -> None:
    found = {each.number: each.name for each in scenarios().values() if each.number}
    assert found == dict(entry.split() for entry in NUMBERED.split(";"))


def test_those_that_kill_a_qemu_say_so() -> None:
    by_number = {each.number: each for each in scenarios().values() if each.number}
    assert all(by_number[number].can_kill_qemu for number in UNSAFE)
    aborts = {"source-aborted", "destination-aborted"}
    for each in scenarios().values():
        assert each.can_kill_qemu or not aborts & set(each.expect), each.name
        assert ("client" in each.kills) == ("client-crashed" in each.expect), each.name


@pytest.mark.parametrize("each", scenarios().values(), ids=lambda each: each.name)
def test_every_scenario_compiles_and_says_what_it_is(each: Scenario) -> None:
    rules = each.rules()
    assert rules
    assert all(rule.text for rule in rules)
    assert len({rule.name for rule in rules}) == len(rules)
    for text in (each.wire, each.imitates, each.protocol, each.reaction):
        assert text.strip() == text
        assert len(text) > 3
        assert "{}" not in text


def test_a_rule_is_named_after_its_scenario() -> None:
    assert [rule.name for rule in scenario("nack-rewrite").rules()] == ["nack-rewrite"]
    assert [rule.name for rule in scenario("second-client-dst").rules()] == [
        "second-client-dst 1",
        "second-client-dst 2",
    ]


def test_a_name_that_is_none_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="there is no scenario `nack-rewite`; did you mean `nack-rewrite`"):
        scenario("nack-rewite")


def test_two_scenarios_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = [convert.convert(each, Scenario) for each in families.made()][:1] * 2
    monkeypatch.setattr(families, "made", lambda: twice)
    with pytest.raises(FaultFileError, match="two scenarios are called `lose-begin-seamless`"):
        scenarios.__wrapped__()


def test_every_message_of_every_kind_of_migration_is_lost_late_doubled_and_out_of_order() -> None:
    names = set(scenarios())
    for message in ("begin-seamless", "begin", "do-seamless", "ack", "connected-seamless", "connected-semi", "end-source",
                    "end-client", "switch-host", "cancel"):  # fmt: skip
        assert {f"{verb}-{message}" for verb in ("lose", "late", "twice", "behind")} <= names
    for message in ("migrate", "flush-mark", "data-out", "data-in"):
        for channel in ("main", "display", "inputs", "usbredir", "port", "webdav", "smartcard"):
            assert {f"{verb}-{message}-{channel}" for verb in ("lose", "late", "twice", "behind")} <= names


def test_every_field_of_every_state_is_corrupted() -> None:
    names = set(scenarios())
    for name in (
        "data-main-magic-ones", "data-main-char_device.write_data_ptr-bit", "data-main-c2a_msg_filter_result-ones",
        "data-display-message_serial-ones", "data-display-pixmap_cache_clients-3-bit", "data-display-glz_dict.size-ones",
        "data-inputs-motion_count-ones", "data-usbredir-char_device.connected-bit", "data-smartcard-read_data_ptr-ones",
    ):  # fmt: skip
        assert name in names
    assert sum(name.startswith("data-") for name in names) > 130


def test_every_channel_stands_still_once_and_every_flag_is_changed() -> None:
    names = set(scenarios())
    for channel in ChannelType:
        if channel is not ChannelType.TUNNEL:
            assert f"stall-{channel.name.lower()}" in names
    assert {"flags-inputs-0", "flags-inputs-ffffffff", "flags-cursor-3"} <= names
    assert "flags-inputs-3" not in names  # that is what it is


def test_all_actions_but_a_few_are_used() -> None:
    used = {
        name
        for each in scenarios().values()
        for rule in each.rules()
        for name in re.findall(r"[a-z_]+", rule.text)
    }
    assert set(ACTIONS) - used == {"hold", "copy", "header"}


def test_what_was_measured_is_of_scenarios_that_exist() -> None:
    assert set(measured()) <= set(scenarios())
    assert all(
        isinstance(each, Measured) and each.outcome in get_args(Outcome) for each in measured().values()
    )


def test_phases_are_those_of_the_tracker() -> None:
    assert set(get_args(PhaseName)) == {"none", *(phase.value for phase in Phase)}


GOOD = """
[[scenario]]
name = "one"
wire = "w"
imitates = "i"
protocol = "p"
reaction = "r"
expect = ["wedged"]
[[scenario.fault]]
match = { message = "PING" }
do = "drop"
"""


@pytest.mark.parametrize(
    ("right", "wrong", "line", "reason"),
    [
        ('"PING"', '"PIN"', 10, "there is no message `PIN`; did you mean `PING`?"),
        ('"wedged"', '"wedgd"', 8, "there is no expect called `wedgd`; did you mean `wedged`?"),
        ('"one"', '"One"', 3, "`name` has to be matching regex '^[a-z0-9]+([-_.][a-z0-9]+)*$'"),
        ('wire = "w"', "", 2, "`wire` is missing"),
        ("[[scenario.fault]]", "needs = { migration = \"semi-seemless\" }\n[[scenario.fault]]", 9,
         "there is no migration called `semi-seemless`; did you mean `semi-seamless`?"),
    ],
)  # fmt: skip
def test_a_file_of_the_catalog_is_checked_as_well(right: str, wrong: str, line: int, reason: str) -> None:
    assert [each.name for each in read(GOOD, file="x.toml")] == ["one"]
    with pytest.raises(FaultFileError) as caught:
        read(GOOD.replace(right, wrong), file="x.toml")
    assert (caught.value.file, caught.value.line, caught.value.reason) == ("x.toml", line, reason)
