"""How a migration ended, and why, in words."""

from typing import Final

from dissectors.channels import ChannelType
from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState
from spiceproxy.protocol.migration.model import ChannelStep, Kind, Outcome, Party, Phase, Waiting
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.waiting import (
    AT_ONCE_NS,
    kept_from_reading,
    never_at_source,
    silent,
    unmoved,
    waiting,
)
from spiceproxy.protocol.migration.wording import duration

Verdict = tuple[Outcome, str]

PATIENCE_NS: Final = (
    TIMEOUT_NS * 9 // 10
)  # a source that ends the client's connections then has run out of it

_LONG_NS: Final = 2 * 10**9  # for a link reply, which takes milliseconds


def reached(attempt: Attempt, now: int, settings: Settings) -> Verdict | None:
    """The verdict that what has happened so far allows no other than; None if it is still open."""
    verdict = _reached(attempt, now, settings)
    return None if verdict is None else _fair(attempt, verdict)


def at_the_end(attempt: Attempt, now: int, settings: Settings, *, superseded: bool = False) -> Verdict:
    """The verdict when nothing more will be heard of it."""
    return _fair(attempt, _at_the_end(attempt, now, settings, superseded=superseded))


def _fair(attempt: Attempt, verdict: Verdict) -> Verdict:
    """The same, unless it might be otherwise if parts of the capture were not missing."""
    m, (outcome, reason) = attempt.m, verdict
    if not m.damaged or outcome not in {Outcome.FAILED, Outcome.WEDGED}:
        return verdict
    blamed = {each.channel or "main:0" for each in waiting(attempt)} | {"main:0"}
    blamed |= {name for name, _connection in _dead_ones(attempt)}
    torn = {name for name, channel in m.channels.items() if channel.damaged}
    if not attempt.torn and not blamed & torn:
        return verdict
    missing = "; ".join(m.damaged[:3])
    return Outcome.INCOMPLETE, f"parts are not in the capture: {missing}; what it shows looks as if {reason}"


def _reached(attempt: Attempt, now: int, settings: Settings) -> Verdict | None:
    m = attempt.m
    if m.offered is None:
        open_ns = now - attempt.progress_ns
        return _incomplete(attempt, "", begins=True) if open_ns > settings.give_up_ns else None
    if m.ending.cancel is not None and attempt.word_ns is None:
        return Outcome.CANCELLED, _cancelled(attempt)
    if (good := _completed(attempt)) is not None:
        return good
    if m.phase is Phase.SETTLING and not silent(attempt) and (why := _dropped(attempt)) is not None:
        return Outcome.WEDGED, why
    if _all_closed(attempt) and not (m.performed is Kind.SWITCH_HOST and not _arrived(attempt)):
        return _lost(attempt, now, settings)
    left = attempt.source_left_ns()
    quiet = now - attempt.progress_ns
    if m.phase in {Phase.SWITCHING, Phase.SETTLING}:
        if m.performed is Kind.SWITCH_HOST and not _arrived(attempt):
            return _lost(attempt, now, settings) if quiet > settings.return_ns else None
        if left is not None and now - left > settings.left_ns and (dead := _dead(attempt)):
            return _kept_back(attempt) or _given_up(attempt) or (Outcome.FAILED, dead)
        if quiet > settings.give_up_ns:
            return _standing(attempt, now)
    return None


def _at_the_end(attempt: Attempt, now: int, settings: Settings, *, superseded: bool = False) -> Verdict:
    if (verdict := _reached(attempt, now, settings)) is not None:
        return verdict
    m = attempt.m
    quiet = now - attempt.progress_ns
    if m.offered is None:
        return _incomplete(attempt, "", begins=True)
    if m.phase is Phase.CONNECTING:
        if superseded:
            return Outcome.FAILED, "the source began again before the client had replied"
        if quiet > TIMEOUT_NS:
            return _standing(attempt, now)
        return _incomplete(attempt, "while the client connects to the destination")
    if m.phase is Phase.WAITING:
        if superseded:
            return Outcome.FAILED, f"the source began again without ending this one; {_replied(attempt)}"
        return _incomplete(attempt, f"before the source says how it ends; {_replied(attempt)}")
    if m.performed is Kind.SWITCH_HOST and not _arrived(attempt):
        refused = m.handshake.reply == "connect-error"
        gone = attempt.source_left_ns() is not None
        if gone and (refused or superseded or now - (attempt.word_ns or now) >= settings.left_ns):
            return _lost(attempt, now, settings)
    if dead := _dead(attempt):
        return _kept_back(attempt) or _given_up(attempt) or (Outcome.FAILED, dead)
    if quiet >= settings.switch_stall_ns or superseded:
        return _standing(attempt, now)
    return _incomplete(attempt, "while the channels change over")


