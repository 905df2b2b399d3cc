"""What peers count rightly breaks no rule, and neither does what was not seen of it."""

import struct
from collections.abc import Callable
from functools import partial

import pytest

from dissectors.message_ids import Display, MainC, Msg, MsgC
from spiceproxy.protocol.migration.facts import Passed
from tests.protocol.migration.playbook import CLIENT, MS, SERVER, Play, seamless, semi_seamless
from tests.protocol.migration.rules.breaches import judged, said
from tests.protocol.migration.rules.breaches_counts import LAST_IMAGE, agent, drawn, glz, moved
from tests.protocol.migration.rules.breaches_switch import DATA, payload

WELL: dict[str, Callable[[], Play]] = {
    "mouse messages that were not acknowledged": partial(moved, 7, acks=1, count=3),
    "mouse messages of two servers": partial(moved, 3, 6, count=9, hops=2),
    "more than four, forgotten after a migration that came to nothing": partial(
        moved, 9, acks=1, count=1, cancelled=True
    ),
    "none forgotten after a migration that came to nothing": partial(moved, 9, acks=1, count=5, cancelled=True),
    "tokens spent up": partial(agent, 10),
    "tokens spent up at the destination": partial(agent, 6, [4], after=8),
    "an agent that begins anew": partial(agent, 6, held=10, after=10, restarts=True),
    "a message on its way to an agent that begins anew": partial(agent, 6, held=3, after=11, restarts=True),
    "images on from the last one": lambda: drawn(glz(LAST_IMAGE - 1), hop=0),
    "images on at the destination": lambda: drawn(glz(LAST_IMAGE), hop=1),
    "a body that is no image": lambda: drawn(bytes(3), hop=0),
    "an image that is of no dictionary": lambda: drawn(bytes(60), hop=1),
    "an image whose header is cut": lambda: drawn(glz(LAST_IMAGE - 1)[:-8], hop=0),
}  # fmt: skip


@pytest.mark.parametrize("name", WELL)
def test_what_is_counted_rightly_breaks_no_rule(name: str) -> None:
    assert judged(WELL[name]()) == []


def test_only_the_first_image_of_the_destination_says_where_it_begins() -> None:
    play = drawn(glz(LAST_IMAGE + 5), hop=1).changed("DRAW_COPY", "display:0", hop=1, nth=1, body=glz(3))
    assert judged(play) == []


def test_a_token_may_be_captured_a_little_later_than_the_switch() -> None:
    play = agent(6, [4], after=8)
    token = play.message("AGENT_TOKEN", hop=0)
    carried = play.message(DATA, hop=1)
    rest = [fact for fact in play if fact not in {token, carried}]
    at = rest.index(play.message("MIGRATE", hop=0))
    now = rest[at].time_ns
    late = [carried._replace(time_ns=now), token._replace(time_ns=now)]
    assert judged(Play((*rest[:at], *late, *rest[at:]))) == []


def test_of_messages_that_nobody_read_nothing_is_known() -> None:
    play = agent(6, after=5)
    at, name = play.where("MIGRATE_BEGIN_SEAMLESS"), play.connection("main:0", 0)
    unread = Passed(play.facts[at].time_ns, name, CLIENT, 3)
    assert judged(Play((*play.facts[:at], unread, *play.facts[at:]))) == []


def test_an_answer_to_what_passed_unread_is_none_to_nothing() -> None:
    for name, id_, body in (
        ("PONG", MsgC.PONG, bytes(12)),
        ("ACK_SYNC", MsgC.ACK_SYNC, struct.pack("<I", 7)),
    ):
        play = seamless().inserted(DATA, "webdav:0", hop=1, said=said(CLIENT, id_, body, channel="webdav:0"))
        assert [each.rule for each in judged(play)] == ["R56" if name == "PONG" else "R55"]
        at = play.where(name, "webdav:0", hop=1)
        unread = Passed(play.facts[at].time_ns, play.connection("webdav:0", 1), SERVER, 2)
        assert judged(Play((*play.facts[:at], unread, *play.facts[at:]))) == []


