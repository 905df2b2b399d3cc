"""Every rule has a peer that breaks it and one that says so."""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dissectors.message_ids import Cursor, Display, DisplayC, Inputs, InputsC, Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.simulate import (
    RULES,
    ClientOptions,
    Guest,
    Handover,
    RuleBroken,
    ServerOptions,
    SimulationError,
    Source,
    Trace,
    bodies,
    open_client,
    open_server,
)
from spiceproxy.simulate import migrate_data as payloads
from spiceproxy.simulate.client_channel import ClientChannel
from spiceproxy.simulate.client_channels import DisplayClient, InputsClient
from spiceproxy.simulate.client_migration import ClientMigration
from spiceproxy.simulate.server_channel import ServerChannel
from spiceproxy.simulate.server_channels import CursorServer, DisplayServer, InputsServer
from spiceproxy.simulate.server_main import MainServer
from spiceproxy.simulate.server_migration import SourceMigration
from spiceproxy.simulate.server_session import ServerSession
from spiceproxy.simulate.watch import Watched
from spiceproxy.simulate.wire import ChannelKey, Wire
from tests.simulate.peers import S1, S2, Scene, address_of, begin_body, connect, raw_link, scene, until

SEMI = replace(S1, seamless=False)
TESTED: set[str] = set()  # rules that a test below breaks
Patch = pytest.MonkeyPatch


