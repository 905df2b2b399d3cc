"""What was wrong with the state that the client carried, or with the messages around it.

Sources: spice-server migration-protocol.h, migration_protocol_validate_header(), and the channels' handle_migrate_data();
spice-gtk spice-channel.c, spice_channel_handle_migrate() and spice_msg_out_new().
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from dissectors.side import Side
from spiceproxy.protocol.migration.diagnoses.case import Case, Finding, listed, short
from spiceproxy.protocol.migration.model import ChannelMigration, ChannelStep, Evidence, Kind, Payload
from spiceproxy.protocol.migration.wording import counted, duration

# Messages that every channel has: ACK_SYNC, ACK, PONG, DISCONNECTING.
_COMMON: Final = ("SPICE_MSGC_ACK", "SPICE_MSGC_PONG", "SPICE_MSGC_DISCONNECTING", "SPICE_MSGC_MIGRATE")


class _Layout(NamedTuple):
    magic: str
    least: int  # bytes of body


_DEVICE: Final = _Layout("SVMD", 33)
LAYOUTS: Final = {
    "main": _Layout("MNMD", 65),
    "display": _Layout("DCMD", 84),
    "inputs": _Layout("ICMD", 10),
    "smartcard": _Layout("SCMD", 42),
    "usbredir": _DEVICE,
    "port": _DEVICE,
    "webdav": _DEVICE,
}
"""What MIGRATE_DATA of a channel begins with, by the channel's name without its number."""
VERSION: Final = 1  # of every layout


def _layout(channel: ChannelMigration) -> _Layout | None:
    return LAYOUTS.get(channel.channel.partition(":")[0])


def _magic_of(channel: ChannelMigration) -> str | None:
    layout = _layout(channel)
    return layout.magic if layout is not None else None


def _version(payload: Payload) -> int | None:
    return int.from_bytes(payload.head[4:8], "little") if len(payload.head) >= 8 else None


def data_of_another_channel(case: Case) -> Iterator[Finding]:
    """The state of one channel went to another."""
    sent = {
        each.data_from_source.digest: name
        for name, each in case.m.channels.items()
        if each.data_from_source is not None and each.data_from_source.digest is not None
    }
    wrong: list[ChannelMigration] = []
    from_: list[str] = []
    for channel in case.m.channels.values():
        got, own, layout = channel.data_to_destination, channel.data_from_source, _layout(channel)
        if got is None or got.digest is None or (own is not None and own.digest == got.digest):
            continue
        owner = sent.get(got.digest) if own is not None and own.digest is not None else None
        foreign = next(
            (
                kind
                for kind, each in LAYOUTS.items()
                if layout is not None and layout.magic != got.magic == each.magic
            ),
            None,
        )
        if owner is not None or foreign is not None:
            wrong.append(channel)
            from_.append(owner or foreign or "")
    if wrong:
        kinds = any(
            each.data_to_destination and _magic_of(each) != each.data_to_destination.magic for each in wrong
        )
        aborts = " spice-server aborts at a magic that is not the channel's." if kinds else ""
        pairs = [f"{each.channel} got that of {owner}" for each, owner in zip(wrong, from_, strict=True)]
        yield Finding(
            f"MIGRATE_DATA went to the wrong channel: {listed(pairs)}.{aborts}",
            [each.channel for each in wrong],
            [
                payload.evidence
                for each in wrong
                for payload in (each.data_from_source, each.data_to_destination)
                if payload is not None
            ],
            "whether something in between mixed connections up; between channels of one type: whether client and destination "
            'number them the same way; the destination\'s log ("bad magic")',
        )