def _completed(attempt: Attempt) -> Verdict | None:
    m = attempt.m
    if m.phase is not Phase.SETTLING or silent(attempt) or m.offered is None or _dead(attempt):
        return None
    if attempt.source and (attempt.source_left_ns() is None or _dropped(attempt) is not None):
        return None
    m.losses = _losses(attempt)
    count = len(attempt.expected)
    if m.performed is Kind.SEAMLESS:
        text = f"all {count} channels moved with their state"
    elif m.performed is Kind.SEMI_SEAMLESS:
        text = f"all {count} channels moved and were reset"
    else:
        text = "the client left its session and built a new one at the destination"
        main = attempt.destination.get("main:0")
        opened, linked = (main.opened_ns, main.linked) if main is not None else (None, None)
        if opened is not None and linked is not None and linked.time_ns - opened >= _LONG_NS:
            text += f", which let it wait for {duration(linked.time_ns - opened)} until it answered"
    damaged = [name for name, channel in m.channels.items() if channel.damaged]
    if damaged:
        text += f"; parts of {', '.join(damaged)} are not in the capture, and are inferred"
    return Outcome.COMPLETED, text


def _losses(attempt: Attempt) -> list[str]:
    m = attempt.m
    losses = []
    if m.performed is Kind.SEMI_SEAMLESS:
        losses.append("the state of every channel, and what was on its way")
    if m.performed is Kind.SWITCH_HOST:
        losses.append("the session: state, what was on its way, and redirected devices")
        losses += [f"{name}: not open at the destination" for name in unmoved(attempt)]
    losses += [
        f"{name}: MIGRATE_DATA reached the destination changed"
        for name, channel in m.channels.items()
        if channel.data_equal is False
    ]
    return losses


def _arrived(attempt: Attempt) -> bool:
    """Whether any connection to the destination came up."""
    return any(connection.linked is not None for connection in attempt.destination.values())


def _all_closed(attempt: Attempt) -> bool:
    """Whether no connection is left, of those that the capture shows."""
    ends = [*attempt.source.values(), *attempt.destination.values()]
    linked = [each for each in ends if each.linked is not None]
    return bool(linked) and all(each.closing is not None and each.closing.by != "capture" for each in linked)


def _dead_ones(attempt: Attempt) -> list[tuple[str, ConnectionState]]:
    """Connections to the destination that were closed before they had come to life."""
    m = attempt.m
    if m.performed is Kind.SWITCH_HOST:
        names = [name for name in ("main:0",) if name in attempt.destination]
    else:
        names = attempt.expected
    return [
        (name, connection)
        for name in names
        if (connection := attempt.destination.get(name)) is not None and _died(attempt, name, connection)
    ]


def _dead(attempt: Attempt) -> str | None:
    """The same in words."""
    m, dead = attempt.m, _dead_ones(attempt)
    if not dead:
        return None
    main = [pair for pair in dead if pair[1].is_main]
    name, connection = (main or dead)[0]
    closing = connection.closing
    if closing is None:
        return None
    by = "client" if closing.by == "client" else "destination"
    how = "reset" if closing.reset else "closed"
    what = f"the {by} {how} {', '.join(name for name, _ in dead)} at the destination"
    after = attempt.word_ns
    when = f" {duration(closing.time_ns - after)} after the source's last word" if after is not None else ""
    step = m.channels[name].step
    where = "" if step is ChannelStep.MOVED else f", with the channel {step}"
    return f"{what}{when}{where}" + ("" if main else "; the client goes on without it")


