"""How migrations end: what the tracker says of good ones, and of the same ones spoilt."""

import struct

import pytest

from dissectors.message_ids import Main, MainC
from dissectors.side import Side
from spiceproxy.protocol.migration.facts import DirectionClosed, Linked, LinkFailed, Said
from spiceproxy.protocol.migration.model import ChannelStep, Kind, Migration, Outcome, Party, Phase
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    SESSION_ID,
    Play,
    Script,
    cancelled,
    destination,
    refused,
    seamless,
    semi_seamless,
    switch_host,
    too_early,
)


@pytest.mark.parametrize("mini", [True, False])
def test_a_good_seamless_migration_is_completed_with_every_channel(mini: bool) -> None:
    found = seamless(mini=mini).migration()
    assert (found.offered and found.offered.kind, found.agreed, found.performed) == (Kind.SEAMLESS,) * 3
    assert found.outcome is Outcome.COMPLETED
    assert found.agreed_reason == "the destination acknowledged version 1"
    assert list(found.channels) == list(CHANNELS)
    assert all(channel.source_linked and channel.destination_linked for channel in found.channels.values())
    assert {name for name, channel in found.channels.items() if channel.data_equal} == {
        "main:0", "display:0", "inputs:0", "usbredir:0", "webdav:0",
    }  # fmt: skip
    assert not found.waiting
    assert not found.damaged
    assert {each.header for channel in found.channels.values() if (each := channel.source)} == {
        "mini" if mini else "full"
    }


def test_the_first_message_after_the_switch_is_not_one_that_came_before_it() -> None:
    found = seamless().migration()
    inputs, display = found.channels["inputs:0"], found.channels["display:0"]
    assert inputs.early_from_destination == 1
    assert inputs.first_early_from_destination
    assert inputs.first_early_from_destination.name == "SPICE_MSG_INPUTS_INIT"
    assert inputs.first_from_destination
    assert inputs.first_from_destination.name == "SPICE_MSG_INPUTS_KEY_MODIFIERS"
    assert display.early_from_destination == 0
    assert display.first_from_destination
    assert display.first_from_destination.name == "SPICE_MSG_SET_ACK"
    assert display.first_seen_from_destination
    assert display.first_seen_from_destination.name == "SPICE_MSG_DISPLAY_DRAW_COPY"


def never_answered(*, by: Side) -> Migration:
    """The destination does not answer DO_SEAMLESS; the guest moves all the same."""
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    play = script.play().without("MIGRATE_DST_SEAMLESS_ACK").without("MIGRATE_CONNECTED_SEAMLESS")
    switch = destination(Main.MIGRATE_SWITCH_HOST)
    end, main = play.end_ns, play.connection("main:0", 0)
    play = play.then(
        Said(end + 15 * SECOND, main, SERVER, Main.MIGRATE_SWITCH_HOST, len(switch), 0, switch, None)
    )
    play = play.closes("main:0", 0, by, after_ns=10 * SECOND)
    for channel in CHANNELS[1:]:
        play = play.closes(channel, 0, by)
    for channel in CHANNELS:
        play = play.closes(channel, 1, CLIENT, after_ns=MS if by is CLIENT else SECOND)
    return play.migration()


@pytest.mark.parametrize("by", [SERVER, CLIENT])
def test_a_client_that_waits_for_the_verdict_does_not_read_switch_host(by: Side) -> None:
    found = never_answered(by=by)
    assert found.outcome is Outcome.WEDGED
    assert found.reason.startswith("the client waits for ACK or NACK from the destination on main:0")
    assert ("client", "ACK or NACK") in [(each.who, each.what) for each in found.waiting]
    codes = [each.code for each in found.diagnoses]
    assert codes[0] == "verdict-missing"
    assert "destination-unreachable" not in codes