def bad_migrate_data(case: Case) -> Iterator[Finding]:
    """A state that no destination takes."""
    for channel in case.m.channels.values():
        layout = _layout(channel)
        if layout is None or channel.channel in case.found.get("data-of-another-channel", set()):
            continue
        for payload, whose in (
            (channel.data_from_source, "from the source"),
            (channel.data_to_destination, "to the destination"),
        ):
            if payload is None or payload.digest is None:
                continue
            wrong = []
            version = _version(payload)
            if payload.magic != layout.magic:
                wrong.append(f"magic {payload.magic!r} where {layout.magic!r} belongs")
            if version is not None and version > VERSION:
                wrong.append(f"version {version} where {VERSION} is the highest")
            if payload.size < layout.least:
                wrong.append(f"{payload.size} bytes where {layout.least} are the least")
            if not wrong:
                continue
            changed = (
                " It left the source in good order, and was changed on the way."
                if channel.data_equal is False
                else ""
            )
            yield Finding(
                f"MIGRATE_DATA {whose} on {channel.channel} has {listed(wrong)}: spice-server aborts at a wrong magic or "
                f"version, and closes the channel or aborts if it is too short.{changed}",
                [channel.channel],
                [
                    each.evidence
                    for each in (channel.data_from_source, channel.data_to_destination)
                    if each is not None
                ],
                "the versions of spice-server on both hosts; whether something in between changed the message; the "
                'destination\'s log ("bad magic", "unsupported version") and core dump',
            )
            break


def data_changed(case: Case) -> Iterator[Finding]:
    """The destination got other bytes than the source sent."""
    names = [
        name
        for name in case.left(case.m.channels, "data-of-another-channel", "bad-migrate-data")
        if case.m.channels[name].data_equal is False
    ]
    if not names:
        return
    channels = [case.m.channels[name] for name in names]
    payloads = [(each.data_from_source, each.data_to_destination) for each in channels]
    sizes = [
        f"{sent.size} and {got.size} bytes"
        for sent, got in payloads
        if sent and got and sent.size != got.size
    ]
    how = f" ({', '.join(sizes)})" if sizes else ", of the same length"
    yield Finding(
        f"MIGRATE_DATA of {listed(names)} reached the destination with other bytes than the source had sent{how}. A client gives "
        f"it on unread, so it was changed on the way.",
        names,
        [payload.evidence for pair in payloads for payload in pair if payload is not None],
        "what is between client and servers and may change messages; until then trust nothing of what that channel shows: the "
        "destination reads pointers and counts out of it unchecked",
    )


def traffic_after_flush_mark(case: Case) -> Iterator[Finding]:
    """What the client says to the source after FLUSH_MARK comes too late for the state."""
    for channel in case.seamless_channels:
        late = [each for each in channel.crossing.after_flush if _is_content(each)]
        if late and channel.flush_mark is not None:
            data = channel.data_from_source
            lost = [each for each in late if data is None or each.time_ns >= data.evidence.time_ns]
            yield Finding(
                f"The client sent {counted(len(late), 'message')} to the source on {channel.channel} after its FLUSH_MARK "
                f"({listed(list(dict.fromkeys(short(each) for each in late)))}), {len(lost)} of them after the state had been "
                "sent: they are lost, for the source is not used any more.",
                [channel.channel],
                [channel.flush_mark, *late],
                "whether something in between held messages back or let FLUSH_MARK overtake them; with the agent, usbredir, port "
                "or webdav a hole in the stream breaks what is going on there",
            )


def _is_content(said: Evidence) -> bool:
    """Whether it carries something of the user's: what acknowledges and what answers does not."""
    return not said.name.startswith(_COMMON)


def not_data_first(case: Case) -> Iterator[Finding]:
    """MIGRATE_DATA has to come before all else that the client had to say."""
    for channel in case.seamless_channels:
        first, data = channel.crossing.before_data, channel.data_to_destination
        if not first or (data is None and channel.step is ChannelStep.MOVED):
            continue
        if data is None and channel.migrate is None:
            continue
        came = (
            f"{duration(data.evidence.time_ns - first[0].time_ns)} before MIGRATE_DATA"
            if data
            else "and no MIGRATE_DATA"
        )
        yield Finding(
            f"The client's first message to the destination on {channel.channel} was {short(first[0])}, {came}: the destination "
            "takes it without the state that it builds on.",
            [channel.channel],
            [*first, data.evidence if data else None],
            "whether something in between reordered or injected messages",
        )


