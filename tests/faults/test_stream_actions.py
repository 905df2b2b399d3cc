"""What actions do to streams and to the link phase, seen at the engine: bytes in, effects out."""

import struct

import pytest

from dissectors.link import (
    LinkError,
    LinkMessage,
    LinkReplyMessage,
    build_link_error,
    build_link_mess,
    build_link_reply,
    parse_link_mess,
    parse_link_reply,
)
from spiceproxy.faults import Moment
from spiceproxy.faults.effects import (
    AbortSession,
    Blackhole,
    Close,
    Effect,
    Fired,
    Latency,
    Log,
    Refuse,
    SecondClient,
    Send,
    Stall,
    Throttle,
    Wait,
)
from tests.faults.doing import INPUTS, MAIN, MIGRATE, SECOND, C, S, does, migrate, on, only_fired
from tests.faults.relaying import engine, fired, sent, wire


@pytest.mark.parametrize(
    ("do", "effects"),
    [
        ('"reset"', [Close(reset=True)]),
        ('"close"', [Close()]),
        ('{ close = { to = "server" } }', [Close(S)]),
        ("{ close = 4 }", [Send(C, MIGRATE[:4], "fault `fault 1`, firing 1: close"), Close()]),
        ("{ reset = 99 }", [Send(C, MIGRATE, "fault `fault 1`, firing 1: reset"), Close(reset=True)]),
        ("{ close = { after = true } }", [Send(C, MIGRATE, "fault `fault 1`, firing 1: close"), Close()]),
        ('["drop", "close"]', [Close()]),
        ('["drop", "stall"]', [Stall()]),
        ('["drop", { stall = 2 }]', [Stall(None, 2 * SECOND)]),
        ('["drop", { stall = { from = "client" } }]', [Stall(C)]),
        ('["drop", { throttle = { rate = 100, from = "server" } }]', [Throttle(S, 100)]),
        ('["drop", "blackhole"]', [Blackhole()]),
        ('["drop", { blackhole = { from = "client" } }]', [Blackhole(C)]),
        ('["drop", "abort_session"]', [AbortSession()]),
        ('["drop", { second_client = 3 }]', [SecondClient(0, 3 * SECOND)]),
        ('["drop", { log = "here" }]', [Log("here")]),
    ],
)
def test_actions_on_the_stream_are_effects(do: str, effects: list[Effect]) -> None:
    found = migrate(does(do))
    assert isinstance(found[0], Fired)
    assert found[1:] == effects


def test_latency_has_a_seed_of_its_own() -> None:
    found = {migrate(does("{ latency = { seconds = 1, jitter = 2 } }", seed=seed))[-1] for seed in range(5)}
    assert len(found) == 5
    assert all(
        isinstance(each, Latency) and each.delay_ns == SECOND and each.jitter_ns == 2 * SECOND
        for each in found
    )


MESS = build_link_mess(LinkMessage(7, MAIN, 0, (0b1101,), (0b1111,)))
REPLY = build_link_reply(LinkReplyMessage(LinkError.OK, bytes(162), (0b1011,), (0b1001,)))


@pytest.mark.parametrize(
    ("do", "common", "own"),
    [
        ('{ clear = "SEAMLESS_MIGRATE" }', (0b1101,), (0b0111,)),
        ('{ clear = ["SPICE_MAIN_CAP_SEAMLESS_MIGRATE", "MINI_HEADER", 40] }', (0b0101,), (0b0111,)),
        ('{ add = ["AUTH_SPICE", 33] }', (0b1111,), (0b1111, 0b10)),
        ('{ set = "NAME_AND_UUID" }', (0b1101,), (0b0010,)),
        ('{ set = ["NAME_AND_UUID", "MINI_HEADER"], add = [0] }', (0b1000,), (0b0011,)),
    ],
)
def test_capabilities_of_a_link_message_change(
    do: str, common: tuple[int, ...], own: tuple[int, ...]
) -> None:
    faults = does(f"{{ capabilities = {do} }}", 'moment = "link-message", channel = "main"')
    (data,) = sent(faults.moment(on(), Moment.LINK_MESSAGE, MESS, C), S)
    assert parse_link_mess(data) == LinkMessage(7, MAIN, 0, common, own)