def test_a_client_that_keeps_a_state_back_and_goes_on_leaves_the_destination_waiting() -> None:
    play = seamless().without("MIGRATE_DATA", "inputs:0", hop=1)
    for channel in CHANNELS:
        play = play.closes(channel, 1, CLIENT, after_ns=2 * SECOND if channel == "main:0" else MS)
    found = play.migration()
    assert found.outcome is Outcome.WEDGED
    assert found.reason.startswith("the destination waits for MIGRATE_DATA from the client on inputs:0")
    assert found.blocking == ["inputs:0"]
    assert [each.code for each in found.diagnoses][:1] == ["data-not-delivered"]
    assert "client-left" not in [each.code for each in found.diagnoses]


def test_times_are_those_of_the_facts() -> None:
    play = seamless()
    found = play.migration()

    def between(first: tuple[str, str, int], last: tuple[str, str, int]) -> float:
        start, end = (play.message(name, channel, hop=hop) for name, channel, hop in (first, last))
        return (end.time_ns - start.time_ns) / 1e6

    assert found.times_ms["handshake"] == pytest.approx(
        between(("MIGRATE_BEGIN_SEAMLESS", "main:0", 0), ("MIGRATE_CONNECTED_SEAMLESS", "main:0", 0))
    )
    assert found.times_ms["data_transit"] == pytest.approx(
        between(("MIGRATE_DATA", "usbredir:0", 0), ("MIGRATE_DATA", "usbredir:0", 1)), abs=1
    )
    display = found.channels["display:0"]
    last = play.message("DRAW_COPY", "display:0", hop=0, nth=3)
    first = play.message("DRAW_COPY", "display:0", hop=1)
    assert display.pause_ms == pytest.approx((first.time_ns - last.time_ns) / 1e6)
    assert found.times_ms["pause"] >= found.times_ms["unseen"] > 0


def test_a_channel_that_was_quiet_before_the_switch_has_no_part_in_the_pause() -> None:
    play = seamless()
    last = play.where("KEY_MODIFIERS", "inputs:0", hop=0, nth=1)
    quiet = Play(play.facts[:last] + play.facts[last + 1 :]).migration()
    inputs = quiet.channels["inputs:0"]
    assert inputs.pause_ms is not None
    assert inputs.pause_ms > 1000
    assert quiet.times_ms["pause"] < 100


def test_two_hops_are_two_migrations() -> None:
    first, second = seamless(hops=2).migrations()
    assert (first.number, first.source_hop, first.destination_hop) == (1, 0, 1)
    assert (second.number, second.source_hop, second.destination_hop) == (2, 1, 2)
    assert {first.outcome, second.outcome} == {Outcome.COMPLETED}
    arrived, left = first.channels["display:0"].destination, second.channels["display:0"].source
    assert arrived
    assert left
    assert arrived.connection == left.connection


def test_two_heads_are_two_channels() -> None:
    found = seamless(channels=(*CHANNELS, "display:1")).migration()
    assert found.outcome is Outcome.COMPLETED
    assert found.channels["display:1"].data_equal


def test_a_good_semi_seamless_migration_is_completed_and_says_what_is_lost() -> None:
    found = semi_seamless().migration()
    assert (found.agreed, found.performed, found.outcome) == (
        Kind.SEMI_SEAMLESS,
        Kind.SEMI_SEAMLESS,
        Outcome.COMPLETED,
    )
    assert found.losses
    assert "option is off" in found.agreed_reason


def test_semi_seamless_names_the_capability_that_the_client_lacks() -> None:
    found = semi_seamless(client_caps=0b1011).migration()
    assert found.agreed_reason == "the client lacks the capability AGENT_CONNECTED_TOKENS"


def test_nack_makes_it_semi_seamless() -> None:
    found = refused().migration()
    assert (found.offered and found.offered.kind, found.agreed) == (Kind.SEAMLESS, Kind.SEMI_SEAMLESS)
    assert found.outcome is Outcome.COMPLETED
    assert found.agreed_reason == "NACK: the destination does not take version 1"


def test_a_destination_without_the_capability_is_named() -> None:
    script = Script(server_caps=0b0001)
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN_SEAMLESS, b"")
    for channel in CHANNELS:
        script.link(channel, 1)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.finish_semi(0)
    found = script.play().migration()
    assert found.agreed_reason == "the destination lacks the capability SEAMLESS_MIGRATE"


