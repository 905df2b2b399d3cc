"""Why the client did not get to the destination ahead of the switch: haste, silence, and deadlines.

Sources: spice-server reds.cpp, migrate_timeout(); main-channel-client.cpp, handle_migrate_connected(); spice-gtk channel-main.c, main_migrate_connect().
"""

from collections.abc import Iterator
from typing import Final

from dissectors.capabilities import MainCap
from spiceproxy.protocol.migration.connections import TIMEOUT_NS
from spiceproxy.protocol.migration.diagnoses.case import PATIENCE_NS, Case, Finding, listed, short
from spiceproxy.protocol.migration.diagnoses.refusals import REFUSALS, SILENT_NS, was_silent, was_unreached
from spiceproxy.protocol.migration.model import Kind, Outcome
from spiceproxy.protocol.migration.waiting import kept_from_reading
from spiceproxy.protocol.migration.wording import duration


def too_early_migrate(case: Case) -> Iterator[Finding]:
    """The source ended the migration before the client could have answered."""
    offer, word, ns = case.m.offered, case.word, case.attempt.word_ns
    if case.began is None or word is None or ns is None or case.answered or offer is None:
        return
    if case.m.performed is not Kind.SWITCH_HOST or not case.whole("main:0"):
        return  # without its reply in the capture it may well have answered
    waited = ns - case.m.started_ns
    if waited >= PATIENCE_NS or not _still_connecting(case):
        return
    reply = case.m.handshake.reply_evidence
    came = f" (its {short(reply)} came {duration(reply.time_ns - ns)} later)" if reply else ""
    main = case.attempt.tried.get("main:0") or case.attempt.destination.get("main:0")
    able = case.m.handshake.verdict == "ack" or (
        main is not None and main.server_caps.has_main(MainCap.SEAMLESS_MIGRATE)
    )
    although = " although both sides could do seamless" if able and offer.kind is Kind.SEAMLESS else ""
    text = (
        f"Switch-host{although}: the source sent {short(word)} {duration(waited)} after "
        f"{case.begin_name}, before the client had answered{came}. `migrate` was issued too soon after "
        "`client_migrate_info`."
    )
    yield Finding(
        text,
        ["main:0"],
        [case.began, word, reply, case.m.ending.cancel],
        "wait between client_migrate_info and migrate until the client is connected to the destination: query-spice there "
        "lists its channels; on a fast network a second is enough",
    )


def _still_connecting(case: Case) -> bool:
    """Whether the client was at it, or could have been: a link that was refused or silent has another cause."""
    tried = case.before_the_word
    return not any(each.failed is not None and not each.failed.opaque for each in tried.values())


def earlier_unfinished(case: Case) -> Iterator[Finding]:
    """A client that is not through with one migration turns the next down."""
    reply = case.m.handshake.reply_evidence
    if (
        not case.attempt.unfinished
        or case.m.handshake.reply != "connect-error"
        or reply is None
        or case.before_the_word
    ):
        return
    if case.whole("main:0"):
        yield Finding(
            f"The client answered CONNECT_ERROR {case.after_begin(reply.time_ns)} without connecting to {case.where}: for it "
            f"migration {case.attempt.unfinished} is not over, and it cannot begin another.",
            ["main:0"],
            [case.began, reply],
            f"what is said of migration {case.attempt.unfinished}; until the client is started anew it turns every BEGIN down, also in the session that SWITCH_HOST gives it",
        )


_TLS: Final = ": TLS: "  # in the reason that the proxy gives (spiceproxy/tls/stream.py, TlsError)
_REACH: Final = (
    "from the client's machine, not from the source: does the name in client_migrate_info resolve, and does something "
    "listen (nc -vz HOST PORT)? Compare with addr, port and tls-port of the destination's -spice option, and with firewalls"
)
_CERTIFICATE: Final = (
    "what the destination shows (openssl s_client -connect HOST:TLS-PORT -showcerts): cert-subject in client_migrate_info has to be "
    "its subject, entry for entry, or without one it has to be of the host; and it has to come from a CA that --server-ca names, and be valid now"
)