def breaks(*rules: str) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Note which rule a test breaks."""
    assert set(rules) <= RULES.keys()
    TESTED.update(rules)
    return lambda test: test


async def expect(peer: Watched, rule: str, by: Side, channel: str | None = None) -> RuleBroken:
    """Wait until `peer` says that `by` broke `rule`."""
    with trio.fail_after(40):
        while not any(error.rule == rule for error in peer.broken_rules):
            await peer._changed.wait()
    error = next(error for error in peer.broken_rules if error.rule == rule)
    assert error.by is by
    assert channel is None or error.channel == channel
    assert rule in str(error)
    assert RULES[rule] in str(error)
    return error


def init_body(session_id: int) -> bytes:
    return struct.pack("<8I", session_id, 1, 1, 1, 0, 10, 0, 0)


def target_of(play: Scene, channel: str) -> Wire:
    assert play.client.session is not None
    wire = play.client.session.channels[ChannelKey.parse(channel)].target
    assert wire is not None
    return wire


# What the client does wrong.


@breaks("R7")
@pytest.mark.parametrize("kind", [MainC.MIGRATE_CONNECTED, MainC.MIGRATE_CONNECT_ERROR])
async def test_a_reply_without_a_question_is_r7(kind: MainC) -> None:
    async with scene() as play:
        play.client.inject("main", kind)
        await expect(play.s1, "R7", Side.CLIENT, "main:0")


@breaks("R7")
async def test_a_second_reply_is_r7() -> None:
    async with scene() as play:
        await play.announce()
        play.client.inject("main", MainC.MIGRATE_CONNECTED_SEAMLESS)
        await expect(play.s1, "R7", Side.CLIENT)


@breaks("R9")
async def test_connected_seamless_after_a_plain_begin_is_r9(monkeypatch: Patch) -> None:
    async def lie(*_: Any) -> bool:
        return True

    monkeypatch.setattr(ClientMigration, "_connect", lie)
    async with scene(SEMI) as play:
        play.s1.migrate_connect(*address_of(play.s2))
        await expect(play.s1, "R9", Side.CLIENT)


@breaks("R11")
async def test_a_target_link_with_another_id_is_r11() -> None:
    async with scene() as play, raw_link(play.s2, "main", 77):
        with pytest.raises(SimulationError, match="BAD_CONNECTION_ID"):
            async with raw_link(play.s2, "display", 78):
                pass
        await expect(play.s2, "R11", Side.CLIENT, "display:0")


@breaks("R11")
async def test_a_target_link_before_main_is_r11() -> None:
    async with scene() as play:
        with pytest.raises(SimulationError, match="BAD_CONNECTION_ID"):
            async with raw_link(play.s2, "display", 77):
                pass
        await expect(play.s2, "R11", Side.CLIENT, "display:0")


@breaks("R11", "R12")
@pytest.mark.parametrize(("rule", "off_by", "channels"), [("R11", 1, ()), ("R12", 0, ((2, 7),))])
async def test_a_client_that_is_not_the_one_expected_is_r11_or_r12(
    rule: str, off_by: int, channels: tuple[tuple[int, int], ...]
) -> None:
    async with scene() as play:
        await play.announce()
        assert play.s1.session is not None
        expected = frozenset(play.s1.session.channels) | {ChannelKey(*key) for key in channels}
        with pytest.raises(RuleBroken, match=rule):
            play.s2.guest_arrives(Guest(), Handover(play.s1.session.session_id + off_by, expected, {}))
        await expect(play.s2, rule, Side.CLIENT, "main:0")


@breaks("R13")
async def test_do_seamless_to_a_server_that_is_no_destination_is_r13() -> None:
    async with scene() as play:
        play.client.inject("main", MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
        await expect(play.s1, "R13", Side.CLIENT)


@breaks("R13")
async def test_do_seamless_twice_is_r13() -> None:
    async with scene() as play:
        await play.announce()
        await target_of(play, "main").send(MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
        await expect(play.s2, "R13", Side.CLIENT)


@breaks("R13")
async def test_do_seamless_to_a_destination_that_cannot_is_r13() -> None:
    async with scene(second=replace(S2, main_caps=(0x07,))) as play, raw_link(play.s2, "main", 77) as wire:
        await wire.send(MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
        await expect(play.s2, "R13", Side.CLIENT)


@breaks("R16")
@pytest.mark.parametrize("first", [S1, SEMI])
@pytest.mark.parametrize(
    ("channel", "kind"),
    [
        ("main", MsgC.PONG),
        ("main", MainC.MIGRATE_END),
        ("main", MsgC.MIGRATE_DATA),
        ("inputs", InputsC.KEY_DOWN),
        ("inputs", MsgC.MIGRATE_DATA),
        ("cursor", MsgC.ACK_SYNC),
        ("display", DisplayC.INIT),
    ],
)
async def test_writing_to_the_destination_before_the_guest_moved_is_r16(
    first: ServerOptions, channel: str, kind: int
) -> None:
    async with scene(first) as play:
        await play.announce()
        await target_of(play, channel).send(kind, bytes(14))
        await expect(play.s2, "R16", Side.CLIENT, f"{channel}:0")


@breaks("R28")
async def test_a_flush_mark_that_nobody_asked_for_is_r28() -> None:
    async with scene() as play:
        play.client.inject("inputs", MsgC.MIGRATE_FLUSH_MARK)
        await expect(play.s1, "R28", Side.CLIENT, "inputs:0")


@breaks("R28")
async def test_no_flush_mark_is_r28(autojump_clock: MockClock, monkeypatch: Patch) -> None:
    monkeypatch.setattr(InputsClient, "_migrate", lambda *_: None)
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        started = trio.current_time()
        with pytest.raises(RuleBroken, match="R28"):
            await play.s1.migrate_end()
        assert trio.current_time() - started == pytest.approx(10, abs=0.5)
        assert play.s1.migration_completed.is_set()
        await expect(play.s1, "R28", Side.CLIENT, "inputs:0")


def on_trace(condition: Callable[[Trace], bool], action: Callable[[], None]) -> Callable[[Trace], None]:
    """An observer that acts once."""
    done = False

    def observe(trace: Trace) -> None:
        nonlocal done
        if not done and condition(trace):
            done = True
            action()

    return observe


@breaks("R29", "R28")
@pytest.mark.parametrize(("kind", "rule"), [(InputsC.KEY_DOWN, "R29"), (MsgC.MIGRATE_FLUSH_MARK, "R28")])
async def test_anything_after_flush_mark_is_r29_and_another_one_is_r28(kind: int, rule: str) -> None:
    def follow() -> None:
        play.client.inject("inputs", kind, bytes(4) if kind == InputsC.KEY_DOWN else b"", urgent=True)

    observer = on_trace(
        lambda t: t.channel.name == "inputs:0" and t.message_id == MsgC.MIGRATE_FLUSH_MARK, follow
    )
    async with scene(client_options=ClientOptions(observer=observer)) as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        with pytest.raises(RuleBroken, match=rule):
            await play.s1.migrate_end()
        await expect(play.s1, rule, Side.CLIENT, "inputs:0")


@breaks("R30")
@pytest.mark.parametrize("kind", [MsgC.MIGRATE_FLUSH_MARK, MsgC.MIGRATE_DATA])
async def test_flush_mark_or_data_on_a_channel_with_flags_0_is_r30(kind: int) -> None:
    async with scene() as play:
        await play.migrate()
        play.client.inject("cursor", kind)
        await expect(play.s2, "R30", Side.CLIENT, "cursor:0")


def patch_switch(
    monkeypatch: Patch, channel: type[ClientChannel], change: Callable[[bytes | None], bytes | None]
) -> None:
    """Let a client's channel hand over something else than it got."""
    original = ClientChannel._switch_over
    monkeypatch.setattr(channel, "_switch_over", lambda self, data: original(self, change(data)))


@breaks("R31")
async def test_data_that_was_changed_on_the_way_is_r31(monkeypatch: Patch) -> None:
    patch_switch(monkeypatch, InputsClient, lambda data: (data or b"") + b"\0")
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        await expect(play.s2, "R31", Side.CLIENT, "inputs:0")


@breaks("R32")
async def test_another_message_where_data_is_owed_is_r32(monkeypatch: Patch) -> None:
    patch_switch(monkeypatch, InputsClient, lambda _: None)
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        play.client.send_key()
        await expect(play.s2, "R32", Side.CLIENT, "inputs:0")


