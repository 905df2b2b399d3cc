"""How much one direction of a connection reads at once, and what that has cost."""

from typing import Final

from spiceproxy.limits import LOOKING_BURST_S, LOOKING_SHARE
from spiceproxy.relay.buffers import LARGE_BUFFER_BYTES
from spiceproxy.relay.fairness import GIVE_WAY_S, TURN_S, Allowance, Share

# Bytes of one read: as many as TURN_S is enough for, by what the reads before have cost. Many more are large messages.
LEAST_READ_BYTES: Final = 2**10
FIRST_READ_BYTES: Final = 8 * 2**10
# A read of less is that of a peer who keeps up with himself: moves of a mouse, one picture of a small window.
LIGHT_BYTES: Final = 4096
LIGHT_MESSAGES: Final = 4
# For so long messages are looked at until others get their turn.
LOOKING_TURN_S: Final = 0.0003
# A message that was held took no more than this: something was waited for.
MOST_S: Final = 0.005
# And one that is recorded.
MOST_RECORDED_S: Final = 0.00005

# What a read costs at least, as measured: a floor for each, moving bytes, and walking over headers.
READ_S: Final = 15e-6
BYTE_S: Final = 0.5e-9
MESSAGE_S: Final = 0.12e-6
# With TLS bytes are ciphered. A record of TLS, or a packet of a recording, takes longer than a header.
TLS_BYTE_S: Final = 2e-9
APART_MESSAGE_S: Final = 8e-6


class Turns:
    """Of one direction.

    Args:
        share: What the session may use.
        tls: One of the two sides speaks TLS.
        apart: Each message is a record of TLS of its own, or a packet of a recording.

    Attributes:
        read_bytes: How much may be read next.
        unpaid_s: Seconds that went into walking over headers and looking at messages; whoever measures adds to it.
        looked: Messages were looked at in that time.
    """

    __slots__ = (
        "_byte_s", "_looking", "_message_s", "_paid_s", "_share", "looked", "read_bytes", "unpaid_s",
    )  # fmt: skip

    def __init__(self, share: Share, *, tls: bool, apart: bool) -> None:
        self._share = share
        self._looking = Allowance(LOOKING_BURST_S, LOOKING_SHARE)
        self._byte_s = TLS_BYTE_S if tls else BYTE_S
        self._message_s = APART_MESSAGE_S if apart else MESSAGE_S
        self.read_bytes = LEAST_READ_BYTES if apart else FIRST_READ_BYTES
        self.unpaid_s = self._paid_s = 0.0
        self.looked = False

    def looked_at(self) -> float:
        """Pay for messages that were looked at; return for how long to wait before the next one."""
        used_s, self.unpaid_s, self.looked = self.unpaid_s, 0.0, False
        self._paid_s += used_s
        if not self._looking.use(used_s):
            return 0.0  # as much as a migration takes: when a hundred sessions are moved at once, none shall wait for the others
        return self._share.use(used_s)

    def read(self, received: int, messages: int, *, full: bool) -> float:
        """Pay for a read that has been passed on, and see how much may be read next; return for how long to wait.

        Args:
            received: Bytes.
            messages: That began in them.
            full: There may have been more to read.
        """
        if received < LIGHT_BYTES and messages < LIGHT_MESSAGES and not full:
            if not self.looked:  # else they are paid for when there are more of them
                self.unpaid_s = 0.0
            self._paid_s = 0.0
            self._share.light()
            return 0.0
        took_s, self.unpaid_s, self.looked = self.unpaid_s, 0.0, False
        cost_s = READ_S + received * self._byte_s + max(took_s, messages * self._message_s)
        all_s, self._paid_s = self._paid_s + cost_s, 0.0
        if all_s > TURN_S:
            self.read_bytes = max(LEAST_READ_BYTES, int(received * TURN_S / all_s))
        elif full and all_s < TURN_S / 2:
            self.read_bytes = min(LARGE_BUFFER_BYTES, 2 * self.read_bytes)
        wait_s = self._share.use(cost_s)
        return wait_s if wait_s >= GIVE_WAY_S else 0.0
