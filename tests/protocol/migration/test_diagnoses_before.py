"""Diagnoses of what goes wrong before the source's last word: the offer, links, answers."""

from typing import Final

import pytest

from dissectors.link import LinkError
from dissectors.message_ids import Main
from spiceproxy.protocol.migration.facts import Missing
from spiceproxy.protocol.migration.session import SessionTracker
from tests.protocol.migration.expected import Near, Row, check, check_near
from tests.protocol.migration.playbook import (
    CHANNELS,
    SECOND,
    SERVER,
    cancelled,
    refused,
    seamless,
    semi_seamless,
    switch_host,
    too_early,
)
from tests.protocol.migration.spoilt_links import (
    all_linked_and_refused,
    bad_init,
    begun,
    connect_error,
    given_up_by_client,
    half_linked,
    lacking_destination,
    late_connected,
    late_new_session,
    link_error,
    lost_at,
    nack_rewritten,
    no_client_end,
    no_host,
    no_init,
    no_reply,
    no_verdict,
    nothing_happens,
    overtaken,
    owed,
    second_attempt,
    second_reply,
    sentinel_that_works,
    silent_until_closed,
    stalled_at_begin,
    stalled_link,
    still_waiting,
    turned_away,
    unasked,
    unreached_by_proxy,
    version,
    with_ack_for_nothing,
    without_semi_at_source,
)

RECONNECTED: Final = "reconnected-from-scratch"


ROWS: Final = [
    Row("option off", semi_seamless, ("seamless-option-off",), ("only a semi-seamless",), ("main:0",)),
    Row(
        "client without the seamless capability",
        lambda: semi_seamless(client_caps=0b0111),
        ("client-lacks-capability",),
        ("did not announce SEAMLESS_MIGRATE", "semi-seamless"),
    ),
    Row(
        "client without agent tokens",
        lambda: semi_seamless(client_caps=0b1011),
        ("client-lacks-capability",),
        ("AGENT_CONNECTED_TOKENS",),
    ),
    Row(
        "client without any",
        switch_host,
        ("client-lacks-capability", RECONNECTED),
        ("SEMI_SEAMLESS_MIGRATE", "no BEGIN at all"),
    ),
    Row(
        "source without the capability",
        without_semi_at_source,
        ("source-lacks-capability", "seamless-option-off"),
    ),
    Row("owed state", owed, ("begin-postponed", RECONNECTED), ("webdav:0",), ("webdav:0",)),
    Row(
        "SWITCH_HOST alone",
        lambda: switch_host(client_caps=0b1111),
        ("switch-host-without-begin", RECONNECTED),
    ),
    Row("no port", lambda: lost_at(0xFFFF, 0), ("no-usable-port",), ("65535 and 0",)),
    Row("TLS only", lambda: lost_at(0xFFFF, 5999), ("tls-only-sentinel",), ("TLS port 5999", "dials 65535")),
    Row("no host", no_host, ("switch-host-without-host",)),
    Row(
        "too early",
        too_early,
        ("too-early-migrate", RECONNECTED),
        ("both sides could do seamless", "12 ms after BEGIN_SEAMLESS", "came 1.7 ms later"),
    ),
    Row("id zero", lambda: bad_init(seamless()), ("zero-connection-id",), ("connection id 0",)),
    *(
        Row(
            code.name,
            lambda code=code: link_error(int(code), "display:0"),  # type: ignore[misc]
            (name, RECONNECTED),
            ("display:0", f"SPICE_LINK_ERR_{code.name}"),
            ("display:0",),
        )
        for code, name in (
            (LinkError.PERMISSION_DENIED, "ticket-refused"),
            (LinkError.NEED_SECURED, "destination-needs-tls"),
            (LinkError.NEED_UNSECURED, "destination-needs-plain"),
            (LinkError.BAD_CONNECTION_ID, "bad-connection-id"),
            (LinkError.CHANNEL_NOT_AVAILABLE, "destination-lacks-channel"),
            (LinkError.VERSION_MISMATCH, "link-version-mismatch"),
            (LinkError.ERROR, "link-refused"),
        )
    ),
    Row(
        "turned away",
        turned_away,
        ("destination-lacks-channel", RECONNECTED),
        ("webdav:0", "without an answer"),
        ("webdav:0",),
    ),
    Row(
        "overtaken",
        overtaken,
        ("earlier-unfinished", RECONNECTED),
        ("0.1 ms after BEGIN_SEAMLESS without connecting", "migration 1 is not over"),
    ),
    Row("SASL", lambda: link_error(1, reason="SPICE_LINK_ERR_ERROR: SASL"), ("sasl-refused", RECONNECTED)),
    Row("broken link", lambda: link_error(None), ("link-broken", RECONNECTED), ("the destination ended it",)),
    Row(
        "nobody there",
        lambda: lost_at(5901, 0),
        ("destination-unreachable",),
        ("10.0.0.2:5901", "CONNECT_ERROR"),
    ),
    Row("nobody there, later", lambda: switch_host(begin=True), ("destination-unreachable", RECONNECTED)),
    Row(
        "nobody there, by proxy",
        unreached_by_proxy,
        ("destination-unreachable", RECONNECTED),
        ("Connection refused",),
    ),
    Row(
        "stalled link",
        stalled_link,
        ("destination-silent", "source-stopped-waiting"),
        ("accepted the connection of main:0",),
        ("main:0",),
        15 * SECOND,
    ),
    Row(
        "stalled link, given up",
        silent_until_closed,
        ("destination-silent", RECONNECTED),
        ("has not finished the link in 9.0 s",),
    ),
    Row(
        "stalled link, live",
        stalled_at_begin,
        ("destination-silent",),
        ("4.0 s",),
        None,
        4 * SECOND,
    ),
    Row(
        "nothing happens",
        nothing_happens,
        ("client-never-connected", "source-stopped-waiting"),
        ("In 12.0 s",),
        None,
        15 * SECOND,
    ),
    Row(
        "no verdict",
        no_verdict,
        ("verdict-missing", "source-stopped-waiting"),
        ("DO_SEAMLESS (version 1)",),
        None,
        12 * SECOND,
    ),
    Row("half linked", half_linked, ("channel-not-linked", RECONNECTED), ("inputs:0",), CHANNELS[2:]),
    Row(
        "CONNECT_ERROR for nothing",
        all_linked_and_refused,
        ("connect-error-unfounded", RECONNECTED),
        ("all 8 channels",),
    ),
    Row(
        "lost reply", no_reply, ("reply-missing", "source-stopped-waiting", RECONNECTED), ("All 8 channels",)
    ),
    Row("late reply", late_connected, ("late-reply", RECONNECTED), ("11.0 s after BEGIN_SEAMLESS", "CANCEL")),
    Row("NACK", refused, ("nack",), ("NACK 0.1 ms after DO_SEAMLESS", "version 1 is one")),
    Row("NACK of a newer version", lambda: version(2, offered=2), ("nack",), ("version 2",)),
    Row("NACK of a changed version", lambda: version(2), ("nack",), ("had offered 1",)),
    Row(
        "destination without the capability",
        lacking_destination,
        ("destination-lacks-capability",),
        ("10.0.0.2:5901",),
    ),
    Row("DO_SEAMLESS lost", unasked, ("client-did-not-ask",), ("no DO_SEAMLESS",)),
    Row("second reply", second_reply, ("second-reply",), ("100 ms after CONNECTED_SEAMLESS", "CANCEL")),
    Row(
        "ACK rewritten to NACK",
        nack_rewritten,
        ("destination-already-seamless",),
        ("heard NACK", "MIGRATE_END then killed the destination", "3.0 ms later"),
    ),
    Row(
        "ACK, and CONNECTED",
        lambda: nack_rewritten(seen_as=Main.MIGRATE_DST_SEAMLESS_ACK),
        ("destination-already-seamless",),
        ("had said ACK",),
    ),
    Row(
        "CONNECTED_SEAMLESS after NACK",
        with_ack_for_nothing,
        ("connected-without-ack", "nack"),
        ("said NACK",),
    ),
    Row(
        "END unheard",
        no_client_end,
        ("client-ignored-end", "source-gave-up", "seamless-option-off"),
        ("waits for its MIGRATE_END",),
    ),
    Row("no MAIN_INIT", no_init, ("init-missing", "seamless-option-off"), ("in 4.0 s",), ("main:0",)),
]