@breaks("R32")
@pytest.mark.parametrize("channel", ["main", "display", "webdav"])
async def test_data_twice_is_r32(channel: str) -> None:
    async with scene() as play:
        await play.migrate()
        play.client.inject(channel, MsgC.MIGRATE_DATA, b"again")
        await expect(play.s2, "R32", Side.CLIENT, f"{channel}:0")


@breaks("R32")
async def test_migrate_end_to_a_destination_that_agreed_to_seamless_is_r32(monkeypatch: Patch) -> None:
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await target_of(play, "main").send(MainC.MIGRATE_END)
        await expect(play.s2, "R32", Side.CLIENT, "main:0")


@breaks("R39")
async def test_attach_channels_after_a_seamless_arrival_is_r39() -> None:
    async with scene() as play:
        await play.migrate()
        play.client.inject("main", MainC.ATTACH_CHANNELS)
        await expect(play.s2, "R39", Side.CLIENT)


@breaks("R40")
@pytest.mark.parametrize("kind", [MsgC.PONG, MainC.ATTACH_CHANNELS, MsgC.MIGRATE_DATA])
async def test_anything_but_migrate_end_first_is_r40(kind: int) -> None:
    async with scene(SEMI) as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await target_of(play, "main").send(kind, bytes(12))
        await expect(play.s2, "R40", Side.CLIENT)


@breaks("R40")
async def test_migrate_end_to_a_server_that_is_no_destination_is_r40() -> None:
    async with scene() as play:
        play.client.inject("main", MainC.MIGRATE_END)
        await expect(play.s1, "R40", Side.CLIENT)


@breaks("R41")
async def test_a_display_init_before_migrate_end_is_r41() -> None:
    async with scene(SEMI) as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await target_of(play, "display").send(DisplayC.INIT, bodies.display_init())
        await expect(play.s2, "R41", Side.CLIENT, "display:0")


@breaks("R42")
async def test_leaving_one_channel_early_is_r42(monkeypatch: Patch) -> None:
    monkeypatch.setattr(InputsServer, "migrate", lambda _: None)  # so that it cannot switch

    async def leave() -> None:
        assert play.client.session is not None
        migrated = play.client.session.migration
        await until(lambda: len(migrated._retired) == 7)
        play.client.session.channels[ChannelKey.parse("display")].wire.close()
        migrated._retired[0].close()

    async with scene() as play, trio.open_nursery() as nursery:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        nursery.start_soon(leave)
        with pytest.raises(RuleBroken, match="R42"):
            await play.s1.migrate_end()
        await expect(play.s1, "R42", Side.CLIENT)


