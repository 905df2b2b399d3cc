"""Which messages a rule means, what it counts, and what the engine asks to see."""

import pytest

from dissectors.channels import ChannelType
from dissectors.link import LinkMessage, build_link_error, build_link_mess
from dissectors.side import Side
from spiceproxy.faults import Context, Engine, Moment, RuleError, parse
from spiceproxy.faults.carry import MAX_WAITING
from spiceproxy.faults.effects import Fired, Wait
from spiceproxy.faults.wanted import MAX_HELD_BYTES
from spiceproxy.protocol.framer import MAX_KEPT_BYTES, Framer, Held, Want
from spiceproxy.protocol.migration.model import Phase
from tests.faults.relaying import engine, fired, sent, unwire, wire

MAIN, DISPLAY, INPUTS, CURSOR = ChannelType.MAIN, ChannelType.DISPLAY, ChannelType.INPUTS, ChannelType.CURSOR
SECOND = 1_000_000_000
S, C = Side.SERVER, Side.CLIENT
MIGRATE = wire(1, b"\3\0\0\0")


def on(channel_type: int = MAIN, channel_id: int = 0, **changes: object) -> Context:
    names: dict[str, object] = {"session": "s1", "connection": "c1", **changes}
    return Context(channel_type=channel_type, channel_id=channel_id, **names)  # type: ignore[arg-type]


def fires(match: str, context: Context, data: bytes = MIGRATE, side: Side = S) -> bool:
    faults = engine(f'[[fault]]\nmatch = {{ {match} }}\ndo = "drop"\n')
    return bool(fired(faults.message(context, unwire(side, data))))


@pytest.mark.parametrize(
    ("match", "meant", "not_meant"),
    [
        ('message = "SPICE_MSG_MIGRATE"', on(), None),
        ('message = "MIGRATE"', on(), None),
        ('message = "migr*e"', on(), None),
        ("message = 1", on(), None),
        ('message = ["NOTIFY", "SPICE_MSG_MIG*"]', on(), None),
        ('from = "server"', on(), None),
        ("", on(42), None),
        ('channel = "display"', on(DISPLAY, 3), on(INPUTS)),
        ('channel = "display:1"', on(DISPLAY, 1), on(DISPLAY, 0)),
        ('channel = ["main", "display:1"]', on(MAIN), on(DISPLAY)),
        ('leg = "destination"', on(hop=1), on()),
        ('leg = "source"', on(hop=1, leg="source"), on(hop=0, leg="destination")),
        ("hop = 2", on(hop=2), on(hop=1)),
        ("hop = [0, 2]", on(hop=2), on(hop=1)),
        ('phase = "none"', on(), on(phase=Phase.OVER)),
        ('phase = ["waiting", "switching"]', on(phase=Phase.SWITCHING), on(phase=Phase.CONNECTING)),
        ("migration = 2", on(migration=2), on(migration=1)),
        ("after = 1.5", on(now_ns=SECOND * 5, session_started_ns=SECOND * 2), on(now_ns=SECOND)),
        (
            "after_migration = 1",
            on(now_ns=SECOND * 5, migration_started_ns=SECOND * 4),
            on(now_ns=SECOND * 5, migration_started_ns=SECOND * 5),
        ),
        ("after_migration = 0", on(migration_started_ns=0), on()),
        ("where = 'fields.flags & \"NEED_FLUSH\"'", on(), None),
        ("where = 'fields.flags == 3 and size == 4 and name == \"MIGRATE\" and id == 1'", on(), None),
        (
            'where = \'time > 1 and session == "s1" and connection == "c1" and hop == 0\'',
            on(now_ns=2 * SECOND),
            on(),
        ),
        ('where = \'leg == "source" and channel == "main" and from == "server"\'', on(), on(hop=1)),
        ("where = 'not trailing and not error'", on(), None),
    ],
)
def test_all_of_a_match_has_to_be_true(match: str, meant: Context, not_meant: Context | None) -> None:
    assert fires(match, meant)
    if not_meant is not None:
        assert not fires(match, not_meant)


