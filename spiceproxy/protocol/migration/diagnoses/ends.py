"""Who broke it off: cancellations, deaths, channels that were closed, clients that began anew; and what nobody can explain.

Sources: spice-server reds.cpp, spice_server_migrate_end() and reds_mig_cleanup(); spice-gtk spice-session.c,
spice_session_abort_migration() and spice_session_switching_disconnect().
"""

from collections.abc import Iterator

from dissectors.side import Side
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState
from spiceproxy.protocol.migration.diagnoses.case import TOGETHER_NS, Case, Finding, listed, short
from spiceproxy.protocol.migration.model import ChannelStep, Kind, Outcome, Phase
from spiceproxy.protocol.migration.waiting import silent, unmoved
from spiceproxy.protocol.migration.wording import counted, duration


def cancelled(case: Case) -> Iterator[Finding]:
    """The source took it back."""
    cancel, reply = case.m.ending.cancel, case.m.handshake.reply_evidence
    if case.m.outcome is not Outcome.CANCELLED or cancel is None or case.m.handshake.late:
        return
    when = "before the client had replied"
    if reply is not None:
        when = f"{duration(cancel.time_ns - reply.time_ns)} after the client's {short(reply)}"
    followed = case.attempt.followed_ns
    if followed is not None and followed - cancel.time_ns < TOGETHER_NS:
        yield Finding(
            f"The source cancelled the migration {case.after_begin(cancel.time_ns)}, {when}, and began another one "
            f"{duration(followed - cancel.time_ns)} later: client_migrate_info was given again before this one had ended.",
            ["main:0"],
            [case.began, reply, cancel],
            "who issues client_migrate_info twice; what the next migration says",
        )
        return
    gone = case.gone_together(case.attempt.destination.items(), Side.SERVER)
    ended = ""
    if gone is not None and gone[0] <= cancel.time_ns:
        ended = (
            f" The destination had ended all its connections {duration(cancel.time_ns - gone[0])} before: it died, and the migration "
            "with it, or ended because the migration had been cancelled."
        )
    yield Finding(
        f"The source cancelled the migration {case.after_begin(cancel.time_ns)}, {when}.{ended} The client stays where it was.",
        ["main:0"],
        [case.began, reply, cancel],
        "query-migrate on the source: cancelled (migrate_cancel), or failed with error-desc; then the destination's log and exit "
        "status",
    )


def began_again(case: Case) -> Iterator[Finding]:
    """A second BEGIN before the first migration was over."""
    if case.m.outcome is not Outcome.FAILED or "began again" not in case.m.reason:
        return
    yield Finding(
        f"The source began another migration {case.after_begin(case.now)} without ending this one: client_migrate_info was given a "
        "second time before migrate had ended.",
        ["main:0"],
        [case.began, case.m.handshake.reply_evidence],
        "what the next migration says; who issues client_migrate_info twice",
    )


def destination_died(case: Case) -> Iterator[Finding]:
    """All of the destination's connections ended at once."""
    died, source = case.destination_died_ns, case.source_died_ns
    if died is None or (source is not None and source - died < TOGETHER_NS):
        return  # a destination without its source gives up, and its end may be seen first
    names = [name for name, each in case.attempt.destination.items() if each.linked is not None]
    reset = any(each.closing is not None and each.closing.reset for each in case.attempt.destination.values())
    last = case.last_to(case.m.destination_hop, died, from_=Side.CLIENT)
    after = (
        f", {duration(died - last.time_ns)} after {short(last)} on {last.channel}, the last it was told"
        if last
        else ""
    )
    when = case.after_word(died) if case.attempt.word_ns is not None else case.after_begin(died)
    if case.good:
        when += ", when all channels had moved; the session is lost"
    yield Finding(
        f"The destination died {when}: all its {len(names)} connections were {'reset' if reset else 'closed'} together{after}.",
        names,
        [last],
        "the destination's QEMU: its exit status and standard error, the journal, coredumpctl; if it was told something odd just "
        "before, that is what it did not survive",
    )


