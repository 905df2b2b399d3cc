"""What each action does to a message, seen at the engine: bytes in, effects out."""

import struct
from random import Random
from typing import Any

import pytest

from dissectors.registry import build, build_named, dissect
from spiceproxy.faults import Engine, Moment
from spiceproxy.faults.effects import (
    Fired,
    Log,
    Send,
    Wait,
)
from tests.faults.doing import INPUTS, MAIN, MIGRATE, SECOND, C, S, does, migrate, on, only_fired
from tests.faults.relaying import engine, fired, sent, unwire, wire


def test_a_message_that_no_rule_is_about_goes_out_as_it_came() -> None:
    assert Engine().message(on(), unwire(S, MIGRATE)) == [Send(C, MIGRATE)]
    full = wire(1, b"\3\0\0\0", serial=77, sub_list=9, mini=False)
    assert Engine().message(on(mini_header=False), unwire(S, full, mini=False)) == [Send(C, full)]


def test_drop_sends_nothing_and_says_so() -> None:
    effects = migrate(does('"drop"'), on(INPUTS, now_ns=5, hop=2))
    assert effects == [
        Fired(
            rule="fault 1",
            actions="drop",
            what="SPICE_MSG_MIGRATE",
            session="s1",
            connection="c1",
            channel="inputs:0",
            hop=2,
            time_ns=5,
            number=1,
            comment="fault `fault 1`, firing 1: drop",
        )
    ]


def test_a_dropped_message_is_nothing_to_the_rules_that_follow() -> None:
    faults = engine(
        """
        [[fault]]
        match = { message = "SPICE_MSG_MIGRATE" }
        do = "drop"
        [[fault]]
        match = { message = "SPICE_MSG_MIGRATE" }
        do = "log"
        """
    )
    assert fired(migrate(faults)) == ["fault 1"]
    assert faults.never_fired() == ["fault 2"]


def test_duplicate_sends_the_message_again() -> None:
    effects = migrate(does("{ duplicate = 2 }"))
    assert sent(effects) == [MIGRATE] * 3
    assert [each.injected for each in effects if isinstance(each, Send)] == [False, True, True]


@pytest.mark.parametrize(
    ("do", "flags"),
    [
        ("{ set = { flags = 0 } }", 0),
        ('{ set = { flags = "NEED_FLUSH" } }', 1),
        ('{ set = { flags = "NEED_FLUSH|NEED_DATA_TRANSFER" } }', 3),
        ("{ set = { flags = 4294967295 } }", 0xFFFFFFFF),
        ('{ set = { flags = "${flags}" } }', 2),
    ],
)
def test_set_changes_fields(do: str, flags: int) -> None:
    assert sent(migrate(does(do, flags=2))) == [wire(1, struct.pack("<I", flags))]


def test_set_reaches_into_records_lists_and_texts_and_counts_anew() -> None:
    body = build_named(
        "SPICE_MSG_MAIN_MIGRATE_BEGIN",
        dst_info={"port": 1, "sport": 2, "host_data": "one", "cert_subject_data": "CN=one"},
    )
    faults = does(
        '{ set = { dst_info = { host_data = "a-longer-host", port = 9 }, "dst_info.cert_subject_data" = "CN=two" } }',
        'message = "MIGRATE_BEGIN"',
    )
    (data,) = sent(faults.message(on(), unwire(S, wire(101, body + b"end"))))
    found = dissect(MAIN, S, 101, data[6:])
    told = found.fields["dst_info"]
    assert (told["port"], told["sport"], told["host_data"], told["host_size"]) == (9, 2, "a-longer-host", 14)
    assert told["cert_subject_data"] == "CN=two"
    assert found.trailing == b"end"
    listed = build(MAIN, S, 104, {"channels": [{"type": 1, "id": 0}, {"type": 2, "id": 0}]})
    faults = does('{ set = { "channels[1].id" = 7 } }', 'message = "CHANNELS_LIST"')
    (data,) = sent(faults.message(on(), unwire(S, wire(104, listed))))
    assert [each["id"] for each in dissect(MAIN, S, 104, data[6:]).fields["channels"]] == [0, 7]


@pytest.mark.parametrize(
    ("do", "body", "failed"),
    [
        ("{ set = { flags = 1 } }", b"\3", "SPICE_MSG_MIGRATE: flags"),
        ('{ set = { flags = "${unknown}" } }', b"\3\0\0\0", "nobody has said what ${unknown} is"),
        ('{ corrupt = { at = 9, bytes = "ff" } }', b"\3\0\0\0", "the body has 4 bytes"),
        ('{ corrupt = { at = 3, bytes = "ffff" } }', b"\3\0\0\0", "the body has 4 bytes"),
        ('{ corrupt = { field = "flags", bytes = "ff" } }', b"\3", "the body has 1 bytes"),
    ],
)
def test_what_cannot_be_done_changes_nothing_and_is_said(do: str, body: bytes, failed: str) -> None:
    data = wire(1, body)
    effects = does(do).message(on(INPUTS), unwire(S, data))
    assert sent(effects) == [data]
    assert only_fired(effects).failed.startswith(failed)


