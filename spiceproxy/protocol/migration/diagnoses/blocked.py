"""Channels that hold the whole migration up: one diagnosis for each thing that somebody may wait for in the switch.

Sources: spice-gtk spice-channel.c, spice_channel_handle_migrate(); channel-main.c, migrate_channel_connect(); spice-server
red-channel-client.cpp, handle_migrate_flush_mark() and migrate(); reds.cpp, reds_mig_finished().
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from dissectors.side import Side
from spiceproxy.protocol.migration.diagnoses.case import (
    PATIENCE_NS,
    Case,
    Finder,
    Finding,
    listed,
    short,
)
from spiceproxy.protocol.migration.model import ChannelMigration, ChannelStep, Evidence, Kind, Phase
from spiceproxy.protocol.migration.waiting import never_at_source, silent, unmoved
from spiceproxy.protocol.migration.wording import counted, duration

# Diagnoses that say why a channel is stuck; a mere "waits for" is not said of the channels that they name.
CAUSES: Final = (
    "migrate-twice", "message-before-data", "unusual-flags", "data-returned-to-source", "unasked-flush-mark",
    "flush-mark-twice", "channel-closed-at-source", "channel-closed-at-destination", "display-dropped",
    "destination-died", "source-died", "bad-migrate-data", "data-of-another-channel", "destination-already-seamless",
    "connected-without-ack",
)  # fmt: skip


class _Stop(NamedTuple):
    step: ChannelStep
    text: str  # of the channels {on}, since {since}
    next: str


STOPS: Final[dict[str, _Stop]] = {
    "migrate-missing": _Stop(
        ChannelStep.STAYING,
        "The source never sent MIGRATE on {on}, though it did on {others}: the client has waited for it for {time}, and leaves the "
        "source only when every channel has changed over",
        "whether MIGRATE was lost on the way to the client; whether the source still had that channel open (query-spice "
        "before the migration); the client's log with SPICE_DEBUG=1",
    ),
    "flush-mark-missing": _Stop(
        ChannelStep.FLUSHING,
        "No FLUSH_MARK of the client answered MIGRATE on {on}: the source has waited for it for {time}, and sends no MIGRATE_DATA "
        "before it has come",
        "whether FLUSH_MARK was lost on the way to the source; whether the client hangs (its main loop is busy or stopped): "
        "its log with SPICE_DEBUG=1",
    ),
    "data-missing": _Stop(
        ChannelStep.UNLOADING,
        "The source never sent MIGRATE_DATA on {on}, though it got the FLUSH_MARK: the client has waited for it for {time}",
        "whether MIGRATE_DATA was lost on the way to the client, or FLUSH_MARK on the way to the source; the source's log; "
        "whether its QEMU still runs",
    ),
    "data-not-delivered": _Stop(
        ChannelStep.CARRYING,
        "The client got MIGRATE_DATA of {on} from the source, and it never reached the destination, which has waited "
        "for it for {time}, and does not let that channel begin",
        'whether MIGRATE_DATA was lost on the way to the destination; the client\'s log ("expected MIGRATE_DATA, got"); while '
        "a display's is owed the destination's guest stands still, up to 10 s",
    ),
}
"""By code: where a channel stands, and what that means."""


def stop(code: str) -> Finder:
    """A finder for channels that stand where they should not stay."""
    row = STOPS[code]

    def find(case: Case) -> Iterator[Finding]:
        if not case.stuck or case.m.performed is not Kind.SEAMLESS or case.somebody_died:
            return
        names = [
            name
            for name in case.left(unmoved(case.attempt), *CAUSES)
            if case.m.channels[name].step is row.step and case.whole(name)
        ]
        if not names:
            return
        channels = [case.m.channels[name] for name in names]
        word = case.attempt.word_ns or case.m.started_ns
        since = min(word if row.step is ChannelStep.STAYING else channel.step_ns for channel in channels)
        others = [name for name, each in case.m.channels.items() if each.migrate is not None]
        text = row.text.format(
            on=listed(names), others=counted(len(others), "other"), time=duration(_until(case) - since)
        )
        yield Finding(f"{text}.", names, _steps(case, channels), row.next)

    return find


def _until(case: Case) -> int:
    """Up to when a channel had waited: till the end of its connections, or till now."""
    gone = case.attempt.source_left_ns()
    return min(case.now, gone) if gone is not None and gone > (case.attempt.word_ns or 0) else case.now


def _steps(case: Case, channels: list[ChannelMigration]) -> list[Evidence | None]:
    """The last words of each channel before it stood still."""
    found: list[Evidence | None] = []
    for channel in channels:
        data = channel.data_from_source
        last = data.evidence if data is not None else channel.flush_mark or channel.migrate
        found.append(last or case.word)
    return list(dict.fromkeys(found))


def never_open_at_source(case: Case) -> Iterator[Finding]:
    """The client waits for the MIGRATE of a channel that the source never had."""
    m = case.m
    if m.performed is not Kind.SEAMLESS or m.damaged or m.offered is None or not case.stuck:
        return
    extra = never_at_source(case.attempt)
    if not extra:
        return
    all_else = " All other channels have moved." if not unmoved(case.attempt) else ""
    webdav = any(name.startswith("webdav") for name in extra)
    yield Finding(
        f"The client linked {listed(extra)} at the destination, though it never had it open at the source. It waits for a MIGRATE "
        f"there that cannot come, and does not leave the source.{all_else}",
        extra,
        [case.m.handshake.reply_evidence, case.word],
        (
            "spice-gtk up to 0.42 connects every channel that it knows of when a migration begins, also one that it opens only "
            "on demand"
        )
        + (
            ": remote-viewer with webdav, until a folder is shared. Share one before migrating, or take the webdav port away "
            "from both hosts"
            if webdav
            else ": have it opened before the migration, or take the device away from both hosts"
        ),
    )


def silent_after_switch(case: Case) -> Iterator[Finding]:
    """All has moved, and the destination does not speak."""
    stopped = set().union(*(case.found.get(code, set()) for code in (*STOPS, "display-dropped")))
    if case.somebody_died or any(name.startswith("display") for name in stopped):
        return  # a destination that waits for the state of a display says nothing on any channel
    if (
        case.m.performed is Kind.SWITCH_HOST
        or not case.stuck
        or case.m.phase in {Phase.CONNECTING, Phase.WAITING}
    ):
        return
    names = [name for name in silent(case.attempt) if case.whole(name)]
    if not names:
        return
    since = min(case.m.channels[name].step_ns for name in names)
    payloads = [case.m.channels[name].data_to_destination for name in names]
    yield Finding(
        f"{listed(names)} changed over to the destination, which has said nothing on it in {duration(case.now - since)}: the "
        "client shows nothing new until it does.",
        names,
        [*(each.evidence for each in payloads if each is not None), case.m.ending.init],
        "whether the destination's guest runs (query-status, query-migrate there) and its QEMU answers at all; its log",
    )


def client_never_left(case: Case) -> Iterator[Finding]:
    """Everything moved, and the client stays at the source until that loses patience."""
    m, attempt = case.m, case.attempt
    if m.performed is not Kind.SEAMLESS or not case.stuck or unmoved(attempt) or m.damaged:
        return
    if "never-open-at-source" in case.found or silent(attempt):
        return
    left, word = attempt.source_left_ns(), attempt.word_ns
    until = left if left is not None else case.now
    if word is None or (left and attempt.client_left_first()) or until - word < PATIENCE_NS // 2:
        return
    so = f", which dropped it {case.after_word(left)}" if left is not None else ""
    yield Finding(
        f"All {len(attempt.expected)} channels have moved, but the client never left the source{so}: it does not know that it is "
        "through, or waits for a channel that is not in the capture.",
        list(attempt.expected)[:1],
        [case.word],
        'the client\'s log with SPICE_DEBUG=1 ("migration finished" is missing there); query-spice at the source',
    )


def migrate_twice(case: Case) -> Iterator[Finding]:
    """A second MIGRATE is taken for a wrong MIGRATE_DATA."""
    yield from _repeated(
        case,
        "SPICE_MSG_MIGRATE",
        "MIGRATE came {times} on {on}. The client takes the second one for a wrong MIGRATE_DATA, does not change over, and has "
        "no use for the real one.",
        'whether something in between doubled the message; the client\'s log says "expected MIGRATE_DATA, got 1"',
    )


def flush_mark_twice(case: Case) -> Iterator[Finding]:
    """A second FLUSH_MARK kills the source."""
    yield from _repeated(
        case,
        "SPICE_MSGC_MIGRATE_FLUSH_MARK",
        "FLUSH_MARK came {times} on {on}. spice-server expects one, and aborts at the second.{died}",
        'whether something in between doubled the message; the source\'s log says "unexpected flush mark"',
    )


def data_twice(case: Case) -> Iterator[Finding]:
    """A second MIGRATE_DATA makes the destination drop the channel."""
    for name, leg in (
        ("SPICE_MSG_MIGRATE_DATA", "from the source"),
        ("SPICE_MSGC_MIGRATE_DATA", "to the destination"),
    ):
        yield from _repeated(
            case,
            name,
            "MIGRATE_DATA came {times} on {on}, "
            + leg
            + ". Only the first one is expected; spice-server answers a second "
            "by closing the channel, and on main that loses the client.",
            'whether something in between doubled the message; the destination\'s log says "unexpected"',
        )


def _repeated(case: Case, message: str, text: str, next_: str) -> Iterator[Finding]:
    channels = {
        name: again
        for name, each in case.m.channels.items()
        if (again := [said for said in each.crossing.repeated if said.name == message])
    }
    if channels:
        most = max(len(again) for again in channels.values()) + 1
        yield Finding(
            text.format(
                times="twice" if most == 2 else f"{most} times",
                on=listed(list(channels)),
                died=_source_died(case),
            ),
            list(channels),
            [said for again in channels.values() for said in again],
            next_,
        )


def _source_died(case: Case) -> str:
    died = case.source_died_ns
    return f" All its connections ended {case.after_begin(died)}." if died is not None else ""


def unasked_flush_mark(case: Case) -> Iterator[Finding]:
    """FLUSH_MARK without a MIGRATE that asks for one kills the source."""
    channels = {
        name: said
        for name, each in case.m.channels.items()
        if (said := [one for one in each.crossing.unasked if "FLUSH_MARK" in one.name]) and case.whole(name)
    }
    if channels:
        why = [
            f"its MIGRATE had flags {case.m.channels[name].flags}"
            if case.m.channels[name].migrate is not None
            else "there was no MIGRATE"
            for name in channels
        ]
        yield Finding(
            f"FLUSH_MARK came on {listed(list(channels))} unasked ({', '.join(dict.fromkeys(why))}). spice-server aborts at "
            f"that.{_source_died(case)}",
            list(channels),
            [one for said in channels.values() for one in said],
            "whether something in between made up MIGRATE or FLUSH_MARK, or changed the flags; the source's log says "
            '"unexpected flush mark"',
        )


def message_before_data(case: Case) -> Iterator[Finding]:
    """After MIGRATE the client takes whatever comes for MIGRATE_DATA."""
    for channel in case.seamless_channels:
        other = channel.crossing.after_migrate
        if other and channel.step is not ChannelStep.MOVED:
            yield Finding(
                f"The source sent {short(other[0])} on {channel.channel} between MIGRATE and MIGRATE_DATA. The client takes it "
                "for a wrong MIGRATE_DATA and does not change over.",
                [channel.channel],
                [channel.migrate, *other],
                'whether something in between put that message there; the client\'s log says "expected MIGRATE_DATA, got"',
            )


def data_returned_to_source(case: Case) -> Iterator[Finding]:
    """A client without destination links gives the state back."""
    names = [name for name, each in case.m.channels.items() if each.crossing.returned is not None]
    if names:
        yield Finding(
            f"The client sent MIGRATE_DATA of {listed(names)} back to the source: it had no connection to the destination to "
            "change over to, because it had dropped them.",
            names,
            [case.m.ending.cancel, *(case.m.channels[name].crossing.returned for name in names)],
            "what made the client drop the destination while the source went on: a CANCEL, or something that looked like one "
            "in between; the client is lost and has to connect anew",
        )


def unusual_flags(case: Case) -> Iterator[Finding]:
    """MIGRATE with other flags than spice-server's."""
    for channel in case.seamless_channels:
        if channel.migrate is None or channel.flags is None:
            continue
        usual = _usual_flags(channel)
        if channel.flags in usual:
            continue
        means = " + ".join(channel.flag_names) or "none"
        if channel.flags & 3 == 0:
            effect = "the client changes over without its state, and the destination goes on waiting for it"
        elif usual == (0,):
            effect = "the client answers with a FLUSH_MARK that the source does not expect, at which spice-server aborts"
        else:
            effect = "what the client does with that, no server has tried"
        yield Finding(
            f"MIGRATE on {channel.channel} has flags {channel.flags} ({means}), where spice-server sends {usual[0]}: "
            f"{effect}.{_source_died(case)}",
            [channel.channel],
            [channel.migrate, channel.flush_mark],
            "whether something in between changed the flags; else which program the source is",
        )