def test_switch_host_without_begin_is_a_migration_of_its_own() -> None:
    found = switch_host().migration()
    assert found.offered
    assert (found.offered.kind, found.performed, found.outcome) == (
        Kind.SWITCH_HOST, Kind.SWITCH_HOST, Outcome.COMPLETED,
    )  # fmt: skip
    assert found.agreed is None
    assert found.agreed_reason == "the client lacks the capability SEMI_SEAMLESS_MIGRATE"
    assert found.losses


def test_switch_host_after_connect_error_that_nobody_follows_loses_the_session() -> None:
    play = switch_host(begin=True)
    gone = play.kept(lambda fact: getattr(fact, "connection", "") not in {f"c{n}" for n in range(9, 17)})
    found = gone.migration(quiet_ns=3 * MS)
    assert (found.performed, found.outcome) == (Kind.SWITCH_HOST, Outcome.FAILED)
    assert "session lost" in found.reason
    assert "CONNECT_ERROR" in found.agreed_reason


def test_switch_host_that_nobody_follows_yet_is_not_lost_at_once() -> None:
    play = switch_host()
    gone = play.kept(lambda fact: getattr(fact, "connection", "") not in {f"c{n}" for n in range(9, 17)})
    assert gone.migration(quiet_ns=100 * MS).outcome is Outcome.INCOMPLETE
    assert gone.migration(quiet_ns=2 * SECOND).outcome is Outcome.FAILED


def test_a_new_session_without_a_channel_says_so() -> None:
    found = switch_host().without_channel("usbredir:0", hop=1).migration(quiet_ns=4 * SECOND)
    assert found.outcome is Outcome.COMPLETED
    assert "usbredir:0: not open at the destination" in found.losses


def test_a_new_session_without_a_display_is_not_completed() -> None:
    found = switch_host().without_channel("display:0", hop=1).migration(quiet_ns=20 * SECOND)
    assert found.outcome is not Outcome.COMPLETED
    assert found.blocking == ["display:0"]


def test_a_cancelled_migration_is_cancelled_and_its_links_are_closed() -> None:
    found = cancelled().migration()
    assert (found.agreed, found.performed, found.outcome) == (Kind.SEAMLESS, None, Outcome.CANCELLED)
    closing = found.channels["display:0"].destination_closed
    assert closing
    assert closing.by == "client"
    assert found.channels["display:0"].source_closed is None