def source_died(case: Case) -> Iterator[Finding]:
    """All of the source's connections ended at once."""
    died = case.source_died_ns
    if died is None:
        return
    names = [name for name, each in case.attempt.source.items() if each.linked is not None]
    last = case.last_to(case.m.source_hop, died, from_=Side.CLIENT)
    after = (
        f", {duration(died - last.time_ns)} after {short(last)} on {last.channel}, the last it was told"
        if last
        else ""
    )
    when = case.after_word(died) if case.attempt.word_ns is not None else case.after_begin(died)
    other = case.destination_died_ns
    both = ""
    if other is not None and abs(other - died) < TOGETHER_NS:
        both = f" So did the destination, within {duration(abs(other - died))}, as it does when its source goes while the guest moves."
    yield Finding(
        f"The source ended all its {len(names)} connections at once {when}, before the client had left{after}: it died, or was told to "
        f"quit.{both}",
        names,
        [case.word or case.began, last],
        "whether QEMU was ended before query-migrate said completed and SPICE_MIGRATE_COMPLETED had come; else its standard error, "
        "the journal, coredumpctl",
    )


def client_left(case: Case) -> Iterator[Finding]:
    """The client closed everything itself."""
    if case.m.outcome is not Outcome.FAILED or case.m.torn or case.m.performed is Kind.SWITCH_HOST:
        return
    gone = case.gone_together(case.attempt.source.items(), Side.CLIENT)
    if gone is None:
        return
    arrived = [
        each
        for each in case.attempt.destination.values()
        if each.open or (each.linked and each.closing and each.closing.time_ns - gone[0] > TOGETHER_NS)
    ]
    if arrived:
        return
    when = case.after_word(gone[0]) if case.attempt.word_ns is not None else case.after_begin(gone[0])
    stood = {
        Phase.CONNECTING: "before it had replied",
        Phase.WAITING: "before the source had said how the migration ends",
    }.get(_phase_before(case), "while the channels changed over")
    yield Finding(
        f"The client closed its {counted(len(case.attempt.source), 'connection')} to the source {when}, {stood}, and has none to the "
        "destination: it quit, crashed, or was closed.",
        [],
        [case.word or case.began],
        "the client: its log, its exit status, a core dump; whether the user closed it",
    )


def _phase_before(case: Case) -> Phase:
    """The phase before it was over."""
    phases = [phase for phase, _at in case.m.phases if phase is not Phase.OVER]
    return phases[-1] if phases else Phase.CONNECTING


def channel_closed_at_source(case: Case) -> Iterator[Finding]:
    """One channel was closed in the middle, and others were not."""
    word, left = case.attempt.word_ns, case.attempt.source_left_ns()
    if (
        not case.stuck
        or case.m.performed is not Kind.SEAMLESS
        or word is None
        or case.source_died_ns is not None
    ):
        return
    for name, connection in case.attempt.source.items():
        closing, channel = connection.closing, case.m.channels[name]
        if (
            closing is None
            or closing.by == "capture"
            or channel.step is ChannelStep.MOVED
            or not case.whole(name)
        ):
            continue
        if closing.time_ns < word or (left is not None and left - closing.time_ns < 500 * 10**6):
            continue
        yield _closed(case, [name], case.attempt.source, "source")


def channel_closed_at_destination(case: Case) -> Iterator[Finding]:
    """The same at the destination, before the channel had come to life."""
    if not case.stuck or case.m.performed is Kind.SWITCH_HOST or case.destination_died_ns is not None:
        return
    if "data-returned-to-source" in case.found:
        return
    left = case.attempt.source_left_ns()
    quit_ = case.gone_together(case.attempt.source.items(), Side.CLIENT)
    groups: dict[str, list[str]] = {}
    for name, connection in case.attempt.destination.items():
        closing, channel = connection.closing, case.m.channels[name]
        if connection.linked is None or closing is None or closing.by == "capture" or not case.whole(name):
            continue
        if left is not None and closing.time_ns > left and not case.attempt.client_left_first():
            continue  # the session was over by then
        if (
            quit_ is not None
            and closing.by == Side.CLIENT.value
            and closing.time_ns >= quit_[0] - TOGETHER_NS
        ):
            continue  # the client closed everything
        if case.left([name], "display-dropped") and channel.first_from_destination is None:
            groups.setdefault(closing.by, []).append(name)
    for names in groups.values():
        yield _closed(case, names, case.attempt.destination, "destination")


