"""What goes out on a connection with faults, as the recording, the log and the account of migrations are told of it.

Three views: the event log has what a peer *said*; the recording and whoever follows migrations have what the other one
*got*, since that is what it goes on from, and what waits for what follows from it. What was dropped or was different is said
in comments and by `fault_fired`. A message that a fault answers in the receiver's place counts as received.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.faults.comments import LEDGER, PUT_IN, Place, before, firings
from spiceproxy.faults.effects import Effect, Fired, Send, Wait
from spiceproxy.following.connections import FollowedConnection
from spiceproxy.protocol.framer import Message, Want
from spiceproxy.protocol.interest import DESTINATION_MESSAGES
from spiceproxy.protocol.link import LinkPhase, Phase, without_secrets
from spiceproxy.protocol.migration.model import Touch
from spiceproxy.relay.observer import ChannelObserver

_FULL: Final = struct.Struct("<QHII")  # serial, type, size, sub_list
_MINI: Final = struct.Struct("<HI")  # type, size
# Of what was sent and did not go out, or not like that, so much is in the comment.
SHOWN_BYTES: Final = 256
# Messages that name a destination and have not gone out yet: there is one at a time.
_MAX_REWRITTEN: Final = 16


class Passing:
    """One connection.

    Args:
        link: Its link phase.
        observer: Who logs and records.
        followed: Who follows migrations.
        channel_type: As in the link message.
        linked: Called when the last word of the link phase goes out.
    """

    def __init__(
        self,
        link: LinkPhase,
        observer: ChannelObserver,
        followed: FollowedConnection,
        channel_type: int,
        linked: Callable[[], None],
    ) -> None:
        self._linked = linked
        self._link, self._observer, self._followed, self._channel_type = (
            link,
            observer,
            followed,
            channel_type,
        )
        # By how many messages more than the sender has sent the receiver has got, of those before the present one.
        self._more = dict.fromkeys(Side, 0)
        # By the body that went out: the message as the server sent it, and what the recording says of that.
        self._rewritten: dict[bytes, tuple[Message, str | None]] = {}

    def held(self, message: Message) -> Message:
        """A peer has said this, and what goes out in its place is still to be decided: the message as it would go out."""
        self._more[message.side] -= 1
        self._followed.taken(message)
        want = self._followed.interest.of(message.side, message.id)
        if want is not Want.HOLD:
            if want is not None:
                self._observer.heard(message)
            return message
        data, comment = self._observer.rewritten(message)
        step = len(message.header)
        body = data[step:]
        if len(self._rewritten) >= _MAX_REWRITTEN:
            self._rewritten.pop(next(iter(self._rewritten)))
        self._rewritten[body] = message, comment
        return message._replace(header=data[:step], body=body, size=len(body))

    def told(self, effects: Sequence[Effect], message: Message | None) -> list[Effect]:
        """The effects, with comments that say what was sent. What no packet shows is noted for the next one.

        Args:
            effects: Of one decision.
            message: That it was about, if it was about one.
        """
        out = [
            replace(each, comment=each.comment + PUT_IN)
            if isinstance(each, Send) and each.injected and each.comment not in {"", LEDGER}
            else each
            for each in effects
        ]
        fired = [each for each in effects if isinstance(each, Fired)]
        if message is not None and _answered(effects, message):
            self._followed.went(message)
        if not fired:
            return out if message is None else self._made_up(out, message)
        sent = ""
        if message is not None:
            sent = f"; the {message.side.value} sent {self._shown(message)}"
            whole = message.header + message.body
            out = [
                replace(each, comment=each.comment + sent)
                if isinstance(each, Send) and not each.injected and each.comment and each.data != whole
                else each
                for each in out
            ]
        told = " ".join(each.comment for each in out if isinstance(each, Send))
        waits = any(isinstance(each, Wait) for each in out)
        for each in fired:
            if each.comment not in told:
                self._observer.note(before(f"{each.comment}{'' if waits else sent}"))
        return out

    def note(self, comments: list[str], place: Place | None = None) -> None:
        """Faults have fired where nothing was recorded yet, here or at `place`. Takes the comments out of their list."""
        for comment in comments:
            self._observer.note(before(comment, place))
        comments.clear()

    def _made_up(self, effects: list[Effect], message: Message) -> list[Effect]:
        """What goes out in the place of a message that no fault is about, and that the ledger has changed.

        Both sides count as if all were well. Who follows migrations counts with the client.
        """
        own = [each for each in effects if isinstance(each, Send) and not (each.injected or each.comment)]
        if message.side is Side.SERVER or [each.data for each in own] == [message.header + message.body]:
            return effects
        self._followed.went(message)
        return [
            replace(each, comment=LEDGER, injected=True) if isinstance(each, Send) and each in own else each
            for each in effects
        ]

    def redirected(self, side: Side, send: Send, *, mini_header: bool) -> Send:
        """A message that names a destination and that no server sent, with the proxy in the destination's place."""
        message = parse(side, send.data, mini_header=mini_header)
        if message is None or message.id not in DESTINATION_MESSAGES or side is Side.CLIENT:
            return send
        data, comment = self._observer.rewritten(message)
        return replace(send, data=data, comment="\n".join(filter(None, (comment, send.comment))))

    def half_closed(self, side: Side) -> None:
        """A fault has ended what this side sends, as its receiver sees it."""
        self._observer.direction_ended(side)

    def _shown(self, message: Message) -> str:
        name = message_name(self._channel_type, message.side, message.id)
        shown = message.body[:SHOWN_BYTES].hex()
        more = "..." if len(message.body) > SHOWN_BYTES else ""
        return f"{name}, {message.size} bytes: {shown}{more}"

    async def going(
        self, side: Side, send: Send, unit: Phase | None, *, mini_header: bool, messages: int
    ) -> None:
        """This goes out next.

        Args:
            side: Who sends it, or is meant to.
            send: With its comment.
            unit: What it was in the link phase; None for a message.
            mini_header: Whether messages of this side have it.
            messages: How many it has sent itself.
        """
        comment, data = send.comment or None, send.data
        if unit is not None:
            self._link.told(unit, data)
            data = without_secrets(unit, data)
        elif (message := parse(side, data, mini_header=mini_header)) is not None:
            self._more[side] += 1
            if mini_header:  # it says none: the receiver counts
                message = message._replace(serial=messages + self._more[side])
            told = message
            if message.id in DESTINATION_MESSAGES and message.body in self._rewritten:
                told, rewritten = self._rewritten[message.body]
                comment = "\n".join(filter(None, (rewritten, comment))) or None
            if not (send.injected and send.comment == LEDGER):  # it makes up for what nobody was told of
                self._followed.went(told, _touch(send))
        await self._observer.passed(side, data, (len(data),), comment)
        if unit is Phase.LINK_RESULT and self._link.phase is Phase.DATA:
            # Before the client knows: what it does next, on any connection, must not seem to come first.
            self._linked()


def _touch(send: Send) -> Touch | None:
    """By the fault that has made a message what it is."""
    found = [each for each in firings(send.comment) if each.touches]
    return Touch(found[-1].fault, send.injected) if found else None


def _answered(effects: Sequence[Effect], message: Message) -> bool:
    """Whether a message goes nowhere, and its sender gets an answer all the same: then somebody has got it, we."""
    own = any(isinstance(each, Wait) or (isinstance(each, Send) and not each.injected) for each in effects)
    answer = any(
        isinstance(each, Send) and each.injected and each.to is message.side and each.comment != LEDGER
        for each in effects
    )
    return answer and not own


def parse(side: Side, data: bytes, *, mini_header: bool) -> Message | None:
    """A message from its bytes, as far as its header can be read."""
    header = _MINI if mini_header else _FULL
    if len(data) < header.size:
        return None
    if mini_header:
        (id_, size), serial, sub_list = _MINI.unpack_from(data), 0, 0
    else:
        serial, id_, size, sub_list = _FULL.unpack_from(data)
    return Message(side, id_, size, serial, sub_list, data[: header.size], data[header.size :])