@breaks("R23")
async def test_a_channel_that_is_never_told_to_migrate_is_r23(
    autojump_clock: MockClock, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(InputsServer, "migrate", lambda _: None)
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await swallow(play.s1.migrate_end)  # which closes everything after 10 s
        await expect(play.client, "R23", Side.SERVER, "inputs:0")


@breaks("R44")
async def test_a_client_that_does_not_leave_is_r44(autojump_clock: MockClock, monkeypatch: Patch) -> None:
    monkeypatch.setattr(ClientMigration, "end", lambda _: None)
    async with scene(SEMI) as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        with pytest.raises(RuleBroken, match="R44"):
            await play.s1.migrate_end()
        await expect(play.s1, "R44", Side.CLIENT)
        assert play.s1.session is None


@breaks("R45")
async def test_a_display_without_its_data_is_r45(autojump_clock: MockClock, monkeypatch: Patch) -> None:
    patch_switch(monkeypatch, DisplayClient, lambda _: None)
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        started = trio.current_time()
        await play.s1.migrate_end()
        await expect(play.s2, "R45", Side.CLIENT, "display:0")
        assert trio.current_time() - started == pytest.approx(10, abs=0.5)
        await until(lambda: "display:0" not in {view.name for view in play.s2.channels})
        assert play.s2.session is not None  # it goes on without that display


@breaks("ack")
@pytest.mark.parametrize(
    ("channel", "kind", "body"),
    [
        ("display", MsgC.ACK_SYNC, struct.pack("<I", 9)),
        ("display", MsgC.ACK, b""),  # of a window that is not full
        ("inputs", MsgC.ACK, b""),
    ],
)
async def test_an_acknowledgement_that_is_not_due_breaks_the_rule(
    channel: str, kind: int, body: bytes
) -> None:
    async with scene() as play:
        play.client.inject(channel, kind, body)
        await expect(play.s1, "ack", Side.CLIENT, f"{channel}:0")


@breaks("display-init")
@pytest.mark.parametrize(
    ("kind", "body"), [(DisplayC.INIT, bodies.display_init()), (DisplayC.PREFERRED_COMPRESSION, b"\x01")]
)
async def test_display_init_is_the_first_message_and_the_only_one(
    kind: int, body: bytes, monkeypatch: Patch
) -> None:
    if kind != DisplayC.INIT:
        monkeypatch.setattr(DisplayClient, "open", lambda self: self.put(kind, body))
        async with open_server() as server, open_client() as client:
            await client.connect(*address_of(server))
            await expect(server, "display-init", Side.CLIENT, "display:0")
            await until(lambda: client.session is None)
            server.forget()
            client.forget()
            return
    async with scene() as play:
        play.client.inject("display", kind, body)
        await expect(play.s1, "display-init", Side.CLIENT, "display:0")


@breaks("display-init")
async def test_no_display_init_for_30_seconds_breaks_the_rule(
    autojump_clock: MockClock, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(DisplayClient, "open", lambda _: None)
    async with open_server(replace(S1, latency_ping_after_s=None)) as server, open_client() as client:
        await client.connect(*address_of(server))
        started = trio.current_time()
        await expect(server, "display-init", Side.CLIENT, "display:0")
        assert trio.current_time() - started == pytest.approx(30, abs=0.5)
        await until(lambda: client.session is None)
        server.forget()
        client.forget()


@breaks("known-message")
@pytest.mark.parametrize(
    ("channel", "kind", "body"),
    [
        ("main", 99, b""),
        ("main", MainC.AGENT_START, b"short"[:3]),
        ("inputs", 250, b""),
        ("inputs", InputsC.MOUSE_MOTION, b"short"),
        ("cursor", 101, b""),
        ("playback", 101, b""),
    ],
)
async def test_a_client_message_that_is_unknown_or_does_not_fit_breaks_the_rule(
    channel: str, kind: int, body: bytes
) -> None:
    async with scene() as play:
        play.client.inject(channel, kind, body)
        await expect(play.s1, "known-message", Side.CLIENT, f"{channel}:0")


@breaks("motion-ack")
async def test_more_than_eight_motions_outstanding_break_the_rule(monkeypatch: Patch) -> None:
    monkeypatch.setattr(InputsServer, "is_staying", False)  # it does not acknowledge any more
    async with scene() as play:
        for _ in range(9):
            play.client.inject("inputs", InputsC.MOUSE_MOTION, bodies.mouse_motion(1, 1))
        await expect(play.s1, "motion-ack", Side.CLIENT, "inputs:0")


@breaks("tokens")
async def test_agent_data_without_a_token_breaks_the_rule() -> None:
    async with scene(replace(S1, agent=True)) as play:
        play.s1.devices_stalled = True
        for _ in range(11):
            play.client.inject("main", MainC.AGENT_DATA, b"data")
        await expect(play.s1, "tokens", Side.CLIENT, "main:0")


# What the servers do wrong.


@breaks("R1")
async def test_migration_before_main_init_is_r1(monkeypatch: Patch) -> None:
    body = begin_body(Main.MIGRATE_BEGIN)
    monkeypatch.setattr(MainServer, "start", lambda self: self.put(Main.MIGRATE_BEGIN, body))
    async with open_server() as server, open_client() as client:
        with pytest.raises(RuleBroken, match="R1 "):
            await client.connect(*address_of(server))
        await expect(client, "R1", Side.SERVER, "main:0")


@breaks("main-init")
@pytest.mark.parametrize("first", [True, False])
async def test_main_init_is_the_first_message_and_the_only_one(first: bool, monkeypatch: Patch) -> None:
    if first:
        body = struct.pack("<HH", 1, 1)
        monkeypatch.setattr(MainServer, "start", lambda self: self.put(Main.MOUSE_MODE, body))
        async with open_server() as server, open_client() as client:
            with pytest.raises(RuleBroken, match="main-init"):
                await client.connect(*address_of(server))
        return
    async with scene() as play:
        play.s1.inject("main", Main.INIT, init_body(1))
        await expect(play.client, "main-init", Side.SERVER)


@breaks("R2", "R3")
@pytest.mark.parametrize(
    ("caps", "kind", "rule"),
    [
        (0x0E, Main.MIGRATE_BEGIN, "R2"),
        (0x0B, Main.MIGRATE_BEGIN_SEAMLESS, "R3"),
        (0x07, Main.MIGRATE_BEGIN_SEAMLESS, "R3"),
    ],
)
async def test_a_begin_that_the_client_has_no_capability_for_is_r2_or_r3(
    caps: int, kind: Main, rule: str
) -> None:
    async with scene(client_options=ClientOptions(main_caps=(caps,))) as play:
        play.s1.inject("main", kind, begin_body(kind))
        await expect(play.client, rule, Side.SERVER)


@breaks("R4", "R5")
@pytest.mark.parametrize(
    ("fields", "rule"), [({"host": ""}, "R4"), ({"port": 0}, "R5"), ({"port": 0xFFFF, "sport": 0}, "R5")]
)
@pytest.mark.parametrize("kind", [Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS, Main.MIGRATE_SWITCH_HOST])
async def test_a_destination_without_host_or_port_is_r4_or_r5(
    kind: Main, fields: dict[str, Any], rule: str
) -> None:
    async with scene() as play:
        play.s1.inject("main", kind, begin_body(kind, **fields))
        await expect(play.client, rule, Side.SERVER)


@breaks("R4", "R6")
async def test_an_odd_destination_and_an_odd_version_are_remarked() -> None:
    async with scene() as play:
        body = begin_body(Main.MIGRATE_BEGIN_SEAMLESS, version=2)
        port, sport, size, _offset, *rest = struct.unpack_from("<HHIIIII", body)
        odd = struct.pack("<HHIIIII", port, sport, size, 25, *rest) + b"\xff" + body[24:]
        play.s1.inject("main", Main.MIGRATE_BEGIN_SEAMLESS, odd)
        with trio.fail_after(5):
            await play.client.wait_until(lambda: len(play.client.remarks) == 2)
        assert "(R4)" in play.client.remarks[0]
        assert "(R6)" in play.client.remarks[1]


@breaks("R14")
async def test_a_second_verdict_is_r14() -> None:
    async with scene() as play:
        await play.announce()
        play.s2.inject("main", Main.MIGRATE_DST_SEAMLESS_ACK)
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        await expect(play.client, "R14", Side.SERVER, "main:0")


def before_verdict(play: Callable[[], Scene], kind: int, body: bytes) -> ServerOptions:
    """A destination that sends something when it reads DO_SEAMLESS, before it answers."""
    observer = on_trace(
        lambda t: t.message_id == MainC.MIGRATE_DST_DO_SEAMLESS, lambda: play().s2.inject("main", kind, body)
    )
    return replace(S2, observer=observer)


@breaks("R17", "R14")
@pytest.mark.parametrize(
    ("kind", "body", "rule"),
    [
        (Main.INIT, init_body(3), "R17"),
        (Main.CHANNELS_LIST, struct.pack("<I", 0), "R17"),
        (Main.MOUSE_MODE, struct.pack("<HH", 1, 1), "R14"),
    ],
)
async def test_another_message_instead_of_the_verdict_is_r17_or_r14(
    kind: int, body: bytes, rule: str
) -> None:
    async with scene(second=before_verdict(lambda: play, kind, body)) as play:
        play.s1.migrate_connect(*address_of(play.s2))
        await expect(play.client, rule, Side.SERVER, "main:0")


@breaks("R15")
async def test_an_ack_to_a_version_that_nobody_knows_is_r15() -> None:
    async with scene(replace(S1, migration_version=2), replace(S2, migration_version=2)) as play:
        play.s1.migrate_connect(*address_of(play.s2))
        await expect(play.client, "R15", Side.SERVER, "main:0")


async def _until_readable(play: Scene, channel: str) -> None:
    await until(target_of(play, channel).has_unread)


@breaks("R17")
async def test_a_display_that_speaks_before_the_switch_is_r17() -> None:
    async with scene() as play:
        await play.announce()
        assert play.s2.session is not None
        await play.s2.session.channels[ChannelKey.parse("display")].wire.send(Display.MARK)
        await _until_readable(play, "display")
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        await expect(play.client, "R17", Side.SERVER, "display:0")


@breaks("R18")
@pytest.mark.parametrize("channel", ["main", "cursor"])
async def test_a_destination_that_is_not_silent_is_r18(channel: str) -> None:
    async with scene(SEMI) as play:
        await play.announce()
        play.s2.inject(channel, Msg.PING, struct.pack("<IQ", 5, 5))
        await _until_readable(play, channel)
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        await expect(play.client, "R18", Side.SERVER, f"{channel}:0")


@breaks("R19")
async def test_a_begin_while_another_stands_is_r19() -> None:
    async with scene() as play:
        await play.announce()
        play.s1.inject("main", Main.MIGRATE_BEGIN, begin_body(Main.MIGRATE_BEGIN))
        await expect(play.client, "R19", Side.SERVER)


@breaks("R19")
@pytest.mark.parametrize("kind", [Main.MIGRATE_CANCEL, Main.MIGRATE_SWITCH_HOST, Main.MIGRATE_END])
async def test_another_outcome_while_channels_switch_is_r19(kind: Main, monkeypatch: Patch) -> None:
    async def later(main: MainServer) -> None:
        await trio.sleep(0.1)  # the other channels are told to migrate
        main.outbox.put(kind, begin_body(kind) if kind is Main.MIGRATE_SWITCH_HOST else b"")

    monkeypatch.setattr(MainServer, "migrate", lambda self: self.server.start_timer(later, self))
    async with scene() as play, trio.open_nursery() as nursery:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        nursery.start_soon(swallow, play.s1.migrate_end)
        await expect(play.client, "R19", Side.SERVER)
        nursery.cancel_scope.cancel()


async def swallow(function: Callable[[], Awaitable[Any]]) -> None:
    """Run something whose errors are not what the test is about."""
    try:
        await function()
    except SimulationError:
        return


@breaks("R20")
@pytest.mark.parametrize("announced", [True, False])
async def test_migrate_without_a_seamless_reply_is_r20(announced: bool) -> None:
    async with scene(SEMI) as play:
        if announced:
            assert await play.announce() is Source.CONNECTED
        play.s1.inject("inputs", Msg.MIGRATE, struct.pack("<I", 3))
        await expect(play.client, "R20", Side.SERVER, "inputs:0")


@breaks("R21")
@pytest.mark.parametrize("announced", [True, False])
async def test_migrate_end_without_a_plain_reply_is_r21(announced: bool) -> None:
    async with scene() as play:
        if announced:
            assert await play.announce() is Source.SEAMLESS
        play.s1.inject("main", Main.MIGRATE_END)
        await expect(play.client, "R21", Side.SERVER)


@breaks("R22")
async def test_switch_host_after_a_timely_success_is_r22(autojump_clock: MockClock) -> None:
    async with scene() as play:
        assert await play.announce() is Source.SEAMLESS
        await trio.sleep(1)
        play.s1.inject("main", Main.MIGRATE_SWITCH_HOST, begin_body(Main.MIGRATE_SWITCH_HOST))
        await expect(play.client, "R22", Side.SERVER)


async def _leave(play: Scene) -> None:
    """Announce and finish, where somebody will object to what is sent."""
    assert await play.announce() is Source.SEAMLESS
    play.s1.hand_over_to(play.s2)
    await swallow(play.s1.migrate_end)


def patch_migrate(monkeypatch: Patch, *messages: tuple[int, bytes]) -> None:
    """Let inputs send these instead of MIGRATE."""
    original = ServerChannel.migrate

    def migrate(self: ServerChannel) -> None:
        for kind, body in messages:
            self.outbox.put(kind, body)
        original(self)

    monkeypatch.setattr(InputsServer, "migrate", migrate)


MIGRATE_3 = (Msg.MIGRATE, struct.pack("<I", 3))


@breaks("R23", "R24", "R25", "R26")
@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([MIGRATE_3], "R23"),
        ([(Msg.MIGRATE, struct.pack("<I", 0))], "R24"),
        ([(Msg.MIGRATE, struct.pack("<I", 1))], "R24"),
        ([MIGRATE_3, (Inputs.KEY_MODIFIERS, bytes(2))], "R25"),
        ([(Msg.MIGRATE_DATA, payloads.build_inputs(payloads.InputsData(0)))], "R26"),
    ],
)
async def test_a_source_that_does_not_stick_to_the_order_is_told_so(
    messages: list[tuple[int, bytes]], rule: str, monkeypatch: Patch
) -> None:
    patch_migrate(monkeypatch, *messages)
    async with scene() as play:
        await _leave(play)
        await expect(play.client, rule, Side.SERVER, "inputs:0")


