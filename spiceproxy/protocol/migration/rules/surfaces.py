"""Which surfaces the client has on each display, over any number of seamless migrations.

Sources: spice-gtk channel-display.c, display_handle_surface_create(), find_surface(); spice-server dcc.cpp,
dcc_create_surface(). After a seamless switch the client keeps them; a display that is linked anew begins with none.
"""

from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Display
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState
from spiceproxy.protocol.migration.facts import Said

SURFACE_MESSAGES: Final = frozenset({int(Display.SURFACE_CREATE), int(Display.SURFACE_DESTROY)})
MAX_CONNECTIONS: Final = 256
MAX_SURFACES: Final = 4096  # of a connection; what peers can say without end is not kept without end


def is_about_surfaces(channel_type: int | None, side: Side, message_id: int) -> bool:
    """Whether a message makes or destroys a surface."""
    return channel_type == ChannelType.DISPLAY and side is Side.SERVER and message_id in SURFACE_MESSAGES


class Surfaces:
    """Those of one session, by connection."""

    def __init__(self) -> None:
        self._of: dict[str, set[int] | None] = {}  # None: not all that was said of them is known

    def linked(self, connection: ConnectionState) -> None:
        """A display is seen from its beginning."""
        if len(self._of) >= MAX_CONNECTIONS:
            del self._of[next(iter(self._of))]
        self._of[connection.id] = None if connection.midway else set()

    def said(self, connection: ConnectionState, said: Said) -> None:
        """A surface is made or destroyed."""
        ids = self._of.get(connection.id)
        if ids is None:
            return
        if said.body is None or len(said.body) < 4 or len(ids) >= MAX_SURFACES:
            self._of[connection.id] = None
            return
        surface = int.from_bytes(said.body[:4], "little")
        if said.id == Display.SURFACE_CREATE:
            ids.add(surface)
        else:
            ids.discard(surface)

    def inherited(self, source: ConnectionState | None, destination: ConnectionState) -> None:
        """A display has moved with its state."""
        known = self.known(source) if source is not None else None
        self._of[destination.id] = None if known is None else set(known)

    def known(self, connection: ConnectionState) -> set[int] | None:
        """What the client has on a display; None if that is not known."""
        return None if connection.damaged else self._of.get(connection.id)
