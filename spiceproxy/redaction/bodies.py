"""One message: which bytes of its body may be known, and what stands in the place of the others."""

import copy
import hashlib
import re
import struct
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

from construct import Construct

from dissectors import migrate_data
from dissectors.channels import ChannelType
from dissectors.destination import DESTINATIONS
from dissectors.errors import DissectionError
from dissectors.headers import sub_messages
from dissectors.message import MessageSpec
from dissectors.message_ids import Main, Msg, MsgC
from dissectors.registry import lookup
from dissectors.side import Side
from spiceproxy.redaction.addresses import StandIns
from spiceproxy.redaction.fields import Places, Plan, Secret
from spiceproxy.redaction.fillers import Branches, Numbers
from spiceproxy.redaction.images import public_pieces
from spiceproxy.redaction.kinds import Account, Kind
from spiceproxy.redaction.table import How, Rule

Range = tuple[int, int]
Pieces = list[tuple[int, bytes]]
"""Offset, and the bytes that stand there. What is in no piece is zero."""

_SUB_LIST_COUNT, _SUB_LIST_OFFSET, _SUB_HEADER = 2, 4, 6  # bytes. Source: dissectors.headers
_UNREAD: Final = Rule(Kind.UNREAD)
_MAGICS: Final = frozenset({b"MNMD", b"DCMD", b"ICMD", b"SVMD", b"SCMD"})
_MAGIC_AND_VERSION: Final = 8
_LETTERS: Final = re.compile(rb"[A-Z]{4}")
MAX_REMEMBERED: Final = 256
"""Bodies of MIGRATE_DATA whose redaction is kept at hand, since the client hands the same on."""

GuestPort = Callable[[bytes], Pieces]
"""Finds what may stay of the bytes that a guest's agent has not read."""


class Redacted(NamedTuple):
    """A body without its secrets."""

    pieces: Pieces
    decoded: bool