@breaks("R27")
async def test_data_before_the_flush_mark_is_r27(monkeypatch: Patch) -> None:
    monkeypatch.setattr(
        InputsClient, "put", lambda *_, **__: None
    )  # so that FLUSH_MARK cannot be faster than the data
    patch_migrate(monkeypatch, MIGRATE_3, (Msg.MIGRATE_DATA, payloads.build_inputs(payloads.InputsData(0))))
    async with scene() as play:
        await _leave(play)
        await expect(play.client, "R27", Side.SERVER, "inputs:0")


@breaks("R26")
async def test_a_source_that_closes_without_data_is_r26(monkeypatch: Patch) -> None:
    original = InputsServer._dispatch
    monkeypatch.setattr(
        InputsServer,
        "_dispatch",
        lambda self, kind, body: (
            self.wire.close() if kind == MsgC.MIGRATE_FLUSH_MARK else original(self, kind, body)
        ),
    )
    async with scene() as play:
        await _leave(play)
        await expect(play.client, "R26", Side.SERVER, "inputs:0")


@breaks("R33", "R34", "R35", "R46", "R47")
@pytest.mark.parametrize(
    ("channel", "payload", "rule"),
    [
        (InputsServer, b"XXXX\1\0\0\0\0\0", "R33"),
        (InputsServer, b"ICMD\2\0\0\0\0\0", "R33"),
        (InputsServer, b"ICMD\1\0\0\0", "R34"),
        (InputsServer, payloads.build_inputs(payloads.InputsData(9)), "R34"),
        (DisplayServer, payloads.build_display(payloads.DisplayData(1, (0,))), "R35"),
        (DisplayServer, None, "R46"),
        (
            MainServer,
            payloads.build_main(payloads.MainData(payloads.DeviceData(client_tokens=11))),
            "R47",
        ),
    ],
)
async def test_a_payload_that_makes_no_sense_is_told_so(
    channel: type[ServerChannel], payload: bytes | None, rule: str, monkeypatch: Patch
) -> None:
    def migrate_data(self: ServerChannel) -> bytes:
        return payload or payloads.build_display(payloads.DisplayData(self.wire.next_send_serial, (5,)))

    monkeypatch.setattr(channel, "migrate_data", migrate_data)
    async with scene() as play:
        await _leave(play)
        await expect(play.client, rule, Side.SERVER)