def _closed(case: Case, names: list[str], ends: dict[str, ConnectionState], where: str) -> Finding:
    closings = [(each, name) for name in names if (each := ends[name].closing) is not None]
    closing, first = min(closings)
    channel = case.m.channels[first]
    by = "client" if closing.by == Side.CLIENT.value else where
    when = (
        case.after_word(closing.time_ns)
        if case.attempt.word_ns is not None and closing.time_ns >= case.attempt.word_ns
        else case.after_begin(closing.time_ns)
    )
    data = channel.data_to_destination
    stood = f", where {first} stood at: {channel.step}" if channel.step is not ChannelStep.MOVED else ""
    return Finding(
        f"The {by} {'reset' if closing.reset else 'closed'} {listed(names)} at the {where} {when}{stood}. Nothing that is waited "
        "for there will come.",
        names,
        [channel.migrate, channel.flush_mark, data.evidence if data is not None else None],
        f"the log of the {by} at that moment; what was said last on {first}; whether something in between cut the connection",
    )


def reconnected(case: Case) -> Iterator[Finding]:
    """SWITCH_HOST makes a new session."""
    m = case.m
    main = case.attempt.destination.get("main:0")
    if (
        m.performed is not Kind.SWITCH_HOST
        or main is None
        or main.linked is None
        or case.attempt.word_ns is None
    ):
        return
    took, relinked = m.times_ms.get("switch"), main.linked.time_ns - case.attempt.word_ns
    why = ""
    if m.handshake.verdict == "ack" and relinked > TIMEOUT_NS // 2:
        why = (
            " It was kept waiting: the destination had agreed to seamless, and waited up to 10 s for the state of a display, in "
            "which it answers nobody and its guest stands still."
        )
    whole = (
        f", which was complete after {duration(int(took * 1e6))}" if took is not None and case.good else ""
    )
    yield Finding(
        f"The client was thrown out and reconnected from scratch: it left its session at SWITCH_HOST and linked a "
        f"new one at {main.address or case.where} (connection id {main.connection_id}) "
        f"{duration(relinked)} later{whole}.{why} QMP says completed all the same.",
        ["main:0"],
        [m.ending.switch_host, m.ending.init],
        "why it came to SWITCH_HOST, above; programs that end on any trouble of main end here, and devices have to be redirected anew",
    )


def new_session_incomplete(case: Case) -> Iterator[Finding]:
    """After SWITCH_HOST main came up, and other channels did not."""
    m = case.m
    names = [name for name in (*unmoved(case.attempt), *silent(case.attempt)) if case.whole(name)]
    if m.performed is not Kind.SWITCH_HOST or m.ending.init is None or not case.stuck or not names:
        return
    yield Finding(
        f"The client's new session at {case.where} has had its MAIN_INIT for {duration(case.now - m.ending.init.time_ns)}, and "
        f"{listed(names)} never came to life in it.",
        names,
        [m.ending.switch_host, m.ending.init],
        "CHANNELS_LIST of the new session: does the destination have the same devices? The client's log with SPICE_DEBUG=1",
    )


def unexplained(case: Case) -> Iterator[Finding]:
    """Nothing else fits."""
    if not case.stuck or case.found:
        return
    blocking = case.m.blocking
    waits = "; ".join(each.text for each in case.m.waiting[:4])
    yield Finding(
        f"It {'stands still' if case.m.outcome is None else 'did not get to its end'}: {case.m.reason or waits or 'nothing is said any more'}. "
        "Nothing else in the capture says why.",
        blocking,
        [case.word or case.began],
        "the logs of source, destination and client (SPICE_DEBUG=1) at that moment; query-migrate and query-spice on both hosts",
    )