class Bodies:
    """Redacts bodies; remembers what it needs to treat the same bytes the same way.

    Args:
        account: Counts what is removed.
        keep: Kinds that stay.
        stand_ins: Gives names and addresses in the place of others; None leaves them.
    """

    def __init__(
        self, account: Account, *, keep: Collection[Kind] = (), stand_ins: StandIns | None = None
    ) -> None:
        kept = frozenset(keep) | (frozenset() if stand_ins else frozenset({Kind.ADDRESSES}))
        self.plan = Plan(kept)
        self.account = account
        self._stand_ins = stand_ins
        self._numbers = Numbers()
        self._branches = Branches()
        self._whole: dict[
            MessageSpec, int
        ] = {}  # bodies of so many bytes have no secret and need no decoding
        self._migrated: dict[tuple[int, bytes], tuple[Redacted, int]] = {}

    @property
    def exhausted(self) -> bool:
        """Whether there were more different contents than can be told apart."""
        return self._numbers.exhausted or self._branches.exhausted

    def uncounted(self) -> "Bodies":
        """The same, with an account of its own that nobody reads."""
        twin = copy.copy(self)
        twin.account = Account()
        return twin

    def message(
        self,
        channel_type: int,
        side: Side,
        message_id: int,
        body: bytes,
        *,
        sub_list: int = 0,
        guest_port: GuestPort | None = None,
    ) -> Redacted:
        """Redact the body of a message.

        Args:
            channel_type: Of the connection.
            side: Who sent it.
            message_id: `type` of its header.
            body: All of it.
            sub_list: Of its header.
            guest_port: For MIGRATE_DATA of the main channel.
        """
        spec = lookup(channel_type, side, message_id)
        if spec is None:
            self.account.undecoded += 1
            self.account.add(Kind.UNREAD, len(body))
            return Redacted([], decoded=False)
        if message_id == (Msg.MIGRATE_DATA if side is Side.SERVER else MsgC.MIGRATE_DATA):
            return self._migrate_data(channel_type, spec, body, guest_port)
        if not sub_list and message_id != Msg.LIST:
            size = self._whole.get(spec)
            if size is None:
                size = self._whole[spec] = self.plan.size_if_public(spec.schema)
            if 0 <= size <= len(body):
                self.account.add(Kind.UNREAD, len(body) - size)
                return Redacted([(0, body[:size])] if size else [], decoded=True)
        try:
            dissection = spec.dissect(body)
        except DissectionError:
            self.account.undecoded += 1
            pieces = []
            names_destination = (
                channel_type == ChannelType.MAIN and side is Side.SERVER and message_id in DESTINATIONS
            )
            if names_destination and self.plan.keeps(Kind.ADDRESSES):
                pieces = _broken_destination(body, seamless=message_id == Main.MIGRATE_BEGIN_SEAMLESS)
            self.account.add(Kind.UNREAD, len(body) - sum(len(data) for _, data in pieces))
            return Redacted(pieces, decoded=False)
        places = self.plan.places(spec.schema, dissection.fields, body)
        if side is Side.SERVER and (sub_list or message_id == Msg.LIST):
            places = self._with_sub_messages(
                channel_type, body, places, 0 if message_id == Msg.LIST else sub_list
            )
        return Redacted(self._laid_out(places, body), decoded=True)

    def fields(self, schema: Construct, fields: Mapping[str, Any], body: bytes) -> Pieces:
        """What may be known of bytes that were read as `fields`; secrets are counted."""
        return self._laid_out(self.plan.places(schema, fields, body), body)

    def _laid_out(self, places: Places, body: bytes) -> Pieces:
        pieces = _without_secrets(places, body)
        for secret in places.secret:
            pieces += self._filled(secret, body)
        return pieces

    def _filled(self, secret: Secret, body: bytes) -> Pieces:
        """What stands in the place of a secret, if not zeros."""
        start, end, (kind, how, known), image, jpeg_size = secret
        data = body[start:end]
        if how in {How.STREAM, How.BLOCK} or not data:
            return []  # somebody else's business
        if known is not None and known.fullmatch(data):
            return [(start, data)]
        if how is How.TEXT and self._stand_ins is not None and kind is Kind.ADDRESSES:
            self.account.add(kind, len(data))
            return [(start, self._stand_ins.text(data))]
        if data.strip(b"\0"):
            self.account.add(kind, len(data))
        if how is How.TEXT:
            return [(start, b"x" * (len(data) - 1) + (b"\0" if data.endswith(b"\0") else b"x"))]
        if how is How.NUMBER:
            return [(start, self._numbers.filler(data))]
        if how is How.IMAGE and image is not None:
            return [(start + at, piece) for at, piece in public_pieces(image["type"], data, jpeg_size)]
        return []

    def _with_sub_messages(self, channel_type: int, body: bytes, places: Places, at: int) -> Places:
        """The list of sub-messages at `at`, and the fields of each, beside those of the message itself.

        A field that goes on to the end of the body ends where the list begins. Any other secret is one, whatever a list
        says is there.
        """
        try:
            subs = sub_messages(body, at)
        except DissectionError:
            return places
        kept = [*places.kept, (at, at + _SUB_LIST_COUNT + _SUB_LIST_OFFSET * len(subs))]
        secret = [
            each._replace(end=max(each.start, at)) if each.end == len(body) else each
            for each in places.secret
        ]
        for sub in subs:
            start = sub.offset + _SUB_HEADER
            kept.append((sub.offset, start))
            spec = lookup(channel_type, Side.SERVER, sub.type)
            inside = bytes(sub.body)
            try:
                fields = spec.dissect(inside).fields if spec is not None else None
            except DissectionError:
                fields = None
            if spec is None or fields is None:
                secret.append(Secret(start, start + len(inside), _UNREAD, None, None))
                continue
            found = self.plan.places(spec.schema, fields, inside)
            kept += [(start + begin, start + end) for begin, end in found.kept]
            secret += [each._replace(start=start + each.start, end=start + each.end) for each in found.secret]
        return Places(kept, secret)

    # MIGRATE_DATA -----------------------------------------------------------------------------------------

    def _migrate_data(
        self, channel_type: int, spec: MessageSpec, body: bytes, guest_port: GuestPort | None
    ) -> Redacted:
        """What the source sent and what the destination got stay equal if they were, and different if they were."""
        key = channel_type, hashlib.sha256(body).digest()
        known = self._migrated.get(key)
        if known is None:
            known = self._migrate_data_once(spec, body, guest_port)
            if len(self._migrated) >= MAX_REMEMBERED:
                del self._migrated[next(iter(self._migrated))]
            self._migrated[key] = known
        redacted, removed = known
        self.account.undecoded += not redacted.decoded
        self.account.add(Kind.MIGRATION, removed)
        return redacted

    def _migrate_data_once(
        self, spec: MessageSpec, body: bytes, guest_port: GuestPort | None
    ) -> tuple[Redacted, int]:
        try:
            fields = spec.dissect(body).fields
        except DissectionError:
            pieces = _broken_state(spec, body)
            secret = [(0, len(body))]
            for at, data in pieces:
                secret = [left for part in secret for left in _cut_out(part, at, at + len(data))]
            return self._told_apart(body, pieces, secret, decoded=False)
        places = self.plan.places(spec.schema, fields, body)
        pieces = _without_secrets(places, body)
        secret = []
        for each in places.secret:
            if each.rule.how not in {How.DEVICE, How.PART}:
                pieces += self._filled(each, body)
                continue
            known: Pieces = []
            if guest_port is not None and each.rule.how is How.DEVICE:
                known = [(each.start + at, data) for at, data in guest_port(body[each.start : each.end])]
            pieces += known
            parts: list[Range] = [(each.start, each.end)]
            for at, data in known:
                parts = [left for part in parts for left in _cut_out(part, at, at + len(data))]
            secret += parts
        return self._told_apart(body, pieces, sorted(secret), decoded=True)

    def _told_apart(
        self, body: bytes, pieces: Pieces, secret: list[Range], *, decoded: bool
    ) -> tuple[Redacted, int]:
        """A body with a filler in the place of its secrets, and how many bytes those are."""
        content = b"".join(body[start:end] for start, end in secret)
        pieces += _spread(self._branches.filler(content), secret)
        return Redacted(pieces, decoded=decoded), len(content) if content.strip(b"\0") else 0