def test_other_messages_and_senders_are_not_meant() -> None:
    assert not fires('message = "NOTIFY"', on())
    assert not fires('message = "MIGRATE"', on(), wire(1, bytes(4)), C)  # ACK_SYNC
    assert not fires('from = "client"', on())
    assert not fires('channel = "main", from = "client"', on())
    assert not fires('channel = "display"', on(42))


def test_moments_of_other_channels_are_not_meant() -> None:
    faults = engine('[[fault]]\nmatch = { moment = "linked", channel = "display:0" }\ndo = "log"\n')
    for context, expected in ((on(DISPLAY), True), (on(DISPLAY, 1), False), (on(INPUTS), False)):
        assert bool(fired(faults.moment(context, Moment.LINKED))) is expected


def test_moments_have_a_sender_where_something_is_sent() -> None:
    faults = engine(
        '[[fault]]\nmatch = { moment = ["auth", "ticket", "linked"], from = "server" }\ndo = "log"\n'
    )
    assert fired(faults.moment(on(), Moment.AUTH, bytes(4), S))
    assert not fired(faults.moment(on(), Moment.TICKET, bytes(128), C))
    assert not fired(faults.moment(on(), Moment.LINKED))


def test_conditions_may_ask_for_what_does_not_decode() -> None:
    assert fires("where = 'error'", on(), wire(1, b"\3"))
    assert fires("where = 'trailing == \"ff\"'", on(), wire(1, b"\3\0\0\0\xff"))
    assert not fires("where = 'fields.flags == 3'", on(), wire(1, b"\3"))


def test_conditions_may_ask_for_the_fields_of_the_link_phase() -> None:
    def asks(moment: str, where: str, data: bytes, side: Side | None) -> bool:
        faults = engine(f'[[fault]]\nmatch = {{ moment = "{moment}", where = \'{where}\' }}\ndo = "log"\n')
        return bool(fired(faults.moment(on(), Moment(moment), data, side)))

    mess = build_link_mess(LinkMessage(7, MAIN, 0))
    assert asks("link-message", "fields.connection_id == 7 and fields.channel_type == 1", mess, C)
    assert asks("link-reply", 'fields.error == 5 and from == "server"', build_link_error(5), S)
    assert asks("auth", "fields.error == 7", b"\7\0\0\0", S)
    assert asks("link-reply", "error", b"nonsense", S)
    assert asks("closed", 'fields == null and from == null and name == "closed" and id == null', b"", None)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ("nth = 2", [2]),
        ("nth = [1, 4]", [1, 4]),
        ("every = 2", [2, 4, 6]),
        ("first = 3", [1, 2, 3]),
        ("every = 2, first = 4", [2, 4]),
        ("probability = 0", []),
        ("probability = 1", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_only_some_occurrences_are_meant(count: str, expected: list[int]) -> None:
    faults = engine(f'[[fault]]\nmatch = {{ message = "MIGRATE", {count} }}\ndo = "drop"\n')
    found = [n for n in range(1, 7) if fired(faults.message(on(), unwire(S, MIGRATE, number=n)))]
    assert found == expected


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("connection", "x.x.x.x."), ("session", "x...x..."), ("proxy", "x.......")],
)
def test_what_is_counted_over(scope: str, expected: str) -> None:
    faults = engine(
        f'[[fault]]\ncount = "{scope}"\nmatch = {{ message = "MIGRATE", nth = 1 }}\ndo = "drop"\n'
    )
    found = ""
    for session in ("s1", "s2"):
        for connection in ("a", "b"):
            for _ in range(2):
                context = on(session=session, connection=session + connection)
                found += "x" if fired(faults.message(context, unwire(S, MIGRATE))) else "."
    assert found == expected


def test_a_session_that_is_over_is_counted_anew() -> None:
    faults = engine(
        """
        [[fault]]
        match = { message = "MIGRATE", nth = 1 }
        do = "copy"
        [[fault]]
        count = "proxy"
        match = { message = "MIGRATE", nth = 1 }
        do = "log"
        """
    )
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == ["fault 1", "fault 2"]
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == []
    faults.session_over("s1")
    faults.session_over("s1")
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == ["fault 1"]