def test_an_attempt_after_a_cancelled_one_is_another_migration() -> None:
    script = Script()
    script.session(0)
    script.connect(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in CHANNELS:
        script.close(channel, 1)
    script.connect(0)
    script.act(0)
    script.finish_seamless(0)
    first, second = script.play().migrations()
    assert (first.outcome, second.outcome) == (Outcome.CANCELLED, Outcome.COMPLETED)
    assert (second.source_hop, second.destination_hop) == (0, 1)


def test_migrate_too_early_is_a_switch_host_whose_reason_says_when() -> None:
    found = too_early().migration()
    assert (found.agreed, found.performed, found.outcome) == (None, Kind.SWITCH_HOST, Outcome.COMPLETED)
    assert found.agreed_reason.startswith(
        "the source ended it 12 ms after BEGIN, before the client had replied"
    )
    assert found.ending.cancel is not None  # for the reply that crossed it
    main, display = found.channels["main:0"], found.channels["display:0"]
    assert main.destination
    assert display.destination
    assert (main.destination.connection_id, display.destination.connection_id) == (0, SESSION_ID + 1)
    assert main.first_from_destination
    assert main.first_from_destination.name == "SPICE_MSG_MAIN_INIT"


def test_links_that_were_on_their_way_when_switch_host_came_are_no_new_session() -> None:
    play = too_early()
    new = play.where("INIT", hop=1)
    opened = {play.connection(channel, 1) for channel in CHANNELS}
    play = Play(play.facts[:new]).kept(lambda fact: getattr(fact, "connection", None) not in opened)
    found = play.migration(quiet_ns=3 * SECOND)
    assert (found.performed, found.outcome) == (Kind.SWITCH_HOST, Outcome.FAILED)
    assert "session lost" in found.reason


def test_a_reply_after_ten_seconds_draws_cancel_and_then_switch_host_in_one_migration() -> None:
    script = Script()
    script.session(0)
    script.connect(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in CHANNELS:
        script.close(channel, 1)
    script.tick(SECOND)
    script.act(0)
    script.switch(0)
    play = script.play().delayed(11 * SECOND, "MIGRATE_CONNECTED_SEAMLESS")
    found = play.migration()
    assert found.handshake.late
    assert (found.agreed, found.performed, found.outcome) == (None, Kind.SWITCH_HOST, Outcome.COMPLETED)
    assert found.ending.cancel is not None
    assert found.agreed_reason == "the client replied later than 10 s after BEGIN"


def test_no_reply_in_time_is_a_timeout() -> None:
    script = Script()
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN_SEAMLESS, b"")
    script.tick(12 * SECOND)
    script.act(0)
    script.switch(0)
    assert script.play().migration().agreed_reason == "timeout: the client did not reply within 10 s"


def test_a_link_that_the_destination_refused_is_why_there_was_no_connection() -> None:
    script = Script()
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_BEGIN_SEAMLESS, b"")
    script.fail("main:0", 1, code=7, reason="SPICE_LINK_ERR_PERMISSION_DENIED")
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.act(0)
    script.switch(0)
    play = script.play()
    assert any(isinstance(fact, LinkFailed) for fact in play)
    found = play.migration()
    assert "SPICE_LINK_ERR_PERMISSION_DENIED" in found.agreed_reason
    assert found.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("missing", ["MIGRATE_FLUSH_MARK", "MIGRATE_DATA", "DATA"])
def test_a_missing_message_wedges_the_migration_and_names_channel_and_parties(missing: str) -> None:
    play = seamless()
    last = play.where("MIGRATE_DATA", "webdav:0", hop=1)
    play = Play(play.facts[: last + 1])  # nobody leaves the source
    if missing == "MIGRATE_FLUSH_MARK":
        play = (
            play.without(missing, "inputs:0")
            .without("MIGRATE_DATA", "inputs:0")
            .without("MIGRATE_DATA", "inputs:0")
        )
        expected = (Party.SOURCE, "FLUSH_MARK", Party.CLIENT)
    elif missing == "MIGRATE_DATA":
        play = play.without(missing, "inputs:0", hop=0).without(missing, "inputs:0", hop=1)
        expected = (Party.CLIENT, "MIGRATE_DATA", Party.SOURCE)
    else:
        play = play.without("MIGRATE_DATA", "inputs:0", hop=1)
        expected = (Party.DESTINATION, "MIGRATE_DATA", Party.CLIENT)
    assert play.migration(quiet_ns=SECOND).outcome is Outcome.INCOMPLETE
    found = play.migration(quiet_ns=4 * SECOND)
    assert (found.performed, found.outcome) == (Kind.SEAMLESS, Outcome.WEDGED)
    assert found.blocking == ["inputs:0"]
    (wait,) = [each for each in found.waiting if each.channel]
    assert (wait.who, wait.what, wait.whom) == expected
    assert "inputs:0" in found.reason
    assert found.stalled_ns is not None


def test_a_source_that_gives_up_on_a_wedged_client_does_not_hide_the_wedge() -> None:
    play = seamless()
    play = Play(play.facts[: play.where("MIGRATE_DATA", "webdav:0", hop=1) + 1])
    play = (
        play.without("MIGRATE_FLUSH_MARK", "inputs:0")
        .without("MIGRATE_DATA", "inputs:0")
        .without("MIGRATE_DATA", "inputs:0")
    )
    for hop, by in ((0, SERVER), (1, CLIENT)):
        for channel in CHANNELS:
            play = play.closes(
                channel, hop, by, after_ns=10 * SECOND if (hop, channel) == (0, "main:0") else MS
            )
    found = play.migration()
    assert found.outcome is Outcome.WEDGED
    assert found.blocking == ["inputs:0"]
    assert "session lost" in found.reason