def _broken_state(spec: MessageSpec, body: bytes) -> Pieces:
    """What stays of a MIGRATE_DATA that does not decode, so that a report says the same of it: its numbers.

    They are all there is in front of what pointers name; of a display, the count of surfaces follows somewhere.
    """
    magic = body[:4]
    if magic not in _MAGICS or spec.schema is migrate_data.Opaque:
        return [(0, magic)] if _LETTERS.fullmatch(magic) else []
    fixed: int = spec.schema.sizeof()
    if len(body) < fixed:
        return [(0, body[:_MAGIC_AND_VERSION])]
    pieces = [(0, body[:fixed])]
    if spec.schema is migrate_data.DisplayState:
        at = int.from_bytes(body[fixed - 4 : fixed], "little")
        if at >= fixed:
            pieces.append((at, body[at : at + 4]))
    return pieces


def _broken_destination(body: bytes, *, seamless: bool) -> Pieces:
    """The same for a message that names a destination: ports and sizes, and what they say is host and subject."""
    fixed = 24 if seamless else 20
    pieces = [(0, body[:fixed])]
    if len(body) >= fixed:
        for at in (4, 12):
            size, start = struct.unpack_from("<II", body, at)
            if start >= fixed:
                pieces.append((start, body[start : start + size]))
    return pieces


def _spread(filler: bytes, ranges: list[Range]) -> Pieces:
    """Lay a filler over ranges that have as many bytes as it."""
    pieces, done = [], 0
    for start, end in ranges:
        part = filler[done : done + end - start].rstrip(b"\0")
        done += end - start
        if part:
            pieces.append((start, part))
    return pieces


def _without_secrets(places: Places, body: bytes) -> Pieces:
    """The bytes that stay, neighbours joined; where a hostile layout lays a secret over them they do not."""
    kept: list[Range] = []
    for start, end in sorted(places.kept):
        if kept and start <= kept[-1][1]:
            if end > kept[-1][1]:
                kept[-1] = kept[-1][0], end
        elif end > start:
            kept.append((start, end))
    if places.secret:
        for start, end in sorted((secret.start, secret.end) for secret in places.secret):
            kept = [part for each in kept for part in _cut_out(each, start, end)]
    return [(start, body[start:end]) for start, end in kept]


def _cut_out(kept: Range, start: int, end: int) -> list[Range]:
    """What is left of a range without another."""
    if end <= kept[0] or kept[1] <= start:
        return [kept]
    return [
        part for part in ((kept[0], min(kept[1], start)), (max(kept[0], end), kept[1])) if part[0] < part[1]
    ]