def messages_lost(case: Case) -> Iterator[Finding]:
    """Serials that never came, where messages have them."""
    begin = case.m.started_ns
    for name, channel in case.m.channels.items():
        if not case.whole(name):
            continue
        source, destination = case.attempt.source.get(name), case.attempt.destination.get(name)
        for connection, leg in ((source, "source"), (destination, "destination")):
            if connection is None or not connection.full:
                continue
            for side, serials in connection.books.serials.items():
                holes = [each for each in serials.holes if each.after.time_ns >= begin]
                if leg == "destination" and side is Side.CLIENT:
                    # The client goes on counting where it stopped at the source; the first jump is that.
                    holes = [
                        each for each in holes if channel.step is not ChannelStep.MOVED or each != holes[0]
                    ]
                if not holes:
                    continue
                missing = sum(each.last - each.first + 1 for each in holes)
                whose = "the client" if side is Side.CLIENT else f"the {leg}"
                yield Finding(
                    f"{counted(missing, 'message')} of {whose} on {name} never came at the {leg}: serials "
                    f"{', '.join(_range(each.first, each.last) for each in holes[:3])} are left out.",
                    [name],
                    [connection.evidence(each.after) for each in holes[:3]],
                    "what is between client and servers and may lose messages; what the channel shows from there on may be wrong",
                )
        yield from _over_the_switch(case, channel)


def _over_the_switch(case: Case, channel: ChannelMigration) -> Iterator[Finding]:
    """The client's serials go on at the destination where they stopped at the source."""
    name, data = channel.channel, channel.data_to_destination
    source, destination = case.attempt.source.get(name), case.attempt.destination.get(name)
    if case.m.performed is not Kind.SEAMLESS or data is None or source is None or destination is None:
        return
    if not (source.full and destination.full) or source.books.unread or destination.books.unread:
        return
    last, first = source.books.serials[Side.CLIENT].last, data.serial
    if last is None or first <= last + 1:
        return
    # What was queued when MIGRATE came has lower serials, and follows MIGRATE_DATA.
    came = {each.serial for each in destination.books.serials[Side.CLIENT].back}
    missing = [serial for serial in range(last + 1, min(first, last + 65)) if serial not in came]
    if missing and (case.good or case.stuck):
        yield Finding(
            f"{counted(len(missing), 'message')} of the client on {name} got lost over the switch: its last serial at the source is "
            f"{last}, MIGRATE_DATA to the destination has {first}, and {_range(missing[0], missing[-1])} never came.",
            [name],
            [channel.flush_mark, data.evidence],
            'what is between client and servers; the client\'s log ("message queue is blocked, dropping message")',
        )


def messages_reordered(case: Case) -> Iterator[Finding]:
    """Serials of a server never go back."""
    for name in case.m.channels:
        for leg in (case.attempt.source, case.attempt.destination):
            connection = leg.get(name)
            if connection is None or not connection.full or not case.whole(name):
                continue
            back = [
                each
                for each in connection.books.serials[Side.SERVER].back
                if each.time_ns >= case.m.started_ns
            ]
            if back:
                whose = "source" if leg is case.attempt.source else "destination"
                yield Finding(
                    f"Messages of the {whose} on {name} came out of order: serial {back[0].serial} came after a higher one.",
                    [name],
                    [connection.evidence(each) for each in back[:4]],
                    "what is between client and servers and may reorder messages",
                )


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"


def in_flight_lost(case: Case) -> Iterator[Finding]:
    """Without state, what was on its way is lost."""
    m = case.m
    if m.performed in {None, Kind.SEAMLESS} or m.outcome is None:
        return
    late = {name: each.crossing.after_end for name, each in m.channels.items() if each.crossing.after_end}
    main = case.attempt.source.get("main:0")
    cut = []
    if main is not None and case.whole("main:0") and not main.books.unread:
        for side, stream in main.books.agent.items():
            if stream.cut:
                cut.append(
                    f"an agent message of the {'client' if side is Side.CLIENT else 'guest'} was cut off "
                    f"{stream.remaining} bytes before its end ({stream.total} in all)"
                )
    if not late and not cut:
        return
    parts = [
        f"{counted(len(said), 'message')} of the client on {name} "
        f"({listed(list(dict.fromkeys(short(each) for each in said)))})"
        for name, said in late.items()
    ]
    word = case.word
    after = f"sent to the source after its {short(word)}" if word is not None else "sent too late"
    text = "; ".join(filter(None, [f"{', '.join(parts)} {after}" if parts else "", *cut]))
    names = list(dict.fromkeys([*late, *(["main:0"] if cut else [])]))
    yield Finding(
        f"In-flight data is lost, for nobody carries state in a {m.performed} migration: {text}.",
        names,
        [word, *(each for said in late.values() for each in said[:2])],
        "what the user was doing just then: a key, a file or a clipboard may have got lost; a seamless migration would have kept it",
    )
