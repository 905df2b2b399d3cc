"""Whether a message or a moment is one that a rule means."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from dissectors.errors import DissectionError
from dissectors.link import parse_link_mess, parse_link_reply
from dissectors.registry import dissect, message_name
from dissectors.side import Side
from spiceproxy.faults import names
from spiceproxy.faults.context import Context, Moment
from spiceproxy.faults.errors import RuleError
from spiceproxy.faults.match import Match
from spiceproxy.faults.names import Kind
from spiceproxy.faults.where import check_where
from spiceproxy.filter import MISSING, Filter, FilterError, compile_filter

EVERY_CHANNEL: Final = frozenset(names.CHANNELS.values())
FILTER_NAMES: Final = frozenset(
    {
        "time",
        "session",
        "connection",
        "leg",
        "hop",
        "channel",
        "from",
        "id",
        "name",
        "size",
        "fields",
        "error",
        "trailing",
    }
)
"""What `where` may ask for: what `spiceproxy read --filter` may ask of a message, but for `inside`."""

_NS: Final = 1_000_000_000


class View:
    """A message or a moment as a filter sees it. Its body is decoded when somebody asks, once."""

    __slots__ = ("_context", "_decoded", "body", "id", "moment", "side")

    def __init__(
        self, context: Context, side: Side | None, id_: int | None, body: bytes, moment: Moment | None = None
    ) -> None:
        self._context, self.side, self.id, self.body, self.moment = context, side, id_, body, moment
        self._decoded: tuple[dict[str, Any] | None, str | None, bytes] | None = None

    @property
    def name(self) -> str:
        """The message's C name; the moment's for a moment."""
        if self.moment is not None:
            return self.moment.value
        assert self.side is not None and self.id is not None  # noqa: S101, PT018  as of every message
        return message_name(self._context.channel_type, self.side, self.id)

    def _decode(self) -> tuple[dict[str, Any] | None, str | None, bytes]:
        if self._decoded is None:
            try:
                self._decoded = self._fields()
            except DissectionError as error:
                self._decoded = None, str(error), b""
        return self._decoded

    def _fields(self) -> tuple[dict[str, Any] | None, str | None, bytes]:
        if self.moment is None:
            assert self.side is not None and self.id is not None  # noqa: S101, PT018  as of every message
            found = dissect(self._context.channel_type, self.side, self.id, self.body)
            return found.fields, None, found.trailing
        if self.moment is Moment.LINK_MESSAGE:
            mess = parse_link_mess(self.body)
            shown = {name: getattr(mess, name) for name in ("connection_id", "channel_type", "channel_id")}
            return shown, None, b""
        if self.moment is Moment.LINK_REPLY:
            return {"error": parse_link_reply(self.body).error}, None, b""
        if self.moment is Moment.AUTH:
            return {"error": int.from_bytes(self.body, "little")}, None, b""
        return None, None, b""

    def get(self, name: str) -> Any:
        """For a filter: the value of this name, or MISSING."""
        context = self._context
        match name:
            case "time":
                return context.now_ns / _NS
            case "leg":
                return context.which_leg
            case "session" | "connection" | "hop" | "channel":
                return getattr(context, name)
            case "from":
                return MISSING if self.side is None else self.side.value
            case "id" | "name":
                return getattr(self, name)
            case "size":
                return len(self.body)
            case "fields":
                return self._decode()[0]
            case "error":
                return self._decode()[1]
            case _:  # trailing: the last of FILTER_NAMES
                return self._decode()[2] or MISSING


@dataclass(frozen=True, slots=True)
class Matcher:
    """A compiled `match`.

    Attributes:
        match: As it stands in the file.
        kinds: The messages that are meant; None for every message, also those that nobody knows.
        moments: The moments that are meant.
        channels: Types and ids, id None for every one; empty for all.
        channel_types: That it can fire on.
        sides: Whose messages.
        filter: Of `where`.
    """

    match: Match
    kinds: frozenset[Kind] | None
    moments: frozenset[Moment]
    channels: frozenset[tuple[int, int | None]]
    channel_types: frozenset[int]
    sides: frozenset[Side]
    filter: Filter | None

    def fits(self, context: Context, view: View) -> bool:
        """Whether all that does not count is true. Message id and moment are looked at by whoever asks."""
        match = self.match
        if self.channels and not (
            (context.channel_type, None) in self.channels
            or (context.channel_type, context.channel_id) in self.channels
        ):
            return False
        if match.sender is not None and match.sender is not view.side:
            return False
        if match.leg is not None and match.leg != context.which_leg:
            return False
        if match.hop is not None and context.hop not in many(match.hop):
            return False
        phase = "none" if context.phase is None else context.phase.value
        if match.phase is not None and phase not in many(match.phase):
            return False
        if match.migration is not None and match.migration != context.migration:
            return False
        if match.after is not None and context.now_ns - context.session_started_ns < match.after * _NS:
            return False
        if match.after_migration is not None:
            started = context.migration_started_ns
            if started is None or context.now_ns - started < match.after_migration * _NS:
                return False
        return self.filter is None or self.filter.matches(view)

    def means(self, channel_type: int, side: Side, id_: int) -> bool:
        """Whether a message of this kind is one that is meant, wherever and whenever it comes."""
        if self.kinds is not None:
            return Kind(channel_type, side, id_) in self.kinds
        return side in self.sides and (not self.channels or channel_type in self.channel_types)

    def chosen(self, count: int) -> bool:
        """Whether this one of those that fit, from 1, is meant."""
        match = self.match
        return (
            (match.nth is None or count in many(match.nth))
            and (match.every is None or count % match.every == 0)
            and (match.first is None or count <= match.first)
        )


def many(value: Any) -> tuple[Any, ...]:
    """One thing or a list of them, as a tuple."""
    return tuple(value) if isinstance(value, list) else (value,)


def compile_match(match: Match) -> Matcher:
    """Look every name up.

    Raises:
        RuleError: One does not exist, or there is no message that fits; the path leads to what is wrong.
    """
    channels = (
        frozenset(_each(match.channel, "channel", names.channel))
        if match.channel is not None
        else frozenset()
    )
    channel_types = frozenset(kind for kind, _ in channels) or EVERY_CHANNEL
    sides = frozenset(Side) if match.sender is None else frozenset({match.sender})
    moments = frozenset(many(match.moment)) if match.moment is not None else frozenset()
    if match.message is not None and moments:
        raise RuleError("`message` and `moment` are two different things: make two faults of it", ("moment",))
    kinds: frozenset[Kind] | None = frozenset()
    if match.message is not None:
        kinds = _messages(match.message, channel_types, sides)
        channel_types = frozenset(kind.channel_type for kind in kinds)
    elif not moments:
        kinds = None
    wanted = None
    if match.where is not None:
        try:
            wanted = compile_filter(match.where, names=FILTER_NAMES)
        except FilterError as error:
            raise RuleError(
                f"column {error.position + 1} of the filter: {error.message}", ("where",)
            ) from None
        meant = kinds
        if meant is None:
            meant = frozenset(
                each for each in names.SPECS if each.channel_type in channel_types and each.side in sides
            )
        try:
            check_where(match.where, meant, moments)
        except RuleError as error:
            raise error.under("where") from None
    return Matcher(match, kinds, moments, channels, channel_types, sides, wanted)


def _messages(value: Any, channel_types: frozenset[int], sides: frozenset[Side]) -> frozenset[Kind]:
    try:
        return names.messages(many(value), channel_types, sides)
    except RuleError as error:
        raise RuleError(error.reason, ("message", *(error.path if isinstance(value, list) else ()))) from None


def _each(value: Any, key: str, look_up: Any) -> Iterable[Any]:
    for position, each in enumerate(many(value)):
        try:
            yield look_up(each)
        except RuleError as error:
            raise RuleError(error.reason, (key, position) if isinstance(value, list) else (key,)) from None