NEAR: Final = [
    Near("client-lacks-capability", "what it lacks is not why there was no BEGIN", lambda: switch_host(client_caps=0b0001)),
    Near("seamless-option-off", "seamless was offered", seamless),
    Near("seamless-option-off", "the client could not", lambda: semi_seamless(client_caps=0b0001)),
    Near("client-lacks-capability", "it has all that matters", lambda: semi_seamless(client_caps=0b1101)),
    Near("source-lacks-capability", "the client goes all the same", lambda: semi_seamless(server_caps=0b1000)),
    Near("begin-postponed", "nothing is owed", lambda: switch_host(client_caps=0b1111)),
    Near("switch-host-without-begin", "there was a BEGIN", lambda: switch_host(begin=True)),
    Near("no-usable-port", "TLS is one", lambda: lost_at(0, 5999)),
    Near("tls-only-sentinel", "port 0 makes the client dial TLS", lambda: lost_at(0, 5999)),
    Near("tls-only-sentinel", "the client got there all the same", sentinel_that_works),
    Near("switch-host-without-host", "it names one", lambda: switch_host(begin=True)),
    Near("too-early-migrate", "the client had replied", lambda: switch_host(begin=True)),
    Near("too-early-migrate", "the source had waited long enough", no_reply),
    Near("zero-connection-id", "after SWITCH_HOST it is as it should be", too_early),
    *(Near(name, "another code", lambda: link_error(None)) for name in (
        "ticket-refused", "destination-needs-tls", "destination-needs-plain", "bad-connection-id", "destination-lacks-channel",
        "link-version-mismatch", "link-refused", "sasl-refused",
    )),
    Near("sasl-refused", "no word of SASL", lambda: link_error(1)),
    Near("link-refused", "SASL says more", lambda: link_error(1, reason="SPICE_LINK_ERR_ERROR: SASL")),
    Near("link-broken", "it was refused", lambda: link_error(7)),
    Near("earlier-unfinished", "the first one", lambda: switch_host(begin=True)),
    Near("earlier-unfinished", "the one before is over", second_attempt, nth=1),
    Near("destination-unreachable", "it answered", lambda: link_error(7)),
    Near("destination-unreachable", "the client was connected", seamless),
    Near("destination-silent", "one second is no silence", stalled_at_begin, SECOND),
    Near("destination-silent", "it closed at once", given_up_by_client),
    Near("client-never-connected", "it did", no_verdict, 12 * SECOND),
    Near("client-never-connected", "it has only begun", lambda: begun().play(), SECOND),
    Near("verdict-missing", "it came", seamless),
    Near("verdict-missing", "there was no time for it", lambda: too_early().without("MIGRATE_DST_SEAMLESS_ACK", hop=1)),
    Near("channel-not-linked", "one was refused, the others did not matter any more", lambda: link_error(9, "display:0")),
    Near("connect-error-unfounded", "one was missing", half_linked),
    Near("reply-missing", "it came", seamless),
    Near("reply-missing", "the verdict is due first", no_verdict, 12 * SECOND),
    Near("late-reply", "nine seconds are in time", lambda: cancelled().delayed(8 * SECOND, "MIGRATE_CONNECTED_SEAMLESS")),
    Near("source-stopped-waiting", "nine seconds", no_verdict, 9 * SECOND),
    Near("nack", "ACK", seamless),
    Near("destination-lacks-capability", "it has it, and says NACK", refused),
    Near("client-did-not-ask", "it asked", refused),
    Near("client-did-not-ask", "the destination could not", lacking_destination),
    Near("second-reply", "a cancelled migration, and another", second_attempt, nth=1),
    Near("destination-already-seamless", "a destination that said NACK and meant it", refused),
    Near("connected-without-ack", "there was an ACK", seamless),
    Near("client-ignored-end", "it has not had time", lambda: semi_seamless().until("MIGRATE_END", hop=0), SECOND),
    Near("init-missing", "it has not had time", no_init, SECOND),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_what_is_wrong_before_the_switch_is_named(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("near", NEAR, ids=[f"{near.code}: {near.why}" for near in NEAR])
def test_what_is_nearly_wrong_before_the_switch_is_not_named(near: Near) -> None:
    check_near(near)


def test_a_destination_with_a_wrong_certificate_is_not_looked_for_elsewhere() -> None:
    for reason, hint in (
        ("TLS: the certificate's subject is 'CN=a', not 'CN=b'", "cert-subject"),
        ("Connection refused", "nc -vz"),
    ):
        found = unreached_by_proxy(reason).migration().diagnoses[0]
        assert (found.code, reason in found.text) == ("destination-unreachable", True)
        assert hint in found.next


def test_a_client_that_took_long_to_be_turned_away_has_met_silence() -> None:
    script = begun()
    script.tick(10 * SECOND)
    found = connect_error(script).play().migration()
    assert "packets that nobody answers" in found.diagnoses[0].text


def test_where_the_capture_has_a_hole_nothing_is_said_to_be_missing() -> None:
    play = no_verdict()
    torn = play.then(Missing(play.end_ns, play.connection("main:0", 1), SERVER, 100))
    assert "verdict-missing" not in {each.code for each in torn.migration(quiet_ns=12 * SECOND).diagnoses}


def test_a_destination_that_waits_for_a_state_keeps_the_new_session_waiting() -> None:
    last = late_new_session().migration().diagnoses[-1]
    assert last.code == RECONNECTED
    assert "10.0 s later" in last.text
    assert "waited up to 10 s for the state of a display" in last.text
    assert "kept waiting" not in too_early().migration().diagnoses[-1].text


def test_a_client_that_waits_for_a_channel_that_never_was_turns_the_next_begin_down() -> None:
    first, second = still_waiting().migrations()
    assert first.diagnoses[0].code == "never-open-at-source"
    assert second.diagnoses[0].code == "earlier-unfinished"
    assert "migration 1 is not over" in second.diagnoses[0].text


def test_a_stall_is_explained_while_it_lasts() -> None:
    tracker = SessionTracker("s1")
    play = no_verdict()
    for fact in play:
        tracker.feed(fact)
    assert not tracker.tick(play.end_ns + SECOND)
    (stalled,) = tracker.tick(play.end_ns + 4 * SECOND)
    (found,) = stalled.migration.diagnoses
    assert found.code == "verdict-missing"
    assert "in 4.0 s" in found.text