def destination_unreachable(case: Case) -> Iterator[Finding]:
    """No connection of the client to the destination is there at all."""
    handshake, m = case.m.handshake, case.m
    tried = [each for each in case.before_the_word.values() if not was_unreached(each)]
    reply = handshake.reply_evidence
    refused = handshake.reply == "connect-error" and not tried
    new = [each for each in case.attempt.destination.values() if not was_unreached(each)]
    left = case.attempt.source_left_ns() is not None
    lost = (
        m.performed is Kind.SWITCH_HOST
        and case.stuck
        and not new
        and left
        and not kept_from_reading(case.attempt)
    )
    if not (refused or lost) or not case.whole("main:0"):
        return
    answered = ""
    why = "nobody listens there, or the way to it is closed"
    if refused and reply is not None:
        took = reply.time_ns - m.started_ns
        answered = f"it answered CONNECT_ERROR {duration(took)} after {case.begin_name}, and "
        why = (
            "after so long it has given up on packets that nobody answers"
            if took >= PATIENCE_NS
            else "it was turned away at once: nobody listens there, or it could not find the host"
        )
    told = [
        each.failed.reason
        for _, each in case.at_destination
        if each.failed is not None and was_unreached(each)
    ]
    why = f"{told[0]}" if told else f"no connection of it is there: {why}"
    end = (
        " After SWITCH_HOST it left the source for the same place, and the session was lost." if lost else ""
    )
    yield Finding(
        f"The client could not reach {case.where}: {answered}{why}.{end}",
        ["main:0"],
        [case.began, reply, m.ending.switch_host],
        _CERTIFICATE if _TLS in why else _REACH,
    )


def destination_silent(case: Case) -> Iterator[Finding]:
    """The destination accepted the connection, and the link does not come."""
    if case.answered and case.m.handshake.reply != "connect-error":
        return
    silent = []
    for name, each in case.at_destination:
        waits = each.linked is None and each.failed is None and each.opened_ns is not None
        if case.whole(name) and (
            (waits and case.now - (each.opened_ns or 0) >= SILENT_NS) or was_silent(each)
        ):
            silent.append((name, each))
    if not silent or not (case.stuck or case.word is not None or case.m.handshake.reply):
        return
    names = [name for name, _ in silent]
    first = silent[0][1]
    until = first.failed.time_ns if first.failed is not None else case.now
    yield Finding(
        f"{first.address or case.where} accepted the connection of {listed(names)} and has not finished the link in "
        f"{duration(until - (first.opened_ns or until))}: the client waits, and while it does it reads nothing that the source "
        "says on main.",
        names,
        [case.began, case.word],
        "whether the destination's QEMU hangs or is stopped (its main loop serves SPICE): QMP there, gdb, strace; whether what "
        "listens at that port is SPICE at all; a firewall or forwarder that accepts and goes no further",
    )


def client_never_connected(case: Case) -> Iterator[Finding]:
    """The client neither connects nor says that it cannot."""
    if not case.connecting or case.at_destination or not case.whole("main:0") or case.m.handshake.reply:
        return
    waited = (case.attempt.word_ns or case.now) - case.m.started_ns
    if waited >= SILENT_NS and (case.stuck or case.word is not None):
        yield Finding(
            f"In {duration(waited)} after {case.begin_name} the client neither connected to {case.where} nor said that it could "
            "not: it is waiting for its own connection, or does not handle the message.",
            ["main:0"],
            [case.began, case.word],
            "the client: does it run (is it stopped, or busy)? Its log with SPICE_DEBUG=1; a firewall that drops packets to the "
            "destination makes it wait up to 10 s",
        )


def channel_not_linked(case: Case) -> Iterator[Finding]:
    """Main got there, other channels did not, and no refusal is known."""
    main = case.before_the_word.get("main:0")
    connect_error = case.m.handshake.reply == "connect-error"
    if main is None or main.linked is None or not (connect_error or (case.connecting and case.stuck)):
        return
    missing = [
        name
        for name, each in case.attempt.source.items()
        if each.linked is not None and name not in case.before_the_word and case.whole(name)
    ]
    missing = case.left(missing, "destination-lacks-channel")
    if missing and not case.found.keys() & {
        *REFUSALS,
        "link-broken",
        "destination-silent",
        "verdict-missing",
    }:
        yield Finding(
            f"{listed(missing)} never came up at the destination, though main did: one channel that fails makes the client give "
            f"up on all{case.consequence}.",
            missing,
            [case.began, case.m.handshake.reply_evidence],
            "the client's log with SPICE_DEBUG=1 around the migration, and the devices of both hosts",
        )


