"""What is wrong at the destination though the channels got there: acknowledgements, agent tokens, devices, and time.

Sources: spice-server red-channel-client.cpp, handle_message() and waiting_for_ack(); dcc.cpp, handle_migrate_data();
char-device.cpp, red_char_device_restore(); spice-gtk channel-usbredir.c and spice-channel.c.
"""

from collections.abc import Iterator
from typing import Final

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.protocol.migration.books import Window
from spiceproxy.protocol.migration.connections import ConnectionState
from spiceproxy.protocol.migration.diagnoses.case import Case, Finding, listed
from spiceproxy.protocol.migration.model import ChannelMigration, ChannelStep, Kind
from spiceproxy.protocol.migration.wording import counted, duration

ANSWER_NS: Final = 2 * 10**9  # ACK_SYNC and SET_ACK come within milliseconds
STARVED_NS: Final = 5 * 10**9
SLOW_MS: Final = 1000.0
SLOW_HANDSHAKE_MS: Final = 3000.0  # a dozen links, one after another, each of several round trips
AGENT_WINDOW: Final = 10  # REDS_AGENT_WINDOW_SIZE
# In MIGRATE_DATA of main, migration-protocol.h: connected, num_client_tokens, write_num_client_tokens.
CONNECTED_AT, HELD_AT, QUEUED_AT = 12, 13, 25
NO_FLOW_CONTROL: Final = 0xFFFFFFFF
DEVICE_MESSAGES: Final = 8  # of the client on usbredir: with no device there are a hello and PONGs
LZ4_CAPABILITY: Final = 1  # SPICE_SPICEVMC_CAP_DATA_COMPRESS_LZ4, as a word


def _moved(case: Case) -> Iterator[tuple[ChannelMigration, ConnectionState]]:
    """Channels that changed over with their state, and everything of which was read since.

    None, if it is known already why things stand still.
    """
    if case.stuck and case.found:
        return
    for channel in case.seamless_channels:
        connection = case.attempt.destination.get(channel.channel)
        if channel.step is ChannelStep.MOVED and connection is not None and not connection.books.unread:
            yield channel, connection


def _until(case: Case, connection: ConnectionState) -> int:
    return connection.closing.time_ns if connection.closing is not None else case.now


def window_not_restored(case: Case) -> Iterator[Finding]:
    """A display that got its state begins with SET_ACK."""
    for channel, connection in _moved(case):
        if channel.channel_type != ChannelType.DISPLAY or channel.data_to_destination is None:
            continue
        spoke = channel.first_from_destination
        if spoke is None or connection.books.window is not None:
            continue
        if _until(case, connection) - spoke.time_ns >= ANSWER_NS:
            yield Finding(
                f"The destination went on with {channel.channel} without SET_ACK, after MIGRATE_DATA had brought its state: no new "
                "window of acknowledgements was agreed, client and destination count differently, and the display may stop when "
                f"the old window is used up ({counted(connection.said[Side.SERVER], 'message')} so far, "
                f"{connection.books.early_acks} ACKs of the client).",
                [channel.channel],
                [channel.data_to_destination.evidence, spoke],
                "whether SET_ACK was lost on the way to the client; the destination's log",
            )


def window_shut(case: Case) -> Iterator[Finding]:
    """Without ACK_SYNC a server stops after twice its window."""
    for channel, connection in _moved(case):
        window = connection.books.window
        if window is None or window.answered_ns is not None:
            continue
        since = max(window.asked.time_ns, channel.step_ns)
        waited = _until(case, connection) - since
        if waited < ANSWER_NS:
            continue
        yield Finding(
            f"The client has not answered the destination's SET_ACK on {channel.channel} with ACK_SYNC in {duration(waited)}"
            f"{_stale(connection)}: the destination stops after {_most(window)} messages without it, and has sent "
            f"{connection.said[Side.SERVER] - window.sent - 1} since.",
            [channel.channel],
            [connection.evidence(window.asked)],
            "whether SET_ACK or ACK_SYNC was lost on the way; the picture that stands still while the guest goes on is the sign",
        )


