"""What looks like a breach and is none."""

import struct

from dissectors.message_ids import Main, MainC, Msg, MsgC
from spiceproxy.protocol.migration.attempt import MAX_CHANNELS
from spiceproxy.protocol.migration.facts import DirectionClosed, LinkFailed, Opened, Said
from spiceproxy.protocol.migration.model import Severity
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
    seamless,
    semi_seamless,
    switch_host,
    type_of,
)
from tests.protocol.migration.rules.breaches import judged, started
from tests.protocol.migration.rules.breaches_ahead import connecting, linked, replied_late
from tests.protocol.migration.rules.breaches_switch import display_with
from tests.protocol.migration.rules.test_faults import ended_by

ACK, DO = "MIGRATE_DST_SEAMLESS_ACK", "MIGRATE_DST_DO_SEAMLESS"
SEAMLESS_REPLY = "MIGRATE_CONNECTED_SEAMLESS"
BEGIN, BEGIN_SEAMLESS = Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS


def rules(play: Play, *, quiet_ns: int = SECOND) -> list[str]:
    return [each.rule for each in judged(play, quiet_ns=quiet_ns)]


def test_a_destination_that_is_lost_need_not_answer() -> None:
    play = connecting(None).closes("main:0", 1, SERVER)
    assert rules(play, quiet_ns=8 * SECOND) == []


def test_a_destination_that_the_client_left_had_until_then_to_answer() -> None:
    soon = connecting(None).closes("main:0", 1, CLIENT)
    assert rules(soon, quiet_ns=8 * SECOND) == []
    late = connecting(None).closes("main:0", 1, CLIENT, after_ns=6 * SECOND)
    assert rules(late) == ["R14"]


def test_an_answer_that_comes_when_all_is_over_is_not_unasked() -> None:
    play = cancelled().moved(ACK, behind=("MIGRATE_CANCEL", "main:0", 0)).without(DO)
    assert "R14" not in rules(play)


def test_a_capture_that_ends_with_the_reply_may_lack_an_answer_that_came_before_it() -> None:
    play = seamless().without(ACK).until(SEAMLESS_REPLY)
    assert rules(play, quiet_ns=MS) == []
    assert rules(play, quiet_ns=3 * MS) == ["R9"]


def test_a_reply_that_comes_when_the_source_has_cancelled_is_late_but_asked_for() -> None:
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    script.tick(100 * MS)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    script.tick(100 * MS)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    assert rules(script.play()) == []
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    assert rules(script.play()) == ["R7"]


def test_a_late_connect_error_draws_no_cancel() -> None:
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    script.tick(11 * SECOND)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(3 * SECOND)
    script.switch(0)
    assert rules(script.play()) == ["R43"]


def test_a_source_that_is_left_need_not_cancel() -> None:
    play = replied_late(cancel=False)
    at = play.where(SEAMLESS_REPLY)
    main = play.connection("main:0", 0)
    time_ns = play.facts[at].time_ns + 100 * MS
    ended = Play((*play.facts[: at + 1], DirectionClosed(time_ns, main, CLIENT, True)))
    assert [each.rule for each in judged(ended, quiet_ns=3 * SECOND) if each.by == "source"] == []


def test_no_reply_is_due_once_the_session_has_ended() -> None:
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    script.tick(SECOND)
    script.close("main:0", 0)
    assert rules(script.play(), quiet_ns=20 * SECOND) == []


def test_what_waited_to_be_written_may_come_with_the_reply() -> None:
    play = semi_seamless().inserted(
        "MIGRATE_CONNECTED", before=True, said=(CLIENT, "main:0", 0, int(MsgC.PONG), bytes(12))
    )
    assert rules(play) == []


def test_what_was_on_its_way_when_begin_came_is_not_said_while_connecting() -> None:
    play = semi_seamless().inserted("MIGRATE_BEGIN", said=(CLIENT, "main:0", 0, int(MsgC.PONG), bytes(12)))
    assert rules(play) == []


