"""What peers count, held against what was seen: mouse messages, images, agent tokens and serials: R51 to R54, and R57.

Sources: spice-server inputs-channel-client.cpp, on_mouse_motion(); glz-encoder-dictionary.c, glz_dictionary_pre_encode() and
glz_enc_dictionary_get_restore_data(); char-device.cpp, RedCharDevice::migrate_data_marshall(); red-channel-client.cpp,
begin_send_message(); spice-gtk channel-main.c, agent_send_msg_queue().
"""

from collections.abc import Mapping
from typing import Any, Final

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.image_headers import header_of_image
from dissectors.message_ids import Display, MainC, Msg, MsgC
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Evidence, Kind, Party, Severity
from spiceproxy.protocol.migration.rules.case import Case, Check
from spiceproxy.protocol.migration.rules.payloads import AGENT_TOKENS, NO_LIMIT
from spiceproxy.protocol.migration.wording import counted

Fields = Mapping[str, Any]
_ACKNOWLEDGED: Final = 4  # SPICE_INPUT_MOTION_ACK_BUNCH: mouse messages for each MOUSE_MOTION_ACK


class Counting(Check):
    """Keeps count beside the peers."""

    rules = ("R51", "R52", "R53", "R54", "R57")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._next_image: dict[str, tuple[int, Evidence]] = {}  # of displays that have their state
        self._overdrawn: dict[str, tuple[int, Evidence]] = {}  # mains: how many messages ahead of all tokens

    def before(self, step: Step, said: Said) -> None:
        """Judge a state of the source by what it did so far, and the destination's images by the state that it was given."""
        connection = step.connection
        if said.side is Side.SERVER:
            if said.id == Msg.MIGRATE_DATA and not step.arriving:
                self._state(connection, said)
            elif connection.id in self._next_image and said.id == Display.DRAW_COPY:
                self._image(connection, said)
        elif (
            step.arriving and said.id == MsgC.MIGRATE_DATA and connection.channel_type == ChannelType.DISPLAY
        ):
            fields = _fields(connection, said)
            if fields is not None:
                number = fields["glz_dict"]["last_image_id"]
                self._next_image[connection.id] = number, connection.evidence(said)

    def after(self, step: Step, said: Said) -> None:
        """See whether the client has said more to the agent than it may."""
        connection = step.connection
        if said.id != MainC.AGENT_DATA or said.side is not Side.CLIENT or not connection.is_main:
            return
        books = connection.books
        below = books.spent - books.granted
        if below > self._overdrawn.get(connection.id, (0,))[0]:
            self._overdrawn[connection.id] = below, connection.evidence(said)
            if self.m.outcome is not None:
                self._overspent(connection)

    def ended(self) -> None:
        """Tell of tokens when all of the source's are known; and of serials that were left out or came back."""
        for connection in (*self.case.source.values(), *self.case.destination.values()):
            self._overspent(connection)
        for by, connections in (
            (Party.SOURCE, self.case.source),
            (Party.DESTINATION, self.case.destination),
        ):
            for connection in connections.values():
                self._serials(by, connection)

    # The state of the source ----------------------------------------------------------------------------

    def _state(self, connection: ConnectionState, said: Said) -> None:
        fields = _fields(connection, said)
        if fields is None:
            return
        evidence = connection.evidence(said)
        if connection.channel_type == ChannelType.INPUTS:
            self._motions(connection, fields["motion_count"], evidence)
        elif connection.channel_type == ChannelType.MAIN:
            self._tokens(connection, fields["char_device"], evidence)
        elif connection.channel_type == ChannelType.DISPLAY and connection.last_copy is not None:
            last = glz_id(connection.last_copy)
            number = fields["glz_dict"]["last_image_id"]
            if last is not None and number <= last:
                text = f"last_image_id is {number}, but image {last} has been sent: the destination would use it once more"
                self.case.report(
                    "R52", Party.SOURCE, text, connection.evidence(connection.last_copy), evidence
                )

    def _motions(self, connection: ConnectionState, count: int, evidence: Evidence) -> None:
        known = self.case.past.motions.get(connection.id)
        if known is None:
            return
        # A server that acknowledges again after a migration that came to nothing forgets what is above four.
        forgotten = self._came_to_nothing(connection) and (known - count) % _ACKNOWLEDGED == 0
        if count == known or (forgotten and count < known):
            return
        text = f"motion_count is {count}; {counted(known, 'mouse message')} of the client had not been acknowledged"
        self.case.report("R51", Party.SOURCE, text, evidence)

    def _came_to_nothing(self, connection: ConnectionState) -> bool:
        previous = self.case.previous
        return previous is not None and previous.m.source_hop == connection.hop

    def _tokens(self, connection: ConnectionState, device: Fields, evidence: Evidence) -> None:
        books, tokens = connection.books, device["num_client_tokens"]
        held = None if books.restarted else books.balance
        beyond = tokens + device["write_num_client_tokens"] > AGENT_TOKENS  # R47
        if device["connected"] and held is not None and tokens not in {held, NO_LIMIT} and not beyond:
            text = f"num_client_tokens is {tokens}; the client holds {held}"
            self.case.report("R53", Party.SOURCE, text, evidence)

    # What follows ---------------------------------------------------------------------------------------

    def _image(self, connection: ConnectionState, said: Said) -> None:
        """The first image of the destination that is in the dictionary."""
        first = glz_id(said)
        if first is None:
            return
        number, carried = self._next_image.pop(connection.id)
        # Two displays of one session take images from one dictionary: each has its own idea of where that stood.
        if first < number:
            text = f"the destination's first image has the number {first}; the state that it was given says {number}"
            evidence = connection.evidence(said)
            self.case.report("R52", Party.DESTINATION, text, carried, evidence, severity=Severity.WARNING)

    def _overspent(self, connection: ConnectionState) -> None:
        below, evidence = self._overdrawn.get(connection.id, (0, None))
        books = connection.books
        if evidence is None or books.restarted or books.unread:
            return
        tokens = books.tokens
        source = self.case.source.get("main:0")
        arriving = self.case.destination.get("main:0") is connection and self.m.performed is Kind.SEAMLESS
        if arriving and source is not None:
            tokens = source.books.balance  # with those that the capture shows a little later than the switch
        if tokens is not None and below > tokens:
            text = f"the client sent {counted(below - tokens, 'agent message')} more than it had tokens for"
            self.case.report("R54", Party.CLIENT, text, evidence, needs=("main:0",))

    def _serials(self, by: Party, connection: ConnectionState) -> None:
        if not connection.full or connection.books.unread:
            return
        serials = connection.books.serials[Side.SERVER]
        for hole in serials.holes:
            if hole.after.time_ns >= self.m.started_ns:
                left_out = (
                    f"serial {hole.first}"
                    if hole.first == hole.last
                    else f"serials {hole.first} to {hole.last}"
                )
                text = f"the {by} left out {left_out}"
                self.case.report("R57", by, text, connection.evidence(hole.after))
                return
        for said in serials.back:
            if said.time_ns >= self.m.started_ns:
                text = f"the {by} used serial {said.serial} once more, or too late"
                self.case.report("R57", by, text, connection.evidence(said))
                return


def glz_id(said: Said) -> int | None:
    """The number of the image in a DRAW_COPY within the GLZ dictionary; None if it is none of those."""
    if said.body is None:
        return None
    try:
        fields = dissect(ChannelType.DISPLAY, Side.SERVER, said.id, said.body).fields
        image = fields["data"]["src_bitmap"]
        header = header_of_image(image) if image is not None else None
    except DissectionError:
        return None
    return None if header is None else header.get("id")


def _fields(connection: ConnectionState, said: Said) -> Fields | None:
    """A state, if it is one."""
    if said.body is None:
        return None
    try:
        return dissect(connection.channel_type or 0, said.side, said.id, said.body).fields
    except DissectionError:
        return None