def _stale(connection: ConnectionState) -> str:
    early = connection.books.early_acks
    return f", and goes on with ACKs of the old window ({early}), which do not count" if early else ""


def _most(window: Window) -> str:
    return str(2 * window.size) if window.size is not None else "twice its window of"


def window_used_up(case: Case) -> Iterator[Finding]:
    """ACK_SYNC came, and then no ACKs."""
    for channel, connection in _moved(case):
        window = connection.books.window
        if window is None or window.answered_ns is None or window.size is None or window.acks:
            continue
        sent = connection.said[Side.SERVER] - window.sent - 1
        last = connection.last_ns[Side.SERVER]
        if sent >= 2 * window.size > 0 and last is not None and _until(case, connection) - last >= ANSWER_NS:
            yield Finding(
                f"The client has acknowledged none of the {sent} messages that the destination sent on {channel.channel} since "
                f"SET_ACK (window {window.size}): the window is shut, and the destination has been silent for "
                f"{duration(_until(case, connection) - last)}.",
                [channel.channel],
                [connection.evidence(window.asked)],
                "whether the client's ACKs were lost on the way to the destination; whether the client hangs",
            )


def agent_tokens_wrong(case: Case) -> Iterator[Finding]:
    """The state says another number of tokens than the client has."""
    channel = case.m.channels.get("main:0")
    source = case.attempt.source.get("main:0")
    if channel is None or source is None or not case.whole("main:0"):
        return
    data = channel.data_to_destination if channel.data_equal is False else channel.data_from_source
    if data is None or data.magic != "MNMD" or len(data.head) < 33 or not data.head[CONNECTED_AT]:
        return
    held, queued = (int.from_bytes(data.head[at : at + 4], "little") for at in (HELD_AT, QUEUED_AT))
    if held + queued > AGENT_WINDOW and held != NO_FLOW_CONTROL:
        yield Finding(
            f"The state of main says that the client holds {held} agent tokens, with {queued} more messages waiting for the guest: "
            f"more than the {AGENT_WINDOW} there are. The destination counts wrong from there on and may grant any number.",
            ["main:0"],
            [data.evidence],
            "whether something in between changed MIGRATE_DATA of main; after AGENT_TOKEN look at how many were granted",
        )
        return
    books = source.books
    if books.balance is None or held in {books.balance, NO_FLOW_CONTROL}:
        return
    yield Finding(
        f"The state of main says that the client holds {held} agent tokens; by what was granted and sent it holds "
        f"{books.balance}. The difference is not restored at the destination: clipboard and file transfer will stop early, or "
        "overrun the agent.",
        ["main:0"],
        [data.evidence, *(source.evidence(each) for each in books.grants[-1:])],
        "whether AGENT_DATA or AGENT_TOKEN was lost or made up on the way",
    )


def agent_tokens_excessive(case: Case) -> Iterator[Finding]:
    """The destination grants more than there are."""
    main, source = case.attempt.destination.get("main:0"), case.attempt.source.get("main:0")
    if main is None or case.m.performed is not Kind.SEAMLESS or not case.whole("main:0"):
        return
    books = main.books
    balance = books.balance
    first = source.books.tokens if source is not None else None
    limit = max(AGENT_WINDOW, first or 0)
    if balance is None or balance <= limit:
        return
    yield Finding(
        f"The destination granted {books.granted} agent tokens for {counted(books.spent, 'message')} of the client: more than the "
        f"{limit} there are. The client now holds {balance}. Its count was not restored rightly, and the client may flood the agent.",
        ["main:0"],
        [main.evidence(each) for each in books.grants],
        "the tokens in MIGRATE_DATA of main (spiceproxy read shows num_client_tokens); whether it was changed on the way",
    )