def test_a_reply_and_switch_host_may_cross() -> None:
    play = ended_by(Main.MIGRATE_SWITCH_HOST)
    at, reply = play.where("MIGRATE_SWITCH_HOST"), play.message(SEAMLESS_REPLY)
    before = reply._replace(time_ns=play.facts[at].time_ns - 100 * MS)
    rest = play.without(SEAMLESS_REPLY)
    crossed = Play((*rest.facts[: at - 1], before, *rest.facts[at - 1 :]))
    assert rules(crossed) == []


def test_a_reply_just_before_switch_host_may_draw_a_cancel_after_it() -> None:
    script = started()
    script.connect(0)
    script.tick(400 * MS)
    body = destination(Main.MIGRATE_SWITCH_HOST)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_SWITCH_HOST, body)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    assert rules(script.play()) == []


def test_channels_that_come_and_go_while_the_client_connects_are_no_difference() -> None:
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    script.link("display:1", 0)
    script.close("webdav:0", 0)
    for channel in CHANNELS[:-1]:
        script.tick(5 * MS)
        script.link(channel, 1)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    assert rules(script.play()) == []


def test_where_the_session_id_is_not_known_no_link_is_wrong() -> None:
    play = linked(*((channel, SESSION_ID) for channel in CHANNELS)).changed("INIT", hop=0, body=b"")
    assert rules(play) == []


def test_links_behind_a_main_channel_that_cannot_be_read_are_in_order() -> None:
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    name = script.open("main:0", 1)
    type_ = int(type_of("main:0"))
    script.facts.append(
        LinkFailed(script.tick(), name, 1, type_, 0, SESSION_ID, None, None, "TLS", opaque=True)
    )
    script.link("display:0", 1)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    assert rules(script.play()) == []


def test_a_user_who_ends_the_session_in_the_middle_breaks_no_rule() -> None:
    play = seamless()
    for name, channel in (
        ("MIGRATE", "webdav:0"),
        ("MIGRATE_FLUSH_MARK", "inputs:0"),
        ("MIGRATE_DATA", "main:0"),
    ):
        ended = play.until(name, channel, hop=0)
        for hop in (0, 1):
            for each in CHANNELS:
                ended = ended.closes(each, hop, CLIENT)
        assert rules(ended, quiet_ns=30 * SECOND) == [], name


def test_a_source_that_ends_in_the_middle_leaves_no_rule_broken() -> None:
    play = seamless().until("MIGRATE", "inputs:0", hop=0)
    for each in CHANNELS:
        play = play.closes(each, 0, SERVER)
    assert rules(play, quiet_ns=30 * SECOND) == []


def test_a_display_of_a_streaming_device_may_begin_without_state() -> None:
    play = seamless().changed("MIGRATE", "display:0", hop=0, body=struct.pack("<I", 0))
    for name, hop in (("MIGRATE_FLUSH_MARK", 0), ("MIGRATE_DATA", 0), ("MIGRATE_DATA", 1)):
        play = play.without(name, "display:0", hop=hop)
    assert [each.rule for each in judged(play) if each.severity is Severity.ERROR] == []