def test_capabilities_of_a_link_reply_change_unless_it_turns_the_link_down() -> None:
    faults = does(
        '{ capabilities = { clear = "SEAMLESS_MIGRATE" } }', 'moment = "link-reply", channel = "main"'
    )
    (data,) = sent(faults.moment(on(), Moment.LINK_REPLY, REPLY, S), C)
    assert parse_link_reply(data).channel_caps == (1,)
    refusal = build_link_error(5)
    effects = faults.moment(on(), Moment.LINK_REPLY, refusal, S)
    assert sent(effects) == [refusal]
    assert only_fired(effects).failed == "the server has turned the link down: there are no capabilities"


def test_fields_of_a_link_message_change() -> None:
    faults = does(
        "{ link = { connection_id = 0, channel_type = 3, channel_id = 9, minor_version = 4, major_version = 3 } }",
        'moment = "link-message"',
    )
    (data,) = sent(faults.moment(on(), Moment.LINK_MESSAGE, MESS, C))
    assert struct.unpack_from("<II", data, 4) == (3, 4)
    assert data[16:22] == bytes([0, 0, 0, 0, 3, 9])
    (same,) = sent(
        does("{ link = { minor_version = 2 } }", 'moment = "link-message"').moment(
            on(), Moment.LINK_MESSAGE, MESS, C
        )
    )
    assert same == MESS


def test_the_client_is_turned_down_in_the_servers_place() -> None:
    faults = does('{ link_error = "BAD_CONNECTION_ID" }', 'moment = ["connect", "link-reply"]')
    effects = faults.moment(on(), Moment.CONNECT)
    assert effects[1:] == [Send(C, build_link_error(8), injected=True), Close()]
    effects = faults.moment(on(), Moment.LINK_REPLY, REPLY, S)
    assert effects[1:] == [Send(C, build_link_error(8), injected=True), Close()]
    faults = does('"auth_fail"', 'moment = "auth"')
    effects = faults.moment(on(), Moment.AUTH, bytes(4), S)
    assert effects[1:] == [Send(C, b"\7\0\0\0", injected=True), Close()]


def test_a_connection_is_refused_or_waits_before_it_is_made() -> None:
    faults = does('"refuse"', 'moment = "connect"')
    assert faults.moment(on(), Moment.CONNECT)[1:] == [Refuse()]
    faults = does("{ delay = 1 }", 'moment = "connect"')
    assert [each.blocks for each in faults.moment(on(), Moment.CONNECT) if isinstance(each, Wait)] == [C]


def test_units_of_the_link_phase_are_dropped_split_and_cut() -> None:
    where = 'moment = "ticket"'
    ticket = bytes(128)
    assert sent(does('"drop"', where).moment(on(), Moment.TICKET, ticket, C)) == []
    assert sent(does("{ truncate = 9 }", where).moment(on(), Moment.TICKET, ticket, C)) == [bytes(9)]
    assert sent(does("{ close = 5 }", where).moment(on(), Moment.TICKET, ticket, C)) == [bytes(5)]
    (send,) = (
        each
        for each in does('"split"', where).moment(on(), Moment.TICKET, ticket, C)
        if isinstance(each, Send)
    )
    assert send.segment_bytes == 1
    twice = engine(
        f'[[fault]]\nmatch = {{ {where} }}\ndo = "drop"\n[[fault]]\nmatch = {{ {where} }}\ndo = "log"\n'
    )
    assert fired(twice.moment(on(), Moment.TICKET, ticket, C)) == ["fault 1"]


def test_what_waits_for_nobody_blocks_nobody() -> None:
    faults = does(
        '[{ delay = 2 }, { inject = "MIGRATE_FLUSH_MARK" }]', 'moment = "linked", channel = "inputs"'
    )
    effects = faults.moment(on(INPUTS), Moment.LINKED)
    assert isinstance(effects[-1], Wait)
    assert effects[-1].blocks is None
    assert sent(faults.resume(on(INPUTS), effects[-1].token), S) == [wire(4)]