def test_a_channel_without_migrate_blocks_the_migration() -> None:
    play = seamless()
    play = Play(play.facts[: play.where("MIGRATE_DATA", "webdav:0", hop=1) + 1]).without(
        "MIGRATE", "cursor:0"
    )
    found = play.migration(quiet_ns=4 * SECOND)
    assert (found.outcome, found.blocking) == (Outcome.WEDGED, ["cursor:0"])
    assert found.channels["cursor:0"].step is ChannelStep.STAYING


def test_a_channel_that_only_the_destination_has_keeps_the_client_at_the_source() -> None:
    # remote-viewer with a webdav channel that it has not opened: the client links it ahead, and waits for its MIGRATE.
    play = seamless().without_channel("webdav:0", hop=0)
    play = play.kept(
        lambda fact: not isinstance(fact, DirectionClosed) and "MIGRATE_DATA" not in _data_of(play, fact)
    )
    for channel in CHANNELS[:-1]:
        play = play.closes(channel, 0, SERVER, after_ns=10 * SECOND if channel == "main:0" else MS)
    found = play.migration()
    assert (found.performed, found.outcome) == (Kind.SEAMLESS, Outcome.WEDGED)
    assert found.blocking == ["webdav:0"]
    assert "never left the source" in found.reason
    assert not found.channels["webdav:0"].source_linked


def _data_of(play: Play, fact: object) -> str:
    """MIGRATE_DATA of webdav, which the source never sent."""
    name = play.connection("webdav:0", 1)
    said = getattr(fact, "connection", None) == name and (
        getattr(fact, "side", None),
        getattr(fact, "id", 0),
    ) == (CLIENT, 5)
    return "MIGRATE_DATA" if said else ""


def test_a_client_that_waits_for_the_verdict_wedges_the_migration() -> None:
    play = seamless().until("MIGRATE_DST_DO_SEAMLESS", hop=1)
    assert play.migration(quiet_ns=5 * SECOND).outcome is Outcome.INCOMPLETE
    found = play.migration(quiet_ns=12 * SECOND)
    assert found.outcome is Outcome.WEDGED
    assert (found.waiting[0].who, found.waiting[0].what) == (Party.CLIENT, "ACK or NACK")


def test_a_destination_that_says_nothing_after_the_switch_is_not_a_completed_migration() -> None:
    play = seamless()
    silent = play.connection("display:0", 1)
    play = play.kept(
        lambda fact: (getattr(fact, "connection", ""), getattr(fact, "side", None)) != (silent, SERVER)
    )
    found = play.migration(quiet_ns=4 * SECOND)
    assert (found.outcome, found.blocking) == (Outcome.WEDGED, ["display:0"])


def test_a_quiet_device_does_not_hinder_completion() -> None:
    found = seamless().migration()
    assert found.channels["usbredir:0"].first_from_destination is None
    assert found.outcome is Outcome.COMPLETED


def test_a_destination_that_drops_a_display_has_not_completed() -> None:
    play = seamless().without("MIGRATE_DATA", "display:0", hop=1)
    dropped = play.connection("display:0", 1)
    play = play.kept(
        lambda fact: (getattr(fact, "connection", ""), getattr(fact, "side", None)) != (dropped, SERVER)
    )
    found = play.closes("display:0", 1, SERVER, after_ns=10 * SECOND).migration(quiet_ns=3 * SECOND)
    assert found.outcome is Outcome.WEDGED
    assert found.reason.startswith(
        "the destination waits for MIGRATE_DATA from the client on display:0; after 10.0 s"
    )


def test_a_destination_that_dies_in_the_switch_loses_the_session() -> None:
    play = seamless()
    play = Play(play.facts[: play.where("MIGRATE_DATA", hop=1) + 1])
    for hop, by in ((1, SERVER), (0, CLIENT)):
        for channel in CHANNELS:
            play = play.closes(channel, hop, by)
    found = play.migration()
    assert found.outcome is Outcome.FAILED
    assert "the destination closed" in found.reason