@breaks("R33", "R34")
async def test_the_destination_looks_into_payloads_too(monkeypatch: Patch) -> None:
    monkeypatch.setattr(InputsServer, "migrate_data", lambda _: b"ICMD\1\0\0\0\xff\xff")
    monkeypatch.setattr(InputsClient, "check_payload", lambda *_: None)
    async with scene() as play:
        await _leave(play)
        await expect(play.s2, "R34", Side.SERVER, "inputs:0")


@breaks("R36")
@pytest.mark.parametrize(
    ("fault", "mini_header"),
    [("before", True), ("before", False), ("serial", False)],
)
async def test_a_destination_display_that_opens_wrong_is_r36(
    fault: str, mini_header: bool, monkeypatch: Patch
) -> None:
    original = DisplayServer.restore

    def restore(self: DisplayServer, body: bytes) -> None:
        if fault == "before":
            self.outbox.put(Display.MARK, urgent=True)
        original(self, body)
        if fault == "serial":
            self.wire.next_send_serial += 1

    monkeypatch.setattr(DisplayServer, "restore", restore)
    async with scene(second=replace(S2, mini_header=mini_header)) as play:
        await _leave(play)
        await expect(play.client, "R36", Side.SERVER, "display:0")


async def test_a_destination_display_may_draw_before_it_clears_caches(monkeypatch: Patch) -> None:
    original = DisplayServer.restore

    def restore(self: DisplayServer, body: bytes) -> None:
        original(self, body)
        clearing = [self.outbox._urgent.pop() for _ in range(2)]
        self.outbox.put(Display.DRAW_FILL, bodies.draw_fill(0, 0, 0, 1, 1, 0), urgent=True)
        self.outbox._urgent.extend(reversed(clearing))

    monkeypatch.setattr(DisplayServer, "restore", restore)
    async with scene() as play:
        before = play.client.drawn
        await play.migrate()
        with trio.fail_after(5):
            await play.client.wait_until(lambda: play.client.drawn > before)