def agent_starved(case: Case) -> Iterator[Finding]:
    """The client has no token left, and gets none."""
    main = case.attempt.destination.get("main:0")
    if main is None or case.m.performed is not Kind.SEAMLESS or not case.whole("main:0"):
        return
    books, last = main.books, main.books.last_spent
    balance = books.balance
    if balance is None or balance > 0 or last is None:
        return
    waited = _until(case, main) - max(last.time_ns, *(each.time_ns for each in books.grants), last.time_ns)
    if waited >= STARVED_NS:
        yield Finding(
            f"The client has used its last agent token, and the destination has given none back in {duration(waited)}: clipboard "
            "and file transfer stand still.",
            ["main:0"],
            [main.evidence(last), *(main.evidence(each) for each in books.grants[-1:])],
            "whether the agent in the guest runs at the destination and reads (query-chardev, its log), and whether AGENT_TOKEN was "
            "lost on the way",
        )


def _with_devices(case: Case) -> list[str]:
    """Usbredir channels on which more was said at the source than a greeting."""
    return [
        name
        for name, each in case.attempt.source.items()
        if each.channel_type == ChannelType.USBREDIR and each.said[Side.CLIENT] > DEVICE_MESSAGES
    ]


def usb_devices_detached(case: Case) -> Iterator[Finding]:
    """A reset of usbredir unplugs what was redirected."""
    names = _with_devices(case)
    if names and case.m.performed in {Kind.SEMI_SEAMLESS, Kind.SWITCH_HOST}:
        yield Finding(
            f"Redirected USB devices were unplugged from the guest: {listed(names)} was in use, and a {case.m.performed} migration "
            "resets it.",
            names,
            [case.word],
            "why the migration was not seamless, above; the devices have to be redirected anew, and a file system on one of them "
            "may need a check",
        )


def usb_compression_lost(case: Case) -> Iterator[Finding]:
    """The migration link of usbredir lacks a capability that the first one had."""
    found = []
    for name in _with_devices(case):
        source, destination = case.attempt.source[name], case.attempt.destination.get(name)
        if case.m.performed is not Kind.SEAMLESS or destination is None or destination.linked is None:
            continue
        before, after = source.client_caps.channel, destination.client_caps.channel
        if before and before[0] & LZ4_CAPABILITY and not (after and after[0] & LZ4_CAPABILITY):
            found.append(name)
    if found:
        yield Finding(
            f"{listed(found)} is slower from here on: the client announced LZ4 compression to the source, and not to the destination, "
            "which will send everything uncompressed.",
            found,
            [],
            "nothing can be done in the session (spice-gtk up to 0.42 forgets it on migration links); connecting anew brings it back",
        )


def display_dropped(case: Case) -> Iterator[Finding]:
    """A destination waits ten seconds for the state of a display, and then closes it."""
    for channel in case.seamless_channels:
        closed, word = channel.destination_closed, case.attempt.word_ns
        if channel.channel_type != ChannelType.DISPLAY or closed is None or word is None:
            continue
        if (
            closed.by != Side.SERVER.value
            or channel.step is ChannelStep.MOVED
            or case.destination_died_ns is not None
            or not case.stuck
        ):
            continue
        yield Finding(
            f"The destination waited for MIGRATE_DATA of {channel.channel} and closed it {case.after_word(closed.time_ns)}: its guest "
            f"stood still that long, and goes on without a display. The channel stands at: {channel.step}.",
            [channel.channel],
            [
                channel.migrate,
                channel.flush_mark,
                channel.data_from_source.evidence if channel.data_from_source else None,
            ],
            "what kept MIGRATE_DATA of the display; the destination's log says that the display timed out; the client has to connect anew",
        )


