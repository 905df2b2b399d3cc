"""What counts messages, one small account each: acknowledgements, serials, agent tokens.

An account knows by how many messages the two ends differ because of what was dropped and put in between them, and says
what has to be said so that both stay content. Sources: docs of the protocol as in each class.
"""

import struct
from bisect import bisect_right
from typing import Final

SET_ACK: Final = struct.Struct("<II")  # generation, window
# Places where serials shift that are remembered. Waits name messages of the last moments: what lies further back
# counts as the oldest place that is known.
MAX_SHIFTS: Final = 4096
_HALF: Final = MAX_SHIFTS // 2


MAX_PUT_IN: Final = 64  # SET_ACKs that nobody sent and nobody has answered, that are remembered


class Credit:
    """Acknowledgements of messages that the sender's peer did not get as they were sent.

    The receiver acknowledges `received` messages at a time, the sender waits for one acknowledgement per `sent`
    messages of its own. `lacking` is how many messages fewer than the sender sent the receiver got. Never more is
    acknowledged than was sent: what the receiver has acknowledged and what it cannot get add up to less.
    """

    def __init__(self, *, sent: int, received: int) -> None:
        self._sent, self._received = sent, received
        self._acknowledged = 0  # by the receiver, times
        self._given = 0  # to the sender, times
        self.lacking = 0

    def acknowledge(self) -> int:
        """The receiver acknowledges; how many times the sender is to be told of it."""
        self._acknowledged += 1
        return self.due()

    def lack(self, count: int) -> int:
        """So many more messages are lacking (fewer, if negative); how many times the sender is to be told."""
        self.lacking += count
        return self.due()

    def due(self) -> int:
        """How many acknowledgements are due to the sender now; they count as given."""
        credit = self._acknowledged * self._received + self.lacking
        due = max(0, credit // self._sent - self._given)
        self._given += due
        return due


class AckWindow:
    """SET_ACK, ACK_SYNC and ACK of a display or cursor channel.

    The server counts from SET_ACK on, and takes an ACK only after the ACK_SYNC of the same SET_ACK. Source:
    spice-server red-channel-client.cpp, ack handling; spice-gtk spice-channel.c, spice_channel_handle_msg().
    """

    def __init__(self) -> None:
        self._announced: Credit | None = None  # SET_ACK has passed
        self._awaited: int | None = None  # generation of the ACK_SYNC that answers it
        self._credit: Credit | None = None  # and came back
        self._put_in: list[int] = []  # generations of SET_ACKs that no server sent: none expects an answer

    def set_ack(self, sent: bytes, received: bytes) -> None:
        """SET_ACK passes: its body as the server sent it, and as the client gets it."""
        _, sent_window = _set_ack(sent)
        self._awaited, received_window = _set_ack(received)
        self._credit = self._announced = None
        if sent_window and received_window:  # a window of 0 is never acknowledged
            self._announced = Credit(sent=sent_window, received=received_window)

    def put_in(self, body: bytes) -> None:
        """A SET_ACK goes to the client that no server sent."""
        if len(self._put_in) < MAX_PUT_IN:
            self._put_in.append(_set_ack(body)[0])

    def ack_sync(self, body: bytes) -> tuple[bool, int]:
        """ACK_SYNC comes from the client: whether it passes, and how many ACKs follow it at once."""
        generation = int.from_bytes(body[:4], "little")
        if generation == self._awaited:
            self._awaited, self._credit = None, self._announced
            return True, self._credit.due() if self._credit is not None else 0
        if generation in self._put_in:
            self._put_in.remove(generation)
            return False, 0
        return True, 0

    def ack(self) -> int:
        """An ACK comes from the client: how many go to the server in its place."""
        return 1 if self._credit is None else self._credit.acknowledge()

    def lack(self, count: int) -> int:
        """So many more messages do not reach the client: how many ACKs go to the server in the client's place."""
        if self._credit is not None:
            return self._credit.lack(count)
        if self._announced is not None:
            self._announced.lacking += count
        return 0


def _set_ack(body: bytes) -> tuple[int, int]:
    """Generation and window; zeros if there are none."""
    if len(body) < SET_ACK.size:
        return 0, 0
    generation, window = SET_ACK.unpack_from(body)
    return int(generation), int(window)


class Tokens:
    """What the client may still send to the agent, one token a message. Source: spice-server reds.cpp, agent tokens."""

    def __init__(self) -> None:
        self.surplus = 0  # tokens that the server gives back for what the client never sent

    def lack(self, count: int) -> int:
        """So many messages of the client more do not reach the server: tokens to give back in its place."""
        self.surplus -= count
        back = max(0, -self.surplus)
        self.surplus += back
        return back

    def give(self, count: int) -> int:
        """The server gives tokens back: how many of them are the client's."""
        kept = min(self.surplus, count)
        self.surplus -= kept
        return count - kept

    def start(self) -> None:
        """Both sides begin anew."""
        self.surplus = 0


class Serials:
    """How the numbers of one direction of a channel differ between who sends and who receives.

    Attributes:
        base: What is added to a connection's own count of messages: 0, or after a seamless migration the number
            before the one that the destination begins with.
        last: The highest number that the sender has used.
    """

    def __init__(self) -> None:
        self.base = self.last = 0
        self._at: list[int] = []  # from this number of the sender on ...
        self._shifts: list[int] = []  # ... the receiver's number is so much higher
        self._before = 0  # below the first of these places

    def shift(self, number: int) -> int:
        """How much higher the receiver's number of the sender's message `number` is."""
        place = bisect_right(self._at, number)
        return self._shifts[place - 1] if place else self._before

    @property
    def present(self) -> int:
        """The shift of what comes next."""
        return self._shifts[-1] if self._shifts else self._before

    def move(self, number: int, by: int) -> None:
        """From the sender's message `number` on, and none before the last such place, the receiver's are `by` higher."""
        number = max(number, self._at[-1]) if self._at else number
        total = self.present + by
        if self._at and self._at[-1] == number:
            self._shifts[-1] = total
        else:
            self._at.append(number)
            self._shifts.append(total)
        if len(self._at) > MAX_SHIFTS:
            self._before = self._shifts[_HALF - 1]
            del self._at[:_HALF], self._shifts[:_HALF]