TWO_HEADS = ("display", "display:1", "inputs")


@breaks("R37")
@pytest.mark.parametrize("answer", [True, False])
async def test_two_freezers_or_none_are_r37(answer: bool, monkeypatch: Patch) -> None:
    monkeypatch.setattr(ServerSession, "freeze_cache", lambda *_: answer)
    async with scene(replace(S1, channels=TWO_HEADS), replace(S2, channels=TWO_HEADS)) as play:
        await _leave(play)
        await expect(play.client, "R37", Side.SERVER)


async def test_two_heads_with_one_freezer_migrate() -> None:
    async with scene(replace(S1, channels=TWO_HEADS), replace(S2, channels=TWO_HEADS)) as play:
        await play.migrate()
        play.s2.draw(5)
        with trio.fail_after(5):
            await play.client.wait_until(lambda: play.client.drawn == 2 + 10)


@breaks("R38")
async def test_a_cursor_that_does_not_clear_the_cache_is_r38(monkeypatch: Patch) -> None:
    monkeypatch.setattr(CursorServer, "migrate", ServerChannel.migrate)
    async with scene() as play:
        await _leave(play)
        await expect(play.client, "R38", Side.SERVER, "cursor:0")


@breaks("R39")
async def test_main_init_after_a_seamless_arrival_is_r39() -> None:
    async with scene() as play:
        await play.migrate()
        play.s2.inject("main", Main.INIT, init_body(1))
        await expect(play.client, "R39", Side.SERVER)


@breaks("R40")
@pytest.mark.parametrize(
    ("kind", "body"),
    [(Main.INIT, init_body(1)), (Main.MOUSE_MODE, struct.pack("<HH", 1, 1)), (Msg.PING, bytes(12))],
)
async def test_a_semi_seamless_destination_that_opens_wrong_is_r40(
    kind: int, body: bytes, monkeypatch: Patch
) -> None:
    async with scene(SEMI) as play:
        monkeypatch.setattr(MainServer, "start", lambda self: self.put(kind, body))
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        await expect(play.client, "R40", Side.SERVER, "main:0")


