"""Why less than seamless was agreed, or something that does not fit together.

Sources: spice-server reds.cpp, reds_on_migrate_dst_set_seamless(); red-client.cpp, semi_seamless_migrate_complete();
main-channel-client.cpp, handle_migrate_connected(); spice-gtk channel-main.c, spice_main_channel_send_migration_handshake().
"""

from collections.abc import Iterator
from typing import Final

from dissectors.capabilities import MainCap
from dissectors.side import Side
from spiceproxy.protocol.migration.diagnoses.case import Case, Finding, listed, short
from spiceproxy.protocol.migration.model import Kind
from spiceproxy.protocol.migration.wording import duration

MIGRATION_PROTOCOL: Final = 1  # SPICE_MIGRATION_PROTOCOL_VERSION up to spice-server 0.15
SOON_NS: Final = 10**9  # what kills a server does so within milliseconds


def nack(case: Case) -> Iterator[Finding]:
    """The destination declined."""
    handshake, offer = case.m.handshake, case.m.offered
    verdict, asked = handshake.verdict_evidence, handshake.do_seamless
    if handshake.verdict != "nack" or verdict is None:
        return
    after = f" {duration(verdict.time_ns - asked.time_ns)} after DO_SEAMLESS" if asked else ""
    version = handshake.version
    offered = offer.version if offer is not None else None
    if version is not None and offered is not None and version != offered:
        why = f"the client asked with version {version}, though the source had offered {offered}: it was changed on the way"
    elif version is not None and version > MIGRATION_PROTOCOL:
        why = (
            f"the source migrates with version {version}, and up to 0.15 spice-server reads only {MIGRATION_PROTOCOL}: the source "
            "is newer than the destination, or the number was changed on the way"
        )
    else:
        why = (
            f"version {version} is one that every spice-server reads, so that the reason is another: several clients allowed "
            "there (SPICE_DEBUG_ALLOW_MC), or an answer that was changed on the way"
        )
    yield Finding(
        f"The destination answered NACK{after}: {why}. The migration can be semi-seamless at best.",
        ["main:0"],
        [offer.evidence if offer else None, asked, verdict],
        "the versions of spice-server on both hosts (the newer one should be the destination), and the destination's log",
    )


def destination_lacks_capability(case: Case) -> Iterator[Finding]:
    """The destination did not announce that it can do seamless."""
    offer, main = case.m.offered, case.before_the_word.get("main:0")
    if offer is None or offer.kind is not Kind.SEAMLESS or main is None or main.linked is None:
        return
    if case.m.handshake.do_seamless is None and not main.server_caps.has_main(MainCap.SEAMLESS_MIGRATE):
        yield Finding(
            f"The destination {main.address or case.where} did not announce SEAMLESS_MIGRATE in its link reply, so the client "
            "did not ask it, and the migration can be semi-seamless at best.",
            ["main:0"],
            [offer.evidence, case.m.handshake.reply_evidence],
            "the version of the destination's spice-server, and whether something in between changed its link reply "
            "(spiceproxy read shows server_caps of channel_linked)",
        )


def client_did_not_ask(case: Case) -> Iterator[Finding]:
    """Both servers could, and no DO_SEAMLESS."""
    offer, main, handshake = case.m.offered, case.before_the_word.get("main:0"), case.m.handshake
    if offer is None or offer.kind is not Kind.SEAMLESS or main is None or main.linked is None:
        return
    if handshake.reply != "connected" or handshake.do_seamless is not None or not case.whole("main:0"):
        return
    if main.server_caps.has_main(MainCap.SEAMLESS_MIGRATE) and main.books.unread is False:
        yield Finding(
            "The source offered seamless and the destination announced that it can, but no DO_SEAMLESS of the client reached it: "
            "the client said CONNECTED instead.",
            ["main:0"],
            [offer.evidence, handshake.verdict_evidence, handshake.reply_evidence],
            "whether DO_SEAMLESS was lost on the way to the destination; else the client's log with SPICE_DEBUG=1",
        )


def verdict_missing(case: Case) -> Iterator[Finding]:
    """DO_SEAMLESS, and neither ACK nor NACK."""
    handshake = case.m.handshake
    asked = handshake.do_seamless
    if asked is None or handshake.verdict is not None or case.answered or not case.whole("main:0"):
        return
    if "too-early-migrate" in case.found or not (case.stuck or case.word is not None):
        return
    yield Finding(
        f"The destination has not answered DO_SEAMLESS (version {handshake.version}) in {duration(case.now - asked.time_ns)}: "
        "without ACK or NACK the client waits without limit, and while it does it reads nothing that the source says on main.",
        ["main:0"],
        [case.began, asked, case.word],
        "whether ACK or NACK was lost on the way; whether the destination's QEMU hangs (QMP there); restart the client: it does "
        "not recover by itself",
    )


def connected_without_ack(case: Case) -> Iterator[Finding]:
    """CONNECTED_SEAMLESS, which only an ACK allows."""
    handshake = case.m.handshake
    if handshake.reply != "connected-seamless" or handshake.verdict == "ack" or not case.whole("main:0"):
        return
    main = case.before_the_word.get("main:0")
    if main is None or main.books.unread:
        return
    said = "NACK" if handshake.verdict == "nack" else "nothing"
    yield Finding(
        f"The client said CONNECTED_SEAMLESS, though the destination said {said}: the source will send MIGRATE with state to a "
        "destination that expects none, which refuses it and drops the client.",
        ["main:0"],
        [handshake.do_seamless, handshake.verdict_evidence, handshake.reply_evidence],
        "whether an answer of the destination, or the client's reply, was changed or made up on the way",
    )