def _died(attempt: Attempt, name: str, connection: ConnectionState) -> bool:
    closing, channel = connection.closing, attempt.m.channels[name]
    if closing is None or closing.by == "capture":
        return False
    left = attempt.source_left_ns()
    if left is not None and closing.time_ns > left and not attempt.client_left_first():
        return False  # the session was over by then
    return channel.step is not ChannelStep.MOVED or (
        channel.first_from_destination is None
        and channel.channel_type in {ChannelType.MAIN, ChannelType.DISPLAY}
    )


def _lost(attempt: Attempt, now: int, settings: Settings) -> Verdict:
    """No connection is left, and the client has not got there."""
    m = attempt.m
    first = min((c.closing for c in attempt.source.values() if c.closing), default=None)
    ender = "the source" if first is not None and first.by == "server" else "the client"
    if m.phase is Phase.CONNECTING:
        return Outcome.FAILED, f"{ender} closed the session before the client had replied"
    if m.phase is Phase.WAITING:
        return (
            Outcome.FAILED,
            f"{ender} closed the session before the source said how it ends; {_replied(attempt)}",
        )
    if (unread := _never_read(attempt)) is not None:
        return Outcome.WEDGED, unread
    if m.performed is Kind.SWITCH_HOST and not _arrived(attempt):
        where = m.destination_address or "the destination"
        text = f"session lost: the client left the source for {where}, as SWITCH_HOST told it, and no connection of it got there"
        refused = [each.failed for each in attempt.destination.values() if each.failed is not None]
        if refused:
            text = f"{text.partition(', and no')[0]}, and was not linked: {refused[0].reason}"
        if m.handshake.reply == "connect-error":
            text += "; it could not connect before either"
        return Outcome.FAILED, text
    if (kept_back := _kept_back(attempt)) is not None:
        return kept_back
    blocked = waiting(attempt)
    gone = attempt.source_left_ns() or now
    stood = gone - min((each.since_ns for each in blocked), default=gone)
    if dead := _dead(attempt):
        return Outcome.FAILED, f"session lost: {dead}"
    if blocked and stood >= settings.switch_stall_ns:
        return (
            Outcome.WEDGED,
            f"{_sentence(blocked)}; after {stood / 1e9:.1f} s {ender} closed what was left: session lost",
        )
    text = _sentence(blocked) if blocked else "nothing more was said"
    return Outcome.FAILED, f"session lost: {ender} closed everything while {text}"


def _never_read(attempt: Attempt) -> str | None:
    """Why a client did not come after SWITCH_HOST: it never read it, for it waited for the destination; None if it did."""
    left, word = attempt.source_left_ns(), attempt.word_ns
    if left is None or word is None or not kept_from_reading(attempt):
        return None
    blocked = [each for each in waiting(attempt) if each.who is Party.CLIENT]
    if not blocked:
        return None
    ender = "client" if attempt.client_left_first() else "source"
    return (
        f"{_sentence(blocked)}, and does not read SWITCH_HOST meanwhile; after {duration(left - word)} the {ender} closed what was "
        "left: session lost"
    )


def _kept_back(attempt: Attempt) -> Verdict | None:
    """The verdict on a client that kept a state back and thought it was done; None if it did not."""
    if not (undelivered := _undelivered(attempt)):
        return None
    text = f"the destination waits for MIGRATE_DATA from the client on {', '.join(undelivered)}"
    return Outcome.WEDGED, f"{text}, and the client has left the source, so that it cannot come any more"


def _given_up(attempt: Attempt) -> Verdict | None:
    """The verdict where a destination has waited for a channel until its patience was over; None if that is not so."""
    dead, word = _dead_ones(attempt), attempt.word_ns
    if attempt.m.performed is not Kind.SEAMLESS or word is None or not dead:
        return None
    closings = [connection.closing for _name, connection in dead]
    waited = [each.time_ns - word for each in closings if each is not None and each.by == "server"]
    unmoved_too = all(attempt.m.channels[name].step is not ChannelStep.MOVED for name, _connection in dead)
    blocked = waiting(attempt)
    if len(waited) < len(dead) or min(waited) < PATIENCE_NS or not unmoved_too or not blocked:
        return None
    names = ", ".join(name for name, _connection in dead)
    return (
        Outcome.WEDGED,
        f"{_sentence(blocked)}; after {duration(min(waited))} the destination closed {names}",
    )


