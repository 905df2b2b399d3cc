"""Which messages have to wait for the engine, so that those that no rule is about lose nothing."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Inputs, InputsC, Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.faults import actions
from spiceproxy.faults.matching import EVERY_CHANNEL, Matcher
from spiceproxy.faults.rules import Rule
from spiceproxy.protocol.framer import MAX_KEPT_BYTES, Want

# A rule may be about any message, and an uncompressed 4K frame at 4 bytes a pixel has 33 MB.
MAX_HELD_BYTES: Final = 64 * 2**20

Direction = tuple[int, Side]
"""Channel type, and who sends."""

_CLIENT, _SERVER = Side.CLIENT, Side.SERVER
_CHANGES_NUMBER: Final = (actions.Drop, actions.Duplicate, actions.Replace)

_MOTION: Final = frozenset({InputsC.MOUSE_MOTION, InputsC.MOUSE_POSITION})
_TOKENS: Final = frozenset(
    {Main.INIT, Main.AGENT_CONNECTED, Main.AGENT_DISCONNECTED, Main.AGENT_CONNECTED_TOKENS, Main.AGENT_TOKEN}
)
_WAITS: Final = frozenset({Msg.WAIT_FOR_CHANNELS, Msg.LIST, Msg.MIGRATE_DATA, Display.INVAL_ALL_PIXMAPS})


class _Row(NamedTuple):
    """When messages of a direction are dropped or put in, the ledger has to see others."""

    channel: int
    side: Side
    ids: frozenset[int] | None  # only if it is one of these
    server: frozenset[int]
    client: frozenset[int]


_FOR_LEDGER: Final = (
    _Row(
        ChannelType.DISPLAY,
        _SERVER,
        None,
        _WAITS | {Msg.SET_ACK},
        frozenset({MsgC.ACK_SYNC, MsgC.ACK, MsgC.MIGRATE_DATA}),
    ),
    _Row(ChannelType.CURSOR, _SERVER, None, frozenset({Msg.SET_ACK}), frozenset({MsgC.ACK_SYNC, MsgC.ACK})),
    _Row(
        ChannelType.INPUTS,
        _CLIENT,
        _MOTION,
        frozenset({Inputs.MOUSE_MOTION_ACK}),
        frozenset({MsgC.MIGRATE_DATA}),
    ),
    _Row(ChannelType.MAIN, _CLIENT, frozenset({MainC.AGENT_DATA}), _TOKENS, frozenset({MsgC.MIGRATE_DATA})),
)


class Everything(Mapping[int, Want]):
    """Every id is wanted, also those that have no name."""

    def __getitem__(self, key: int) -> Want:
        return Want.HOLD

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[int]:
        return iter(range(2**16))

    def __len__(self) -> int:
        return 2**16


class Interest:
    """What a set of rules wants.

    Args:
        rules: All of them.
        live: Rules may come later: what the ledger counts is wanted in any case.
    """

    def __init__(self, rules: Iterable[Rule], *, live: bool = False) -> None:
        self._named: dict[Direction, set[int]] = {}
        self._everything: set[Direction] = set()
        self._unknown_channels = False
        # What may be dropped or put in, and has to add up; an id of None is any.
        self._changing: set[tuple[int, Side, int | None]] = set()
        for rule in rules:
            self._add(rule)
        for row in _FOR_LEDGER:
            if live or self._touches(row):
                self._want((row.channel, _SERVER), row.server)
                self._want((row.channel, _CLIENT), row.client)
        self._numbered = self._renumbered()

    def wanted(self, channel_type: int, side: Side, *, mini_header: bool) -> Mapping[int, Want]:
        """What has to be held."""
        direction = channel_type, side
        if (
            direction in self._everything
            or (self._unknown_channels and channel_type not in EVERY_CHANNEL)
            or (not mini_header and direction in self._numbered)
        ):
            return Everything()
        return dict.fromkeys(self._named.get(direction, ()), Want.HOLD)

    def keep_bytes(self, channel_type: int, side: Side, *, mini_header: bool) -> int:
        """How long a body may be and still be held."""
        wanted = self.wanted(channel_type, side, mini_header=mini_header)
        return MAX_HELD_BYTES if wanted else MAX_KEPT_BYTES

    def _want(self, direction: Direction, ids: Iterable[int]) -> None:
        self._named.setdefault(direction, set()).update(map(int, ids))

    def _add(self, rule: Rule) -> None:
        self._match(rule.matcher)
        for prepared in rule.actions:
            action = prepared.action
            if prepared.until is not None:
                self._match(prepared.until)
            if isinstance(action, actions.Reorder):  # it counts what passes
                self._everything |= {(channel, side) for channel, side, _ in _kinds(rule.matcher)}
            if rule.ledger and isinstance(action, _CHANGES_NUMBER):
                self._changing |= _kinds(rule.matcher)
            if rule.ledger and isinstance(action, actions.Inject):
                self._changing |= set(prepared.targets.values())
                for kind in prepared.targets.values():
                    if (kind.side, kind.id) == (_SERVER, Msg.PING):  # its PONG is nobody's
                        self._want((kind.channel_type, _CLIENT), {MsgC.PONG})

    def _match(self, matcher: Matcher) -> None:
        for channel, side, id_ in _kinds(matcher):
            if id_ is None:
                self._everything.add((channel, side))
                self._unknown_channels = self._unknown_channels or not matcher.channels
            else:
                self._want((channel, side), {id_})

    def _touches(self, row: _Row) -> bool:
        return any(
            (channel, side) == (row.channel, row.side) and (id_ is None or row.ids is None or id_ in row.ids)
            for channel, side, id_ in self._changing
        )

    def _renumbered(self) -> set[Direction]:
        """Directions whose serials have to be rewritten, where headers have some."""
        found = {(channel, side) for channel, side, _ in self._changing}
        for row in _FOR_LEDGER:
            if self._touches(row):  # what makes up for it goes the other way
                found |= {(row.channel, row.side), (row.channel, row.side.other)}
        return found


def _kinds(matcher: Matcher) -> set[tuple[int, Side, int | None]]:
    if matcher.kinds is not None:
        return {(kind.channel_type, kind.side, kind.id) for kind in matcher.kinds}
    return {(channel, side, None) for channel in matcher.channel_types for side in matcher.sides}