def slow_handshake(case: Case) -> Iterator[Finding]:
    """The client took long to connect."""
    took = case.m.times_ms.get("handshake", 0.0)
    reply = case.m.handshake.reply_evidence
    if (
        took < SLOW_HANDSHAKE_MS
        or reply is None
        or not case.answered
        or case.m.handshake.late
        or case.m.damaged
    ):
        return
    if case.m.handshake.reply == "connect-error":
        return
    last, slowest, longest = case.m.started_ns, "main:0", 0
    links = sorted(
        (each.linked.time_ns, name) for name, each in case.before_the_word.items() if each.linked is not None
    )
    for at, name in links:
        if at - last > longest:
            slowest, longest = name, at - last
        last = at
    what = (
        f"longest for {slowest} ({duration(longest)})"
        if longest >= reply.time_ns - last
        else "longest after the last link"
    )
    yield Finding(
        f"The client took {duration(reply.time_ns - case.m.started_ns)} from {case.begin_name} to its reply, {what}; after 10 s the "
        "source would have given up.",
        [slowest],
        [case.began, reply],
        "name lookup and round trips between client and destination (links are made one after another), and how busy the "
        "destination is with the incoming guest",
    )


def flush_mark_late(case: Case) -> Iterator[Finding]:
    """FLUSH_MARK came, but the source had to wait for it."""
    late = {
        each.channel: each.flush_mark.time_ns - each.migrate.time_ns
        for each in case.seamless_channels
        if each.flush_mark is not None and each.migrate is not None
    }
    late = {name: ns for name, ns in late.items() if ns >= SLOW_MS * 1e6}
    if late:
        longest = max(late, key=lambda name: late[name])
        yield Finding(
            f"FLUSH_MARK came late on {listed(list(late))}, on {longest} {duration(late[longest])} after MIGRATE: so long the "
            "channel stood still; after 10 s the source would have dropped the client.",
            list(late),
            [
                said
                for name in late
                for said in (case.m.channels[name].migrate, case.m.channels[name].flush_mark)
            ],
            "the way between client and source (a full pipe, a slow network), and what the client was busy with",
        )


def data_late(case: Case) -> Iterator[Finding]:
    """MIGRATE_DATA took long from server to server."""
    late: dict[str, int] = {}
    for each in case.seamless_channels:
        sent, got = each.data_from_source, each.data_to_destination
        if sent is not None and got is not None:
            late[each.channel] = got.evidence.time_ns - sent.evidence.time_ns
    late = {name: ns for name, ns in late.items() if ns >= SLOW_MS * 1e6}
    if late:
        longest = max(late, key=lambda name: late[name])
        display = any(name.startswith("display") for name in late)
        yield Finding(
            f"MIGRATE_DATA took long to get through the client on {listed(list(late))}, on {longest} {duration(late[longest])}."
            + (" The destination's guest waits for that of a display, up to 10 s." if display else ""),
            list(late),
            [
                payload.evidence
                for name in late
                for payload in (
                    case.m.channels[name].data_from_source,
                    case.m.channels[name].data_to_destination,
                )
                if payload is not None
            ],
            "the way between client and both hosts, and what the client was busy with",
        )


def long_pause(case: Case) -> Iterator[Finding]:
    """The user saw nothing new for long."""
    pause = case.m.times_ms.get("pause", 0.0)
    if (
        not case.good
        or case.m.performed is Kind.SWITCH_HOST  # a new session takes its time, and is told of
        or pause < SLOW_MS
        or case.m.damaged
        or case.found.keys() & {"flush-mark-late", "data-late"}
    ):
        return
    channel = next(
        (each for each in case.m.channels.values() if each.pause_ms and abs(each.pause_ms - pause) < 0.01),
        None,
    )
    last = channel.last_seen_from_source if channel is not None else None
    first = channel.first_seen_from_destination if channel is not None else None
    word = case.attempt.word_ns
    if channel is None or last is None or first is None or word is None or not last.time_ns <= word:
        return
    parts = f": {duration(word - last.time_ns)} before the source's last word, {duration(first.time_ns - word)} after it"
    yield Finding(
        f"The user saw nothing new on {channel.channel} for {duration(first.time_ns - last.time_ns)}{parts}.",
        [channel.channel],
        [last, case.word, first],
        "before the last word: QEMU's downtime (query-migrate: downtime; migrate-set-parameters downtime-limit) and displays that "
        "drain slowly; after it: the network between client and destination, and the guest's start there",
    )