def test_a_client_that_quits_while_the_guest_moves_has_failed_not_wedged() -> None:
    play = seamless().until("MIGRATE_CONNECTED_SEAMLESS")
    for hop in (0, 1):
        for channel in CHANNELS:
            play = play.closes(channel, hop, CLIENT)
    found = play.migration()
    assert found.outcome is Outcome.FAILED
    assert found.reason.startswith("the client closed the session")


def test_a_capture_that_ends_while_the_guest_moves_is_incomplete_however_long_it_takes() -> None:
    found = seamless().until("MIGRATE_CONNECTED_SEAMLESS").migration(quiet_ns=60 * SECOND)
    assert found.outcome is Outcome.INCOMPLETE
    assert found.phase is Phase.OVER


def test_data_that_changed_on_the_way_is_seen() -> None:
    play = seamless().changed("MIGRATE_DATA", "inputs:0", hop=1, body=b"ICMD" + struct.pack("<IH", 1, 9))
    found = play.migration()
    assert found.channels["inputs:0"].data_equal is False
    assert found.losses == ["inputs:0: MIGRATE_DATA reached the destination changed"]


@pytest.mark.parametrize(
    "play",
    [seamless(2), semi_seamless(2), refused(), switch_host(), cancelled(), too_early()],
    ids=["seamless", "semi-seamless", "refused", "switch-host", "cancelled", "too-early"],
)
def test_a_capture_of_good_migrations_that_ends_anywhere_accuses_nobody(play: Play) -> None:
    for length in range(1, len(play.facts)):
        for found in Play(play.facts[:length]).migrations(quiet_ns=500 * MS):
            assert found.outcome not in {Outcome.FAILED, Outcome.WEDGED}, found.reason


@pytest.mark.parametrize("owed", [True, False])
def test_a_channel_that_never_brought_its_state_puts_off_the_next_begin(owed: bool) -> None:
    script = Script()
    script.session(0)
    script.connect(0)
    script.finish_seamless(0)
    script.tick(20 * SECOND)
    script.act(1)
    script.switch(1)
    play = script.play()
    first, second = (play.without("MIGRATE_DATA", "webdav:0", hop=1) if owed else play).migrations()
    assert (first.outcome is Outcome.COMPLETED) is not owed
    assert second.performed is Kind.SWITCH_HOST
    assert ("BEGIN was put off" in second.agreed_reason and "webdav:0" in second.agreed_reason) is owed


@pytest.mark.parametrize("sound", [True, False])
def test_a_destination_that_plays_sound_has_nothing_to_say_on_main(sound: bool) -> None:
    script = Script()
    script.session(0)
    script.connect(0)
    script.finish_seamless(0)
    if sound:
        script.say(SERVER, "playback:0", 1, 101, bytes(20))  # DATA
    script.tick(20 * SECOND)
    script.act(1)
    found = script.play().without("MULTI_MEDIA_TIME", hop=1).migration()
    assert (found.outcome is Outcome.COMPLETED) == sound
    if not sound:
        assert found.reason.startswith("the client waits for a first message from the destination on main:0")


def links_of_a_client_that_has_not_opened_webdav() -> Script:
    """It links webdav ahead of the switch all the same, and waits for its MIGRATE until the source drops it."""
    script = Script(channels=tuple(channel for channel in CHANNELS if channel != "webdav:0"))
    script.session(0)
    script.connect(0)
    script.link("webdav:0", 1)
    return script


@pytest.mark.parametrize("finished", [True, False])
def test_a_link_that_no_switch_came_for_is_no_part_of_the_next_migration(finished: bool) -> None:
    script = links_of_a_client_that_has_not_opened_webdav()
    script.finish_seamless(0)
    if finished:
        script.close("webdav:0", 1)
    begin = destination(Main.MIGRATE_BEGIN_SEAMLESS, "10.0.0.3", 5902)
    script.tick(20 * SECOND)
    script.say(SERVER, "main:0", 1, Main.MIGRATE_BEGIN_SEAMLESS, begin)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_CONNECT_ERROR)
    script.switch(1)
    found = script.play().migrations()[1]
    assert "webdav:0" not in found.channels
    assert found.performed is Kind.SWITCH_HOST
    assert found.outcome is Outcome.COMPLETED
    assert ("the client did not try: it has not finished migration 1" in found.agreed_reason) != finished