def destination_already_seamless(case: Case) -> Iterator[Finding]:
    """The destination had agreed to seamless, and the client comes without state: QEMU aborts."""
    handshake, client_end = case.m.handshake, case.m.ending.client_end
    early = [
        name
        for name, channel in case.m.channels.items()
        if channel.early_from_destination and name != "main:0"
    ]
    ack = handshake.verdict == "ack"
    if handshake.reply != "connected" or handshake.do_seamless is None or not (ack or early):
        return
    died = case.destination_died_ns
    soon = died is not None and client_end is not None and 0 <= died - client_end.time_ns <= SOON_NS
    if not (ack or soon):
        return
    how = (
        "though the destination had said ACK"
        if ack
        else f"for it had heard NACK; but {listed(early)} spoke at the destination before the switch, as only after an ACK"
    )
    end = ""
    if died is not None and client_end is not None and soon:
        end = (
            f" The client's MIGRATE_END then killed the destination: all its connections ended "
            f"{duration(died - client_end.time_ns)} later."
        )
    yield Finding(
        f"The client said CONNECTED, without seamless, {how}: the destination expects state on every channel.{end}",
        ["main:0"],
        [handshake.do_seamless, handshake.verdict_evidence, handshake.reply_evidence, client_end],
        "whether ACK, NACK or the client's reply was changed on the way; the destination's log should say "
        '"semi_seamless_migrate_complete: unexpected", and its guest is lost: look for a core dump',
    )


def second_reply(case: Case) -> Iterator[Finding]:
    """More than one reply to a BEGIN."""
    handshake = case.m.handshake
    extra, first = handshake.extra_replies, handshake.reply_evidence
    if not extra or first is None:
        return
    cancel = case.m.ending.cancel
    drew = cancel is not None and cancel.time_ns >= extra[0].time_ns
    effect = (
        " The source answered with CANCEL, for it was no longer waiting for one: the client drops the destination while the "
        "source carries on."
        if drew
        else ""
    )
    yield Finding(
        f"A second reply, {short(extra[0])}, reached the source {duration(extra[0].time_ns - first.time_ns)} after "
        f"{short(first)}.{effect}",
        ["main:0"],
        [first, *extra, cancel],
        "whether something in between made the second one up or held the first one back",
    )


def client_ignored_end(case: Case) -> Iterator[Finding]:
    """MIGRATE_END of the source, and none of the client."""
    end = case.m.ending.end
    if case.m.performed is not Kind.SEMI_SEAMLESS or end is None or case.m.ending.client_end is not None:
        return
    main = case.attempt.destination.get("main:0")
    if not case.stuck or not case.whole("main:0") or "source-lacks-capability" in case.found:
        return
    closed = main.closing if main is not None else None
    gone = closed is not None and closed.by == Side.CLIENT.value and closed.time_ns <= end.time_ns
    why = (
        " It had closed its connections to the destination before: it took the migration for cancelled."
        if gone
        else ""
    )
    yield Finding(
        f"The source said MIGRATE_END {case.after_begin(end.time_ns)}, and the client has not gone over: the destination waits "
        f"for its MIGRATE_END on main.{why}",
        ["main:0"],
        [case.m.handshake.reply_evidence, end],
        "whether MIGRATE_END reached the client; its log with SPICE_DEBUG=1; without the client the destination shows the guest "
        "to nobody: connect anew",
    )


def client_ignored_switch_host(case: Case) -> Iterator[Finding]:
    """SWITCH_HOST, and a client that stays."""
    word, m = case.attempt.word_ns, case.m
    if m.performed is not Kind.SWITCH_HOST or word is None or not case.stuck or not case.whole("main:0"):
        return
    if case.attempt.destination or case.attempt.source_left_ns() is not None:
        return
    yield Finding(
        f"The source said SWITCH_HOST {duration(case.now - word)} ago, and the client has neither left it nor gone to {case.where}.",
        ["main:0"],
        [m.handshake.reply_evidence, m.ending.switch_host],
        "whether SWITCH_HOST reached the client; whether the client is still busy with connecting, and does not read what the "
        "source says on main: then only a new start of it helps",
    )


def init_missing(case: Case) -> Iterator[Finding]:
    """The client came over, and the destination does not begin."""
    client_end, m = case.m.ending.client_end, case.m
    if (
        m.performed is Kind.SEAMLESS
        or m.ending.init is not None
        or not case.stuck
        or not case.whole("main:0")
    ):
        return
    main = case.attempt.destination.get("main:0")
    since = client_end.time_ns if client_end is not None else None
    if m.performed is Kind.SWITCH_HOST and main is not None and main.linked is not None:
        since = main.linked.time_ns
    if since is None or case.destination_died_ns is not None:
        return
    said = "the client's MIGRATE_END" if client_end is not None else "the new link of main"
    yield Finding(
        f"The destination has not sent MAIN_INIT in {duration(case.now - since)} after {said}: no channel begins before it.",
        ["main:0"],
        [m.ending.end, client_end, m.ending.switch_host],
        "whether the destination took the client for one that migrates (its log), and whether its QEMU hangs: QMP there",
    )