def connect_error_unfounded(case: Case) -> Iterator[Finding]:
    """CONNECT_ERROR, though everything was linked."""
    reply, tried = case.m.handshake.reply_evidence, case.before_the_word
    if case.m.handshake.reply != "connect-error" or reply is None or not case.whole(*case.attempt.source):
        return
    linked = [
        each for each in tried.values() if each.linked is not None and each.linked.time_ns <= reply.time_ns
    ]
    expected = [each for each in case.attempt.source.values() if each.linked is not None]
    if not linked or len(linked) < len(expected) or any(each.failed for each in tried.values()):
        return
    yield Finding(
        f"CONNECT_ERROR reached the source {case.after_begin(reply.time_ns)}, though all {len(linked)} channels had been linked "
        "at the destination and nothing had failed.",
        ["main:0"],
        [case.began, case.m.handshake.verdict_evidence, reply],
        "whether something in between changed the client's reply; the client's log with SPICE_DEBUG=1; and, if an earlier "
        "attempt was cancelled, whether the client heard of that: one that still holds it answers CONNECT_ERROR to the next BEGIN",
    )


def reply_missing(case: Case) -> Iterator[Finding]:
    """All is linked, and the source hears nothing."""
    if not case.connecting or case.m.handshake.reply or not case.whole("main:0", *case.attempt.source):
        return
    tried, expected = (
        case.before_the_word,
        [n for n, c in case.attempt.source.items() if c.linked is not None],
    )
    linked = [
        each.linked.time_ns
        for n in expected
        if (each := tried.get(n)) is not None and each.linked is not None
    ]
    asked = case.m.handshake.do_seamless is not None and case.m.handshake.verdict is None
    if not linked or len(linked) < len(expected) or asked:
        return
    waited = (case.attempt.word_ns or case.now) - max(linked)
    if waited >= SILENT_NS and (case.stuck or case.word is not None):
        yield Finding(
            f"All {len(linked)} channels were linked at the destination {case.after_begin(max(linked))}, but CONNECTED or "
            f"CONNECTED_SEAMLESS did not reach the source in {duration(waited)} after that.",
            ["main:0"],
            [case.began, case.m.handshake.verdict_evidence, case.word],
            "whether the client's reply was held up or lost on the way to the source; else the client's log with SPICE_DEBUG=1",
        )


def source_stopped_waiting(case: Case) -> Iterator[Finding]:
    """The source's own deadline passed."""
    waited = (case.attempt.word_ns or case.now) - case.m.started_ns
    if not case.connecting or case.m.handshake.late or waited < TIMEOUT_NS:
        return
    if case.m.outcome in {Outcome.CANCELLED, Outcome.INCOMPLETE} or not case.whole("main:0"):
        return
    then = (
        f"and sent SWITCH_HOST {duration(waited)} after {case.begin_name}, when its guest had moved"
        if case.m.performed is Kind.SWITCH_HOST
        else "and will end the migration with SWITCH_HOST when its guest has moved"
    )
    yield Finding(
        f"The client did not answer within 10 s: the source stopped waiting then, without a word, {then}.",
        ["main:0"],
        [case.began, case.word],
        "what kept the client from answering, above; until it has answered, migrate should not be issued",
    )


def late_reply(case: Case) -> Iterator[Finding]:
    """The client was connected, but the source no longer waited."""
    reply, cancel = case.m.handshake.reply_evidence, case.m.ending.cancel
    if not case.m.handshake.late or reply is None or case.m.handshake.reply == "connect-error":
        return
    drew = f", which answered with CANCEL{_and_then(case)}" if cancel is not None else ""
    yield Finding(
        f"{short(reply)} reached the source {case.after_begin(reply.time_ns)}, more than the 10 s that it waits{drew}.",
        ["main:0"],
        [case.began, reply, cancel, case.m.ending.switch_host],
        "which link took so long: the times of the channels at the destination; a slow name lookup, a slow network, a "
        "destination that is busy with the incoming guest",
    )


def _and_then(case: Case) -> str:
    return ", and later sent SWITCH_HOST" if case.m.ending.switch_host is not None else ""


def zero_connection_id(case: Case) -> Iterator[Finding]:
    """A link to the destination that does not name the session makes a new one there."""
    for name, each in case.before_the_word.items():
        if case.began is None or not each.is_main or each.linked is None or each.connection_id != 0:
            continue
        init = [each.init] if each.init is not None else []
        yield Finding(
            "The client linked main at the destination with connection id 0, as for a new session: the destination starts one "
            f"and does not take the client for one that migrates (the session's id is {case.m.session_id}).",
            [name],
            [case.began, *init],
            "whether something in between changed the id in the client's link message; a destination that gets DO_SEAMLESS on "
            "such a link aborts (assertion during_target_migrate in its log)",
        )