def test_rules_are_added_listed_removed_and_reset_while_running() -> None:
    rules = parse(
        """
        [[fault]]
        name = "one"
        match = { message = "MIGRATE", nth = 1 }
        do = "copy"
        [[fault]]
        name = "two"
        match = { message = "MIGRATE", nth = 1 }
        do = { inject = "NOTIFY" }
        """
    ).rules
    faults = Engine(rules[:1])
    revision = faults.revision
    assert not faults.wanted(DISPLAY, C)
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == ["one"]
    faults.add(rules[1])
    assert faults.revision > revision
    assert [rule.name for rule in faults.rules] == ["one", "two"]
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == ["two"]
    faults.reset("one")
    assert (faults.fired("one"), faults.fired("two")) == (0, 1)
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == ["one"]
    faults.reset()
    assert faults.never_fired() == ["one", "two"]
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == ["one", "two"]
    assert faults.remove("one") is rules[0]
    assert fired(faults.message(on(), unwire(S, MIGRATE))) == []
    with pytest.raises(RuleError, match="there is no fault `tw`; did you mean `two`"):
        faults.remove("tw")
    with pytest.raises(RuleError, match="there is no fault `one`"):
        faults.reset("one")
    with pytest.raises(RuleError, match="there is a fault called `two` already"):
        faults.add(rules[1])


def test_several_rules_change_the_same_message_in_their_order() -> None:
    faults = engine(
        """
        [[fault]]
        name = "flags"
        match = { message = "MIGRATE" }
        do = { set = { flags = 0 } }
        [[fault]]
        name = "longer"
        ledger = false
        match = { message = "MIGRATE" }
        do = { pad = 2 }
        """
    )
    effects = faults.message(on(), unwire(S, MIGRATE))
    assert sent(effects) == [wire(1, bytes(6))]
    assert [each.comment for each in effects if not isinstance(each, Fired)] == [  # type: ignore[union-attr]
        "fault `flags`, firing 1: set flags; fault `longer`, firing 1: pad"
    ]


# What is wanted -----------------------------------------------------------------------------------


def wants(rules: str, channel_type: int, side: Side, *, mini: bool = True) -> set[int]:
    return set(engine(rules).wanted(channel_type, side, mini_header=mini))


def rule(match: str, do: str = '"log"', extra: str = "") -> str:
    return f"[[fault]]\n{extra}\nmatch = {{ {match} }}\ndo = {do}\n"


def test_a_rule_about_one_main_message_costs_the_display_nothing() -> None:
    rules = rule('message = "MIGRATE_DST_DO_SEAMLESS"', '["drop", { inject = "MIGRATE_DST_SEAMLESS_NACK" }]')
    for mini in (True, False):
        assert not wants(rules, DISPLAY, S, mini=mini)
        assert not wants(rules, DISPLAY, C, mini=mini)
    assert wants(rules, MAIN, C) == {110}
    assert not wants(rules, MAIN, S)
    faults = engine(rules)
    assert faults.keep_bytes(DISPLAY, S) == MAX_KEPT_BYTES
    assert faults.keep_bytes(MAIN, C) == MAX_HELD_BYTES


def test_without_rules_nothing_is_wanted() -> None:
    for channel in (*ChannelType, 42):
        for side in Side:
            assert not Engine().wanted(channel, side)
            assert not Engine().wanted(channel, side, mini_header=False)


def test_who_changes_the_number_of_messages_wants_what_counts_them() -> None:
    drop = rule('message = "DRAW_COPY"', '"drop"')
    assert wants(drop, DISPLAY, S) == {304, 3, 5, 8, 2, 106}
    assert wants(drop, DISPLAY, C) == {1, 2, 5}
    assert wants(drop, CURSOR, C) == set()
    uncounted = rule('message = "DRAW_COPY"', '"drop"', "ledger = false")
    assert wants(uncounted, DISPLAY, S) == {304}
    assert wants(uncounted, DISPLAY, C) == set()
    assert wants(rule('message = "MOUSE_MOTION"', '"drop"'), INPUTS, S) == {111}
    assert wants(rule('message = "KEY_DOWN"', '"drop"'), INPUTS, S) == set()
    assert wants(rule('message = "SPICE_MSGC_MAIN_AGENT_DATA"', '"duplicate"'), MAIN, S) == {
        103,
        107,
        108,
        110,
        115,
    }
    ping = rule('moment = "linked", channel = "cursor"', '{ inject = "PING" }')
    assert wants(ping, CURSOR, C) == {1, 2, 3}
    assert wants(ping, CURSOR, S) == {3}