def _usual_flags(channel: ChannelMigration) -> tuple[int, ...]:
    kind = channel.channel.partition(":")[0]
    if kind in {"cursor", "playback", "record"}:
        return (0,)
    return (3, 0) if kind == "display" else (3,)  # a display of a streaming device has no state


def source_gave_up(case: Case) -> Iterator[Finding]:
    """The source waits ten seconds for its clients to leave."""
    word, left = case.attempt.word_ns, case.attempt.source_left_ns()
    if not case.stuck or word is None or left is None or case.attempt.client_left_first() or case.m.torn:
        return
    closings = [each.closing for each in case.attempt.source.values() if each.closing is not None]
    late = [each for each in closings if each.time_ns - word >= PATIENCE_NS]
    first = min(late, default=None)
    if first is not None and first.by == Side.SERVER.value:
        so = (
            "What has moved goes on at the destination, but for the client the migration is not over, and it cannot follow another."
            if any(each.open for each in case.attempt.destination.values())
            else "The session is lost."
        )
        yield Finding(
            f"The source waited {duration(first.time_ns - word)} after {short(case.word) if case.word else 'its last word'} "
            f"for the client to leave, then closed what was left, and reported SPICE_MIGRATE_COMPLETED all the same. {so}",
            [],
            [case.word],
            "what kept the client, above; neither completed of query-migrate nor migrated: true of query-spice says that the "
            "client has moved",
        )