def test_channels_that_there_is_no_room_for_are_not_judged() -> None:
    channels = (
        "main:0",
        *(f"display:{number}" for number in range(256)),
        *(f"cursor:{n}" for n in range(100)),
    )
    assert len(channels) > MAX_CHANNELS
    script = Script(channels=channels)
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    script.tick(SECOND)
    script.act(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    assert {each.rule for each in judged(script.play()) if each.severity is Severity.ERROR} == set()


def test_a_connection_whose_channel_is_not_known_yet_is_no_channel() -> None:
    play = cancelled()
    at = play.where(SEAMLESS_REPLY)
    extra = Opened(play.facts[at].time_ns, "c99", 1, "10.0.0.2:5901")
    gone = DirectionClosed(play.facts[at].time_ns, "c99", CLIENT, True)
    assert rules(Play((*play.facts[:at], extra, gone, *play.facts[at:]))) == []


def test_switch_host_without_begin_to_a_client_that_could_connect_is_none_of_these_rules_business() -> None:
    # A source puts BEGIN off while the client still owes it state, and may run out of time.
    assert rules(switch_host(client_caps=0b1111)) == []


def test_begin_whose_body_is_not_known_is_judged_by_what_is() -> None:
    play = seamless().changed("MIGRATE_BEGIN_SEAMLESS", body=None)
    assert rules(play) == []


def test_pings_after_a_nack_may_come_before_the_switch_and_after_the_clients_end() -> None:
    script = started()
    script.connect(0, verdict=Main.MIGRATE_DST_SEAMLESS_NACK)
    script.say(SERVER, "main:0", 1, Msg.PING, bytes(12))
    script.tick(SECOND)
    script.finish_semi(0)
    play = script.play().inserted("MIGRATE_END", hop=1, said=(SERVER, "main:0", 1, int(Msg.PING), bytes(12)))
    assert rules(play) == []


# While channels change over --------------------------------------------------------------------------------


def test_a_link_that_was_replaced_says_nothing_of_the_switch() -> None:
    script = started()
    script.connect(0)
    old = script.where["inputs:0", 1]
    script.link("inputs:0", 1)
    script.tick(2 * SECOND)
    script.finish_seamless(0)
    play = script.play()
    at = play.where("MIGRATE_FLUSH_MARK", "inputs:0", hop=0)
    key = Said(play.facts[at].time_ns, old, CLIENT, 101, 4, 0, bytes(4))
    assert "R32" not in rules(Play((*play.facts[: at + 1], key, *play.facts[at + 1 :])))


def test_what_came_in_the_place_of_a_state_is_shown() -> None:
    play = seamless().without("MIGRATE_DATA", "inputs:0", hop=1)
    play = play.inserted(
        "KEY_MODIFIERS", "inputs:0", hop=1, said=(CLIENT, "inputs:0", 1, 101, bytes(4)), before=True
    )
    (found,) = judged(play)
    assert (found.rule, [each.name for each in found.evidence]) == ("R32", ["SPICE_MSGC_INPUTS_KEY_DOWN"])


def test_serials_from_before_the_migration_are_none_of_its_business() -> None:
    script = started(mini=False)
    play = script.play().twice("KEY_MODIFIERS", "inputs:0")
    script.facts = list(play)
    script.connect(0)
    script.tick(2 * SECOND)
    script.finish_seamless(0)
    assert rules(script.play()) == []


def test_a_state_that_the_capture_does_not_show_is_not_judged() -> None:
    play = seamless().changed("MIGRATE_DATA", "display:0", hop=1, body=None)
    play = play.changed("MIGRATE_DATA", "display:0", hop=0, body=None)
    assert rules(play) == []


def test_a_channel_that_nobody_knows_may_have_any_flags() -> None:
    assert rules(seamless(channels=(*CHANNELS, "tunnel:0"))) == []


def test_flags_that_are_not_known_may_be_any() -> None:
    assert rules(seamless().changed("MIGRATE", "inputs:0", hop=0, body=None)) == []


def test_a_source_that_takes_back_its_word_on_main_breaks_one_rule_with_it() -> None:
    body = destination(Main.MIGRATE_SWITCH_HOST)
    said = (SERVER, "main:0", 0, int(Main.MIGRATE_SWITCH_HOST), body)
    assert "R25" not in rules(seamless().inserted("MIGRATE", hop=0, said=said))


def test_a_mark_where_only_data_was_asked_for_is_one_breach() -> None:
    play = seamless().changed("MIGRATE", "inputs:0", hop=0, body=struct.pack("<I", 2))
    assert rules(play) == ["R24", "R28"]


def test_sound_that_was_waiting_may_follow_migrate() -> None:
    for channel, id_ in (("playback:0", 105), ("playback:0", 107), ("record:0", 104)):
        waiting = (SERVER, channel, 0, id_, bytes(5))
        assert rules(seamless().inserted("MIGRATE", channel, hop=0, said=waiting)) == []


def test_surfaces_of_which_a_message_is_cut_are_not_judged() -> None:
    named = display_with(surfaces=(0, 7))
    assert rules(named) == ["R46"]
    assert rules(named.changed("SURFACE_CREATE", "display:0", hop=0, body=b"\0\0")) == []
    assert rules(named.changed("SURFACE_CREATE", "display:0", hop=0, body=None)) == []