def test_items_that_a_message_does_not_have_cannot_be_set() -> None:
    body = build(MAIN, S, 104, {"channels": []})
    faults = does('{ set = { "channels[3].id" = 1 } }', 'message = "CHANNELS_LIST"')
    effects = faults.message(on(), unwire(S, wire(104, body)))
    assert sent(effects) == [wire(104, body)]
    assert only_fired(effects).failed == "this message has no channels[3]"


def test_replace_keeps_fields_of_the_same_name() -> None:
    info: dict[str, Any] = {"port": 1, "sport": 2, "host_data": "one", "cert_subject_data": None}
    seamless = build_named("SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS", dst_info=info, src_mig_version=1)
    plain = build_named("SPICE_MSG_MAIN_MIGRATE_BEGIN", dst_info=info)
    down = does('{ replace = "MIGRATE_BEGIN" }', 'message = "MIGRATE_BEGIN_SEAMLESS"')
    assert sent(down.message(on(), unwire(S, wire(116, seamless)))) == [wire(101, plain)]
    up = does(
        '{ replace = { message = "MIGRATE_BEGIN_SEAMLESS", fields = { src_mig_version = 1 } } }',
        'message = "MIGRATE_BEGIN"',
    )
    assert sent(up.message(on(), unwire(S, wire(101, plain)))) == [wire(116, seamless)]
    host = does('{ replace = "MIGRATE_SWITCH_HOST" }', 'message = "MIGRATE_BEGIN"')
    switch = build_named("SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", **info)
    assert sent(host.message(on(), unwire(S, wire(101, plain)))) == [wire(111, switch)]
    begin = does('{ replace = "MIGRATE_BEGIN" }', 'message = "MIGRATE_SWITCH_HOST"')
    assert sent(begin.message(on(), unwire(S, wire(111, switch)))) == [wire(101, plain)]


def test_replace_may_forget_the_fields_or_have_a_body_of_its_own() -> None:
    fresh = does('{ replace = { message = "SET_ACK", keep = false, fields = { window = 7 } } }')
    assert sent(migrate(fresh)) == [wire(3, struct.pack("<II", 0, 7))]
    raw = does('{ replace = { message = 999, body = "0a 0b" } }')
    assert sent(migrate(raw)) == [wire(999, b"\x0a\x0b")]
    unknown = does('{ replace = "NOTIFY" }', 'message = 999, from = "server"')
    assert sent(unknown.message(on(), unwire(S, wire(999)))) == [wire(7, bytes(24))]


def test_inject_puts_messages_in_before_and_behind_and_into_the_other_direction() -> None:
    faults = does(
        '["log", { inject = { message = "NOTIFY", when = "before" } }, { inject = { message = "PONG", times = 2 } }]'
    )
    effects = migrate(faults)
    assert sent(effects, C) == [wire(7, bytes(24)), MIGRATE]
    assert sent(effects, S) == [wire(3, bytes(12))] * 2
    assert Log("") in effects


def test_an_injection_that_is_delayed_holds_nothing_up() -> None:
    faults = does('{ inject = { message = "NOTIFY", delay = 3, redirect = false } }')
    effects = migrate(faults)
    assert sent(effects) == [MIGRATE]
    assert isinstance(effects[-1], Wait)
    assert (effects[-1].delay_ns, effects[-1].blocks) == (3 * SECOND, None)
    (late,) = faults.resume(on(INPUTS), effects[-1].token)
    assert late == Send(
        C, wire(7, bytes(24)), "fault `fault 1`, firing 1: inject NOTIFY", injected=True, redirect=False
    )


def test_after_a_drop_actions_follow_each_other_in_order() -> None:
    faults = does('["drop", { inject = "PONG" }, { delay = 1 }, { inject = "NOTIFY" }]')
    effects = migrate(faults)
    assert sent(effects) == [wire(3, bytes(12))]
    assert isinstance(effects[-1], Wait)
    assert effects[-1].blocks is S
    assert sent(faults.resume(on(INPUTS), effects[-1].token)) == [wire(7, bytes(24))]


def test_an_injection_on_a_channel_without_that_message_fails() -> None:
    faults = does('{ inject = "SPICE_MSG_INPUTS_INIT" }', 'moment = "linked", channel = ["inputs", "main"]')
    effects = faults.moment(on(), Moment.LINKED)
    assert sent(effects) == []
    assert only_fired(effects).failed == "channel main:0 has no such message"