def test_serials_under_full_headers_take_every_message() -> None:
    everything = engine(rule('message = "DRAW_COPY"', '"drop"')).wanted(DISPLAY, S, mini_header=False)
    assert 999 in everything
    assert everything[999] is Want.HOLD
    assert len(everything) == len(list(everything)) == 65536
    assert (
        engine(rule('message = "DRAW_COPY"', '"drop"')).keep_bytes(DISPLAY, S, mini_header=False)
        == MAX_HELD_BYTES
    )


def test_rules_that_may_come_later_are_counted_for_from_the_start() -> None:
    faults = Engine(live=True)
    assert set(faults.wanted(CURSOR, C)) == {1, 2}
    assert not faults.wanted(CURSOR, C, mini_header=False).keys() - {1, 2}


def test_a_rule_without_a_message_wants_all_of_them() -> None:
    assert len(wants(rule('channel = "inputs"'), INPUTS, S)) == 65536
    assert not wants(rule('channel = "inputs"'), 42, S)
    assert len(wants(rule(""), 42, S)) == 65536
    assert not wants(rule('moment = "linked"'), MAIN, S)
    assert len(wants(rule('message = "MIGRATE", channel = "main"', '"reorder"'), MAIN, S)) == 65536
    until = '{ hold = { until = { message = "MIGRATE_CANCEL" } } }'
    assert wants(rule('message = "MIGRATE", channel = "inputs"', until), MAIN, S) == {102}


def test_what_is_wanted_is_what_a_framer_holds() -> None:
    faults = engine(rule('message = "MIGRATE"', '"drop"'))
    framer = Framer(S, mini_header=True, wanted=faults.wanted(INPUTS, S), keep=faults.keep_bytes(INPUTS, S))
    items = list(framer.walk(memoryview(wire(101) + MIGRATE + wire(102))) or [])
    (held,) = (item.message for item in items if isinstance(item, Held))
    assert sent(faults.message(on(INPUTS), held)) == []


def test_a_peer_that_sends_every_id_does_not_fill_the_memory() -> None:
    faults = engine(rule(""))
    for id_ in range(5000):
        assert fired(faults.message(on(), unwire(S, wire(id_))))


# What waits ---------------------------------------------------------------------------------------


def test_what_may_wait_on_one_connection_is_limited() -> None:
    faults = engine(rule('message = "MIGRATE"', "{ delay = { seconds = 1, overtake = true } }"))
    for _ in range(MAX_WAITING):
        assert sent(faults.message(on(), unwire(S, MIGRATE))) == []
    assert sent(faults.message(on(), unwire(S, MIGRATE))) == [MIGRATE]
    faults.moment(on(), Moment.CLOSED)
    assert sent(faults.message(on(), unwire(S, MIGRATE))) == []


def test_where_too_much_waits_nothing_is_reordered_and_nothing_put_in_later() -> None:
    faults = engine(
        rule('message = "NOTIFY"', "{ delay = { seconds = 1, overtake = true } }")
        + rule('message = "MIGRATE"', '"reorder"')
        + rule('message = "SET_ACK"', '{ inject = { message = "NOTIFY", delay = 1 } }')
    )
    for _ in range(MAX_WAITING):
        faults.message(on(), unwire(S, wire(7, bytes(24))))
    assert sent(faults.message(on(), unwire(S, MIGRATE))) == [MIGRATE]
    effects = faults.message(on(), unwire(S, wire(3, bytes(8))))
    assert not any(isinstance(each, Wait) for each in effects)
