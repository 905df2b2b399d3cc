"""Tunnel channel (type 7): obsolete. It has no messages: none was ever in spice.proto, and no server offers it."""

from typing import Final

from dissectors.message import table

SERVER_MESSAGES: Final = table()
CLIENT_MESSAGES: Final = table()
