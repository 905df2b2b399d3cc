"""What source, client and destination agreed on, and why not on more."""

from collections.abc import Sequence

from dissectors.capabilities import MainCap
from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState
from spiceproxy.protocol.migration.model import Kind
from spiceproxy.protocol.migration.wording import duration


def agreement(attempt: Attempt) -> str:
    """Why it was agreed as it was."""
    m, handshake = attempt.m, attempt.m.handshake
    if m.offered is None:
        return "what the source offered is not in the capture"
    if m.offered.kind is Kind.SWITCH_HOST:
        return m.offered.reason
    replied, word = handshake.reply_evidence, attempt.word_ns
    if replied is None or (word is not None and replied.time_ns > word):
        return _no_reply(attempt)
    if handshake.reply == "connect-error":
        return f"CONNECT_ERROR: {_why_no_connection(attempt)}"
    if handshake.late:
        return "the client replied later than 10 s after BEGIN"
    if m.agreed is Kind.SEAMLESS:
        return (
            f"the destination acknowledged version {handshake.version}"
            if handshake.verdict == "ack"
            else ("the client said CONNECTED_SEAMLESS without an ACK of the destination")
        )
    if m.offered.kind is Kind.SEMI_SEAMLESS:
        return m.offered.reason
    if handshake.verdict == "nack":
        return f"NACK: the destination does not take version {handshake.version}"
    main = attempt.destination.get("main:0") or attempt.tried.get("main:0")
    if main is not None and main.linked and not main.server_caps.has_main(MainCap.SEAMLESS_MIGRATE):
        return "the destination lacks the capability SEAMLESS_MIGRATE"
    return (
        "the client did not ask the destination for seamless"
        if handshake.do_seamless is None
        else (
            "the client said CONNECTED although the destination had acknowledged"
            if handshake.verdict == "ack"
            else "the destination did not answer DO_SEAMLESS"
        )
    )


def _no_reply(attempt: Attempt) -> str:
    m = attempt.m
    waited = (attempt.word_ns if attempt.word_ns is not None else attempt.progress_ns) - m.started_ns
    if attempt.word_ns is not None and waited < TIMEOUT_NS:
        late = m.handshake.reply_evidence
        later = f"; its reply came {duration(late.time_ns - attempt.word_ns)} later" if late else ""
        return f"the source ended it {duration(waited)} after BEGIN, before the client had replied{later}"
    if attempt.word_ns is not None:
        return "timeout: the client did not reply within 10 s"
    return "the client has not replied"


def _why_no_connection(attempt: Attempt) -> str:
    tried = attempt.tried if attempt.m.performed is Kind.SWITCH_HOST else attempt.destination
    failed = [each for each in tried.values() if each.failed is not None]
    if failed and failed[0].failed is not None:
        return f"{failed[0].channel or 'a connection'} was not linked at the destination: {failed[0].failed.reason}"
    linked = [each for each in tried.values() if each.linked is not None]
    where = attempt.announced or "the destination"
    if not linked and attempt.unfinished is not None:
        # spice-gtk, spice_session_set_migration_session(): one migration at a time.
        return f"the client did not try: it has not finished migration {attempt.unfinished}"
    if not linked:
        return f"no link to {where} is there; nobody listens, or it was dialled in another way (TLS, another address)"
    missing = [n for n, c in attempt.source.items() if c.linked and n not in tried]
    return f"{', '.join(missing) or 'some channel'} did not come up at {where}"


def offer_reason(offered: Kind, main: ConnectionState | None, owed: Sequence[str] = ()) -> str:
    """Why the source did not offer more than it did."""
    if offered is Kind.SEAMLESS or main is None or main.linked is None:
        return ""
    caps = main.client_caps
    lacking = [
        bit.name
        for bit in (MainCap.SEMI_SEAMLESS_MIGRATE, MainCap.AGENT_CONNECTED_TOKENS, MainCap.SEAMLESS_MIGRATE)
        if not caps.has_main(bit)
    ]
    if offered is Kind.SWITCH_HOST:
        if MainCap.SEMI_SEAMLESS_MIGRATE.name in lacking:
            return "the client lacks the capability SEMI_SEAMLESS_MIGRATE"
        if owed:
            return (
                f"BEGIN was put off: the source still waits for MIGRATE_DATA of {', '.join(owed)} from the migration that "
                "brought the client here"
            )
        return "SWITCH_HOST came without BEGIN, though the client could have connected beforehand"
    if lacking:
        return f"the client lacks the capability {' and '.join(lacking)}"
    return "the source did not offer seamless: its seamless-migration option is off"