@breaks("R46")
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Display.DRAW_FILL, bodies.draw_fill(9, 0, 0, 1, 1, 0)),
        (Display.SURFACE_CREATE, bodies.surface_create(0, 1, 1, primary=True)),
        (Display.SURFACE_DESTROY, struct.pack("<I", 9)),
    ],
)
async def test_surfaces_that_are_not_there_or_twice_are_r46(kind: int, body: bytes) -> None:
    async with scene() as play:
        play.s1.inject("display", kind, body)
        await expect(play.client, "R46", Side.SERVER, "display:0")


@breaks("R43")
async def test_a_late_success_draws_cancel(autojump_clock: MockClock, monkeypatch: Patch) -> None:
    original = ClientMigration._connect

    async def slow(self: ClientMigration, *arguments: Any) -> bool:
        await trio.sleep(11)
        return await original(self, *arguments)

    monkeypatch.setattr(ClientMigration, "_connect", slow)
    async with scene() as play:
        started = trio.current_time()
        assert await play.announce() is Source.TIMED_OUT
        assert trio.current_time() - started == pytest.approx(10, abs=0.5)
        assert (await play.client.wait_migrated()).kind == "cancelled"
        assert "(R43)" in play.s1.remarks[0]
        assert play.s1.broken_rules == play.client.broken_rules == []


@breaks("motion-ack")
async def test_a_motion_ack_for_nothing_breaks_the_rule() -> None:
    async with scene() as play:
        play.s1.inject("inputs", Inputs.MOUSE_MOTION_ACK)
        await expect(play.client, "motion-ack", Side.SERVER, "inputs:0")


@breaks("known-message")
@pytest.mark.parametrize(
    ("channel", "kind", "body"),
    [
        ("main", 99, b""),
        ("main", Main.MULTI_MEDIA_TIME, b"s"),
        ("display", 200, b""),
        ("display", Msg.SET_ACK, b"short"),
        ("cursor", Cursor.MOVE, b"s"),
        ("inputs", Inputs.KEY_MODIFIERS, b"s"),
        ("display", Display.SURFACE_CREATE, b"short"),
        ("webdav", 150, b""),
    ],
)
async def test_a_server_message_that_is_unknown_or_does_not_fit_breaks_the_rule(
    channel: str, kind: int, body: bytes
) -> None:
    async with scene() as play:
        play.s1.inject(channel, kind, body)
        await expect(play.client, "known-message", Side.SERVER, f"{channel}:0")


@breaks("serial")
async def test_a_gap_in_the_serials_breaks_the_rule() -> None:
    async with scene(replace(S1, mini_header=False)) as play:
        assert play.s1.session is not None
        play.s1.session.channels[ChannelKey.parse("inputs")].wire.next_send_serial += 1
        play.s1.inject("inputs", Inputs.KEY_MODIFIERS, bytes(2))
        await expect(play.client, "serial", Side.SERVER, "inputs:0")


async def test_a_reply_that_crosses_the_end_of_the_migration_breaks_nothing() -> None:
    async with scene() as play:
        play.s1.migrate_connect(*address_of(play.s2))  # and at once:
        play.s1.hand_over_to(play.s2)
        assert (await play.s1.migrate_end()).name == "SWITCH_HOST"
        assert (await play.client.wait_migrated()).kind == "switch-host"
        await play.s2.wait_client_arrived()
        assert play.s1.broken_rules == play.s2.broken_rules == play.client.broken_rules == []


async def test_the_peer_that_broke_a_rule_is_disconnected_and_the_server_serves_the_next() -> None:
    async with scene() as play:
        play.client.inject("inputs", MsgC.MIGRATE_FLUSH_MARK)
        with pytest.raises(RuleBroken, match="R28"):
            await play.s1.wait_until(lambda: False)
        await play.s1.wait_until(lambda: play.s1.session is None)
        play.client.forget()
        async with open_client() as other:
            await connect(other, play.s1)


async def test_a_broken_rule_that_nobody_heard_of_comes_out_at_the_end() -> None:
    async def misbehave() -> None:
        async with open_server() as server, open_client() as client:
            await connect(client, server)
            client.inject("inputs", MsgC.MIGRATE_FLUSH_MARK)
            await until(lambda: bool(server.broken_rules))
            await until(lambda: client.session is None)
            client.forget()

    with pytest.raises(RuleBroken, match="R28"):
        await misbehave()


async def test_another_error_carries_the_broken_rule_as_a_note() -> None:
    async def misbehave() -> None:
        async with open_server() as server, open_client() as client:
            await connect(client, server)
            client.inject("inputs", MsgC.MIGRATE_FLUSH_MARK)
            await until(lambda: bool(server.broken_rules))
            client.forget()
            raise RuntimeError("the test's own")

    with pytest.raises(RuntimeError) as caught:
        await misbehave()
    assert "R28" in caught.value.__notes__[0]


def test_every_rule_has_a_test_that_breaks_it() -> None:
    assert RULES.keys() == TESTED


def test_the_source_migration_has_a_state_for_each_reply() -> None:
    assert SourceMigration._new_machine().state is Source.IDLE
