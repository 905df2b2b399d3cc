"""Scenarios that are one thing done to every message, every flag, every field, made from the schemas."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from dissectors.channels import ChannelType, channel_name
from dissectors.message_ids import MsgC
from dissectors.side import Side
from spiceproxy.faults import schema
from spiceproxy.faults.names import SPECS, Kind

_STATEFUL: Final = (
    ChannelType.MAIN, ChannelType.DISPLAY, ChannelType.INPUTS, ChannelType.SMARTCARD, ChannelType.USBREDIR,
    ChannelType.PORT, ChannelType.WEBDAV,
)  # fmt: skip
_PLAIN: Final = (ChannelType.CURSOR, ChannelType.PLAYBACK, ChannelType.RECORD)
_DEAD_DST: Final = ["destination"]
_LONG_S: Final = 12.0  # beyond the 10 s that either server waits


class _Message(NamedTuple):
    """A message of a migration: what it is called in names of scenarios, and what becomes of a migration without it."""

    name: str
    short: str
    needs: str = "seamless"
    lost: tuple[str, ...] = ("wedged", "session-lost", "switch-host")
    late: tuple[str, ...] = (
        "seamless",
        "semi-seamless",
        "switch-host",
        "cancelled",
        "wedged",
        "session-lost",
    )
    cancel: bool = False


_ON_MAIN: Final = (
    _Message("SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS", "begin-seamless", lost=("switch-host",)),
    _Message("SPICE_MSG_MAIN_MIGRATE_BEGIN", "begin", "semi-seamless", lost=("switch-host",)),
    _Message("SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS", "do-seamless", lost=("wedged",)),
    _Message("SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK", "ack", lost=("wedged",)),
    _Message("SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS", "connected-seamless", lost=("switch-host",)),
    _Message("SPICE_MSGC_MAIN_MIGRATE_CONNECTED", "connected-semi", "semi-seamless", lost=("switch-host",)),
    _Message("SPICE_MSG_MAIN_MIGRATE_END", "end-source", "semi-seamless"),
    _Message("SPICE_MSGC_MAIN_MIGRATE_END", "end-client", "semi-seamless"),
    _Message("SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", "switch-host", "switch-host"),
    _Message("SPICE_MSG_MAIN_MIGRATE_CANCEL", "cancel", lost=("wedged", "cancelled"), cancel=True),
)
_ON_CHANNELS: Final = (
    _Message("SPICE_MSG_MIGRATE", "migrate"),
    _Message("SPICE_MSGC_MIGRATE_FLUSH_MARK", "flush-mark"),
    _Message("SPICE_MSG_MIGRATE_DATA", "data-out"),
    _Message("SPICE_MSGC_MIGRATE_DATA", "data-in", lost=("seamless", "wedged", "session-lost")),
)


class _Way(NamedTuple):
    """Something that happens to a message."""

    verb: str
    do: Any
    wire: str
    imitates: str
    protocol: str
    reaction: str


_WAYS: Final = (
    _Way(
        "lose",
        "drop",
        "{} is lost",
        "a peer that hangs, a proxy that loses a message",
        "whoever waits for it has to give up at some time",
        "the client has no limit of its own; the source gives up after 10 s",
    ),
    _Way(
        "late",
        {"delay": _LONG_S},
        f"{{}} comes {_LONG_S:g} s late, and what follows it as well",
        "a stalled connection or peer",
        "both servers stop waiting after 10 s",
        "as if it were lost; then it comes after all, to peers that have gone on",
    ),
    _Way(
        "twice",
        "duplicate",
        "{} comes twice",
        "a peer that repeats itself",
        "each message of a migration is said once",
        "the second one is ignored, taken for another message, or shuts the channel",
    ),
    _Way(
        "behind",
        {"reorder": {"behind": 1, "within": 3.0}},
        "{} comes behind the message after it, or 3 s late",
        "a peer that orders its messages wrong",
        "messages of a migration have an order",
        "nobody checks the order as such: each side looks for what it expects next",
    ),
)


def made() -> Iterator[dict[str, Any]]:
    """All of them, as tables of the catalog."""
    for message in _ON_MAIN:
        yield from _messages(message, None)
    for message in _ON_CHANNELS:
        channels = (*_STATEFUL, *_PLAIN) if message.short == "migrate" else _STATEFUL
        for channel in channels:
            yield from _messages(message, channel)
    for channel in (*_STATEFUL, *_PLAIN):
        yield from _flags(channel)
    yield from _versions()
    for channel in _STATEFUL:
        yield from _fields(channel)
        yield from _cuts(channel)
    for channel in (*_STATEFUL, *_PLAIN):
        yield _stall(channel)


def _needs(channel: ChannelType | None, migration: str = "seamless") -> dict[str, Any]:
    needs: dict[str, Any] = {"migration": migration}
    if channel is not None:
        needs["channels"] = [channel_name(channel)]
    return needs


def _messages(message: _Message, channel: ChannelType | None) -> Iterator[dict[str, Any]]:
    match: dict[str, Any] = {"message": message.name}
    what, where = message.name, ""
    if channel is not None:
        match["channel"] = channel_name(channel)
        what, where = f"{message.name} of the {channel_name(channel)} channel", f"-{channel_name(channel)}"
    for way in _WAYS:
        expect, kills = list(message.lost if way.verb == "lose" else message.late), []
        if way.verb == "twice" and message.short in {"flush-mark", "do-seamless"}:
            kills = ["source" if message.short == "flush-mark" else "destination"]
            expect = [f"{kills[0]}-aborted", *expect]
        yield {
            "name": f"{way.verb}-{message.short}{where}",
            "wire": way.wire.format(what),
            "imitates": way.imitates,
            "protocol": way.protocol,
            "reaction": way.reaction,
            "expect": expect,
            "kills": kills,
            # Nobody waits for the end of a demo in which the client has not heard that its migration is cancelled.
            "simulated": ["unchanged"] if message.cancel and way.verb != "twice" else [],
            "needs": _needs(channel, message.needs),
            "lab": {"cancel": True} if message.cancel else {},
            "fault": [{"match": match, "do": way.do}],
        }


_FLAGS: Final = (0, 1, 2, 3, 4, 0xFFFFFFFF)
_ALL_FLAGS: Final = 3


def _flags(channel: ChannelType) -> Iterator[dict[str, Any]]:
    """MIGRATE with every combination of flags, a bit that has no meaning, and all bits."""
    name, usual = channel_name(channel), _ALL_FLAGS if channel in _STATEFUL else 0
    for flags in _FLAGS:
        if flags == usual:
            continue
        unasked = flags & 1 and not usual & 1
        yield {
            "name": f"flags-{name}-{flags:x}",
            "wire": f"flags of MIGRATE on the {name} channel become 0x{flags:x} instead of {usual}",
            "imitates": "two servers that do not agree on which channels have state, a newer protocol",
            "protocol": "the client does what the flags say; the servers expect what they are used to",
            "reaction": "a FLUSH_MARK that the source did not ask for aborts it" if unasked else "one end waits for what the other does not send",
            "kills": ["source"] if unasked else [],
            "expect": ["source-aborted"] if unasked else ["seamless", "wedged", "session-lost"],
            "needs": _needs(channel),
            "fault": [{"match": {"message": "SPICE_MSG_MIGRATE", "channel": name}, "do": {"set": {"flags": flags}}}],
        }  # fmt: skip


_VERSIONS: Final = (0, 2, 0xFFFFFFFF)


def _versions() -> Iterator[dict[str, Any]]:
    """The version of the migration, on both of its ways, and of the link phase."""
    for message, name, short in (
        ("MIGRATE_BEGIN_SEAMLESS", "src_mig_version", "begin"),
        ("MIGRATE_DST_DO_SEAMLESS", "src_version", "do"),
    ):
        for version in _VERSIONS:
            yield {
                "name": f"version-{short}-{version:x}",
                "wire": f"{name} of {message} becomes {version}",
                "imitates": "servers of different age",
                "protocol": "the destination says NACK to a version above its own",
                "reaction": "ACK, then seamless" if version == 0 else "NACK, then semi-seamless",
                "expect": ["seamless"] if version == 0 else ["semi-seamless"],
                "needs": _needs(None),
                "fault": [{"match": {"message": message}, "do": {"set": {name: version}}}],
            }
    for version in (0, 99):
        yield {
            "name": f"version-link-minor-{version}",
            "wire": f"the client's link messages to the destination say protocol 2.{version}",
            "imitates": "a client of another age",
            "protocol": "the minor version is for information",
            "reaction": "ignored",
            "basis": "observed",
            "expect": ["seamless"],
            "needs": _needs(None),
            "fault": [
                {
                    "match": {"moment": "link-message", "leg": "destination"},
                    "do": {"link": {"minor_version": version}},
                }
            ],
        }


# Fields of which any value is fine, or is only a wrong number to somebody.
_HARMLESS: Final = {ChannelType.INPUTS: {"motion_count"}}


def _fields(channel: ChannelType) -> Iterator[dict[str, Any]]:
    """MIGRATE_DATA to the destination with one field changed: all ones, or its lowest bit turned over."""
    name = channel_name(channel)
    kind = Kind(int(channel), Side.CLIENT, MsgC.MIGRATE_DATA)
    state = SPECS[kind].schema
    for keys in schema.leaves(state):
        field = schema.dotted(keys)
        _, size = schema.place(state, keys, where=name)
        harmless = field in _HARMLESS.get(channel, set())
        for verb, change, how in (
            ("ones", {"bytes": "ff" * size}, "is all ones"),
            ("bit", {"xor": "01" + "00" * (size - 1)}, "has its lowest bit turned over"),
        ):
            yield {
                "name": f"data-{name}-{field.replace('[', '-').replace(']', '')}-{verb}",
                "wire": f"{field} of the {name} channel's MIGRATE_DATA to the destination {how}",
                "imitates": "a source with a bug, memory that went bad, a hostile client",
                "protocol": "the destination should take or refuse it, and live",
                "reaction": "nothing but magic, version and length is checked: an abort, a wrong count, or nothing",
                "kills": [] if harmless else _DEAD_DST,
                "expect": ["seamless", "wedged", "session-lost"]
                if harmless
                else ["seamless", "destination-aborted", "wedged", "session-lost"],
                "needs": _needs(channel),
                "fault": [
                    {
                        "match": {"message": "SPICE_MSGC_MIGRATE_DATA", "channel": name},
                        "do": {"corrupt": {"field": field, **change}},
                    }
                ],
            }


def _cuts(channel: ChannelType) -> Iterator[dict[str, Any]]:
    """A connection that ends inside MIGRATE_DATA: in the header, right behind it, or in the body."""
    name = channel_name(channel)
    for message, direction in (("SPICE_MSG_MIGRATE_DATA", "out"), ("SPICE_MSGC_MIGRATE_DATA", "in")):
        for size, where in ((3, "header"), (6, "body"), (10, "magic")):
            yield {
                "name": f"cut-{direction}-{name}-{where}",
                "wire": f"the {name} channel is closed after {size} bytes of {message}",
                "imitates": "a peer that dies while it hands the state over",
                "protocol": "the channel's state is lost",
                "reaction": "the channel is dead, the others switch; the destination goes on waiting for it",
                "expect": ["wedged", "session-lost", "seamless"],
                "needs": _needs(channel),
                "fault": [{"match": {"message": message, "channel": name}, "do": {"close": size}}],
            }


def _stall(channel: ChannelType) -> dict[str, Any]:
    name = channel_name(channel)
    return {
        "name": f"stall-{name}",
        "wire": f"nothing more passes on the {name} channel once the source has said how the migration ends",
        "imitates": "one TCP connection that loses packets while the others do not",
        "protocol": "the other channels switch; the servers wait 10 s",
        "reaction": "the source closes all after 10 s; a display that waits is dropped by the destination",
        "expect": ["wedged", "session-lost", "seamless"],
        "needs": _needs(channel),
        "fault": [
            {
                "match": {"moment": "phase", "phase": "switching", "channel": name, "leg": "source"},
                "do": "stall",
            }
        ],
    }