def _undelivered(attempt: Attempt) -> list[str]:
    """Channels whose state did not reach a destination that the client used for a while after it had left the source."""
    m, left = attempt.m, attempt.source_left_ns()
    if m.performed is not Kind.SEAMLESS or left is None or not attempt.client_left_first():
        return []
    found = []
    for name in unmoved(attempt):
        connection = attempt.destination.get(name)
        if m.channels[name].step is not ChannelStep.CARRYING or connection is None:
            return []
        closing = connection.closing
        if closing is not None and (closing.by == "server" or closing.time_ns - left < AT_ONCE_NS):
            return []
        found.append(name)
    return found


def _standing(attempt: Attempt, now: int) -> Verdict:
    """Nothing has moved for a long time."""
    blocked = waiting(attempt)
    stood = (now - attempt.progress_ns) / 1e9
    text = _sentence(blocked) if blocked else "nothing is said any more"
    return Outcome.WEDGED, f"{text}; nothing has moved for {stood:.1f} s"


def _dropped(attempt: Attempt) -> str | None:
    """Why the client did not leave the source by itself; None if it did, or is still there, or had no time to."""
    first = min((c.closing for c in attempt.source.values() if c.closing), default=None)
    if attempt.source_left_ns() is None or first is None or first.by != "server" or attempt.word_ns is None:
        return None
    stayed, extra = first.time_ns - attempt.word_ns, never_at_source(attempt)
    if attempt.m.performed is not Kind.SEAMLESS or (stayed < PATIENCE_NS and not extra):
        return None  # END makes the client leave at once, and a source may end when its guest has gone
    because = (
        f"it waits for MIGRATE on {', '.join(extra)}, which it linked at the destination though the source never had it open"
        if extra
        else "it does not seem to know that all channels have moved"
    )
    return f"the client never left the source, which dropped it after {duration(stayed)}: {because}"


def _incomplete(attempt: Attempt, where: str, *, begins: bool = False) -> Verdict:
    if attempt.m.damaged:
        return Outcome.INCOMPLETE, f"parts are not in the capture: {'; '.join(attempt.m.damaged[:3])}"
    if begins:
        return (
            Outcome.INCOMPLETE,
            "the capture begins after the migration did: what the source said is not in it",
        )
    return Outcome.INCOMPLETE, f"the capture ends {where}"


def _cancelled(attempt: Attempt) -> str:
    m, cancel = attempt.m, attempt.m.ending.cancel
    when = duration(cancel.time_ns - m.started_ns) if cancel else ""
    if attempt.late_success:
        return f"the source cancelled {when} after BEGIN: the client's reply had come later than 10 s"
    gone = [
        each.closing for each in attempt.destination.values() if each.closing and each.closing.by == "server"
    ]
    if cancel and gone and min(gone).time_ns < cancel.time_ns:
        before = duration(cancel.time_ns - min(gone).time_ns)
        when += f" after BEGIN, {before} after the destination had closed its connections to the client"
        return f"the source cancelled {when}; the client stays with it"
    return f"the source cancelled {when} after BEGIN; the client stays with it"


def _replied(attempt: Attempt) -> str:
    reply = attempt.m.handshake.reply
    if reply == "connect-error":
        return "the client could not connect to the destination"
    return "the client was connected to the destination" if reply else "the client had not replied"


def _sentence(blocked: list[Waiting]) -> str:
    """The waiting ones, channels that wait for the same put together."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in blocked:
        names = groups.setdefault((each.who, each.what, each.whom), [])
        if each.channel:
            names.append(each.channel)
    return "; ".join(
        f"the {who} waits for {what} from the {whom}" + (f" on {', '.join(names)}" if names else "")
        for (who, what, whom), names in groups.items()
    )
