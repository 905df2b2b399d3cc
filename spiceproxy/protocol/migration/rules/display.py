"""How a display goes on at the destination: R36, and who froze the image cache: R37.

Sources: spice-server dcc.cpp, DisplayChannelClient::handle_migrate_data(); dcc-send.cpp, pixmap_cache_freeze(). QEMU sends
INVAL_ALL_PALETTES and STREAM_DESTROY_ALL between SET_ACK and INVAL_ALL_PIXMAPS, and what a guest that runs on has drawn.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.message_ids import Display, Msg, MsgC
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said, is_drawing
from spiceproxy.protocol.migration.model import Evidence, Kind, Party
from spiceproxy.protocol.migration.rules.case import Case, Check
from spiceproxy.protocol.migration.wording import plain_name

_PREPARING: Final = frozenset(
    {Display.INVAL_ALL_PIXMAPS, Display.INVAL_ALL_PALETTES, Display.STREAM_DESTROY_ALL}
)
_COMMON_IDS: Final = 100  # up to here a message means the same on every channel
# A guest that starts again has drawn before the state is taken over: two messages were seen.
_DRAWN_AHEAD: Final = 16


@dataclass(slots=True)
class _Arrival:
    """A display that has got its state."""

    carried: Evidence
    serial: int
    freezer: bool
    first: Evidence | None = None  # of the destination
    prepared: set[int] = field(default_factory=set)  # ids of _PREPARING that came
    drawn: int = 0  # other messages


class Displays(Check):
    """Looks at displays when they arrive."""

    rules = ("R36", "R37", "R46")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._arrivals: dict[str, _Arrival] = {}  # by connection

    def before(self, step: Step, said: Said) -> None:
        """Follow what is said on a display of the destination."""
        connection = step.connection
        if not step.arriving or connection.channel_type != ChannelType.DISPLAY:
            return
        if said.side is Side.CLIENT:
            if said.id == MsgC.MIGRATE_DATA and connection.id not in self._arrivals:
                self._carried(connection, said)
        elif (arrival := self._arrivals.get(connection.id)) is not None:
            self._heard(arrival, connection, said)

    def _carried(self, connection: ConnectionState, said: Said) -> None:
        fields = _state(said)
        if fields is not None and connection.said[Side.SERVER] == 0:
            self._arrivals[connection.id] = _Arrival(connection.evidence(said), *fields)

    def _heard(self, arrival: _Arrival, connection: ConnectionState, said: Said) -> None:
        evidence = connection.evidence(said)
        if arrival.first is None:
            arrival.first = evidence
            full = connection.linked is not None and not connection.linked.mini_header
            if said.id != Msg.SET_ACK:
                text = f"{plain_name(evidence.name)} was the destination's first message after MIGRATE_DATA, not SET_ACK"
                self.case.report("R36", Party.DESTINATION, text, arrival.carried, evidence)
            elif full and said.serial != arrival.serial:
                text = (
                    f"the destination's first message has serial {said.serial}; "
                    f"the state that it was given says {arrival.serial}"
                )
                self.case.report("R36", Party.DESTINATION, text, arrival.carried, evidence)
        if said.id in _PREPARING:
            arrival.prepared.add(said.id)
        elif said.id > _COMMON_IDS:
            if is_drawing(connection.channel_type, said.side, said.id):
                self._draws(connection, said)
            arrival.drawn += 1
            if arrival.drawn != _DRAWN_AHEAD:
                return
            needed = [Display.INVAL_ALL_PALETTES, *([Display.INVAL_ALL_PIXMAPS] if arrival.freezer else [])]
            for each in needed:
                if each not in arrival.prepared:
                    text = f"{_DRAWN_AHEAD} messages came without {each.name} before them"
                    self.case.report("R36", Party.DESTINATION, text, arrival.carried, evidence)

    def _draws(self, connection: ConnectionState, said: Said) -> None:
        """Something is drawn: on a surface that the client has?"""
        known = self.case.past.surfaces.known(connection)
        if known is None or said.body is None or len(said.body) < 4:
            return
        surface = int.from_bytes(said.body[:4], "little")
        if surface not in known:
            evidence = connection.evidence(said)
            text = f"{plain_name(evidence.name)} of the destination on surface {surface}, which the client does not have"
            self.case.report("R46", Party.DESTINATION, text, evidence)

    def ended(self) -> None:
        """See which displays froze the cache that they share."""
        m = self.m
        if m.offered is None or m.performed is not Kind.SEAMLESS:
            return
        caches: defaultdict[int, list[tuple[Evidence, bool]]] = defaultdict(list)
        for channel in m.channels.values():
            if channel.channel_type != ChannelType.DISPLAY or not channel.source_linked or channel.flags == 0:
                continue
            sent = channel.data_from_source
            if sent is None or len(sent.head) < 27 or sent.magic != "DCMD":
                return  # one that is not known may be the one
            caches[sent.head[17]].append((sent.evidence, bool(sent.head[26])))
        for cache, displays in caches.items():
            freezers = [evidence for evidence, freezer in displays if freezer]
            if len(freezers) != 1:
                shown = freezers or [evidence for evidence, _freezer in displays]
                text = f"pixmap_cache_freezer is set by {len(freezers)} of {len(displays)} displays that share cache {cache}"
                channels = tuple(each.channel for each in shown[1:])
                self.case.report("R37", Party.SOURCE, text, *shown[:4], needs=channels)


def _state(said: Said) -> tuple[int, bool] | None:
    """What of the display's state matters here: the serial that goes on, and whether it froze the cache."""
    if said.body is None:
        return None
    try:
        fields = dissect(ChannelType.DISPLAY, said.side, said.id, said.body).fields
    except DissectionError:
        return None
    return fields["message_serial"], bool(fields["pixmap_cache_freezer"])