BODY = bytes(range(16))


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        ('{ corrupt = { at = 2, bytes = "ffee" } }', BODY[:2] + b"\xff\xee" + BODY[4:]),
        ('{ corrupt = { at = -1, xor = "ff" } }', BODY[:15] + b"\xf0"),
        ("{ truncate = 5 }", BODY[:5]),
        ("{ truncate = { by = 3 } }", BODY[:13]),
        ("{ truncate = { by = 300 } }", b""),
        ("{ truncate = 300 }", BODY),
        ("{ pad = 4 }", BODY + bytes(4)),
        ("{ pad = { count = 2, byte = 255 } }", BODY + b"\xff\xff"),
    ],
)
def test_bytes_change_and_the_header_says_how_many_there_are(do: str, expected: bytes) -> None:
    faults = does(do, 'message = "NOTIFY"')
    assert sent(faults.message(on(), unwire(S, wire(7, BODY)))) == [wire(7, expected)]


@pytest.mark.parametrize(
    ("do", "least", "most", "within"),
    [
        ("{ corrupt = 3 }", 3, 3, range(16)),
        ("{ corrupt = { count = 99 } }", 16, 16, range(16)),
        ("{ corrupt = { count = 2, at = 12 } }", 2, 2, range(12, 16)),
        ('{ corrupt = { count = 9, field = "severity" } }', 4, 4, range(8, 12)),
    ],
)
def test_the_seed_chooses_bytes_that_all_change(do: str, least: int, most: int, within: range) -> None:
    outcomes = set()
    for seed in range(20):
        (data,) = sent(does(do, 'message = "NOTIFY"', seed=seed).message(on(), unwire(S, wire(7, BODY))))
        changed = [place for place in range(16) if data[6 + place] != BODY[place]]
        assert least <= len(changed) <= most
        assert set(changed) <= set(within)
        outcomes.add(data)
    assert len(outcomes) > 15


def test_a_field_that_another_message_has_is_no_field_of_this_one() -> None:
    match = 'message = ["SPICE_MSG_MIGRATE", "NOTIFY"]'
    for do in ('{ corrupt = { field = "severity", bytes = "ff" } }', '{ set = { severity = "WARN" } }'):
        effects = migrate(does(do, match))
        assert sent(effects) == [MIGRATE]
        assert only_fired(effects).failed == "this message has no such field"


def test_the_header_may_say_something_else_than_the_truth() -> None:
    do = "{ header = { id = 9, size = 1000, serial = 5, sub_list = 6 } }"
    assert sent(migrate(does(do))) == [struct.pack("<HI", 9, 1000) + b"\3\0\0\0"]
    full = unwire(S, wire(1, b"\3\0\0\0", serial=8, mini=False), mini=False)
    effects = does(do).message(on(INPUTS, mini_header=False), full)
    assert sent(effects) == [struct.pack("<QHII", 5, 9, 1000, 6) + b"\3\0\0\0"]
    effects = does("{ header = { sub_list = 6 } }").message(on(INPUTS, mini_header=False), full)
    assert sent(effects) == [struct.pack("<QHII", 8, 1, 4, 6) + b"\3\0\0\0"]


def test_split_sends_a_message_in_segments() -> None:
    (send,) = (
        each for each in migrate(does("{ split = { bytes = 3, gap = 0.5 } }")) if isinstance(each, Send)
    )
    assert (send.data, send.segment_bytes, send.gap_ns) == (MIGRATE, 3, SECOND // 2)


def test_copy_gives_a_message_the_body_of_the_one_before() -> None:
    faults = does('"copy"', 'message = "SPICE_MSGC_MIGRATE_DATA"')
    assert sent(faults.message(on(), unwire(C, wire(5, b"one")))) == [wire(5, b"one")]
    assert sent(faults.message(on(), unwire(C, wire(5, b"two")))) == [wire(5, b"one")]
    assert sent(faults.message(on(), unwire(C, wire(5, b"three")))) == [wire(5, b"two")]


def test_pad_has_an_end() -> None:
    from spiceproxy.faults.actions import Pad
    from spiceproxy.faults.errors import RuleError
    from spiceproxy.faults.flight import Flight, change
    from spiceproxy.faults.prepare import Prepared
    from spiceproxy.protocol.framer import MAX_BODY_BYTES

    class Huge(bytes):
        def __len__(self) -> int:
            return MAX_BODY_BYTES

    with pytest.raises(RuleError, match="longer than any peer takes"):
        change(Prepared(Pad(count=1)), Flight(S, 7, Huge()), on(), None, Random(0), {})