def test_links_that_were_overtaken_are_no_part_of_the_next_migration() -> None:
    script = Script()
    script.session(0)
    script.connect(0)
    overtaken = script.where["display:0", 1]
    script.switch(0)
    script.facts.append(
        DirectionClosed(script.tick(), overtaken, SERVER)
    )  # of which spice-gtk takes no notice
    begin = destination(Main.MIGRATE_BEGIN_SEAMLESS, "10.0.0.3", 5902)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 1, Main.MIGRATE_BEGIN_SEAMLESS, begin)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_CONNECT_ERROR)
    script.switch(1)
    script.say(SERVER, "main:0", 2, Main.MIGRATE_BEGIN_SEAMLESS, begin)
    script.say(CLIENT, "main:0", 2, MainC.MIGRATE_CONNECT_ERROR)
    script.switch(2)
    _, found, third = script.play().migrations()
    for each in (found, third):  # nothing but a new client ends it
        assert (each.outcome, len(each.channels)) == (Outcome.COMPLETED, len(CHANNELS))
        assert "the client did not try: it has not finished migration 1" in each.agreed_reason
    assert {link.connection_id for each in found.channels.values() if (link := each.source)} == {
        0,
        SESSION_ID + 1,
    }


def test_a_new_session_that_ends_without_a_channel_of_the_old_one_has_moved() -> None:
    script = Script()
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_SWITCH_HOST, destination(Main.MIGRATE_SWITCH_HOST))
    for channel in CHANNELS:
        script.close(channel, 0)
    script.channels = tuple(channel for channel in CHANNELS if channel != "usbredir:0")
    script.session(1, session_id=SESSION_ID + 1)
    for channel in script.channels:
        script.close(channel, 1)
    found = script.play().migration()
    assert found.outcome is Outcome.COMPLETED
    assert "usbredir:0: not open at the destination" in found.losses


def test_a_destination_that_lets_the_client_wait_for_its_link_reply_is_named() -> None:
    play = switch_host()
    main = next(i for i, fact in enumerate(play.facts) if isinstance(fact, Linked) and fact.hop == 1)
    late = [fact._replace(time_ns=fact.time_ns + 10 * SECOND) for fact in play.facts[main:]]
    found = Play((*play.facts[:main], *late)).migration()
    assert found.outcome is Outcome.COMPLETED
    assert found.reason.endswith("which let it wait for 10.0 s until it answered")


def test_a_switch_to_a_server_that_refuses_the_link_names_why() -> None:
    script = Script()
    script.session(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_SWITCH_HOST, destination(Main.MIGRATE_SWITCH_HOST))
    for channel in CHANNELS:
        script.close(channel, 0)
    script.fail("main:0", 1, code=7, reason="SPICE_LINK_ERR_PERMISSION_DENIED", connection_id=0)
    script.tick(40 * SECOND)
    found = script.play().migration()
    assert found.outcome is Outcome.FAILED
    assert found.reason.endswith(
        "as SWITCH_HOST told it, and was not linked: SPICE_LINK_ERR_PERMISSION_DENIED"
    )


def test_a_destination_that_has_gone_before_the_source_cancels_is_named() -> None:
    play = cancelled()
    at = play.where("MIGRATE_CANCEL")
    main = next(fact.connection for fact in play.facts if isinstance(fact, Linked) and fact.hop == 1)
    gone = DirectionClosed(play.facts[at].time_ns - MS // 20, main, SERVER)
    found = Play((*play.facts[:at], gone, *play.facts[at:])).migration()
    assert found.outcome is Outcome.CANCELLED
    assert "after the destination had closed its connections to the client" in found.reason
