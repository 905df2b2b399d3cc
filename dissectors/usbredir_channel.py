"""Usbredir channel (type 9): a USB device of the client's in the guest; the stream is the usbredir protocol's.

Source: spice-common spice.proto, UsbredirChannel, which is SpicevmcChannel and nothing more.
"""

from typing import Final

from dissectors import spicevmc
from dissectors.message import table

SERVER_MESSAGES: Final = table(*spicevmc.FROM_SERVER)
CLIENT_MESSAGES: Final = table(*spicevmc.FROM_CLIENT)