@pytest.mark.parametrize("body", [None, b"", b"\1\0"])
def test_an_answer_whose_body_is_not_known_is_not_judged(body: bytes | None) -> None:
    assert judged(seamless().changed("ACK_SYNC", "display:0", hop=1, body=body)) == []


def test_a_ping_is_answered_once() -> None:
    play = seamless().inserted(
        DATA, "inputs:0", hop=1, said=said(CLIENT, MsgC.PONG, bytes(12), channel="inputs:0")
    )
    assert [each.rule for each in judged(play)] == ["R56"]
    ping = said(SERVER, Msg.PING, bytes(12), channel="inputs:0")
    assert judged(play.inserted("INIT", "inputs:0", hop=1, said=ping)) == []


def test_a_mouse_whose_carried_count_is_not_known_is_not_judged() -> None:
    play = moved(3, 2, count=1, hops=2)
    assert [each.rule for each in judged(play)] == ["R51"]
    assert judged(play.changed(DATA, "inputs:0", hop=1, body=None)) == []


def test_without_an_agent_there_are_no_tokens() -> None:
    body = bytearray(65)
    body[:12] = b"MNMD" + struct.pack("<II", 1, 1)
    assert judged(payload("main:0", bytes(body))) == []


def test_tokens_of_a_session_that_began_without_state_are_those_of_its_init() -> None:
    play = semi_seamless()
    for _ in range(10):
        play = play.inserted("INIT", hop=1, said=said(CLIENT, MainC.AGENT_DATA, bytes(24)))
    assert judged(play) == []
    more = said(CLIENT, MainC.AGENT_DATA, bytes(24))
    assert [each.rule for each in judged(play.inserted("AGENT_DATA", hop=1, nth=9, said=more))] == ["R54"]


def test_surfaces_of_a_stream_or_of_a_cut_message_are_not_judged() -> None:
    assert judged(drawn(b"\3\0", hop=1)) == []
    stream = said(SERVER, Display.STREAM_CREATE, struct.pack("<I", 4) + bytes(40), channel="display:0")
    found = judged(seamless().inserted("DRAW_COPY", "display:0", hop=1, said=stream))
    assert [(each.rule, each.message) for each in found] == [
        ("R46", "DISPLAY_STREAM_CREATE of the destination on surface 4, which the client does not have")
    ]
    made = said(SERVER, Display.SURFACE_CREATE, struct.pack("<5I", 4, 9, 9, 32, 0), channel="display:0")
    play = seamless().inserted("DRAW_COPY", "display:0", hop=1, said=stream)
    assert judged(play.inserted("DRAW_COPY", "display:0", hop=1, said=made)) == []


def test_a_client_that_goes_on_after_the_end_is_judged_at_once() -> None:
    play = agent(10)
    tracker_end = play.end_ns + 500 * MS
    spent = play.message("AGENT_DATA", hop=0)._replace(
        time_ns=tracker_end, connection=play.connection("main:0", 1), number=None
    )
    assert judged(play, quiet_ns=5 * MS) == []
    assert [each.rule for each in judged(play.then(spent))] == ["R54"]


def test_a_server_that_asks_for_generations_without_end_is_not_kept_count_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spiceproxy.protocol.migration.rules.answering.MAX_GENERATIONS", 3)
    answer = said(CLIENT, MsgC.ACK_SYNC, struct.pack("<I", 99), channel="inputs:0")
    play = seamless().inserted(DATA, "inputs:0", hop=1, said=answer)
    for generation in range(3):
        assert [each.rule for each in judged(play)] == ["R55"]
        asks = said(SERVER, Msg.SET_ACK, struct.pack("<II", generation, 20), channel="inputs:0")
        play = play.inserted(DATA, "inputs:0", hop=1, said=asks)
    assert judged(play) == []
