"""Webdav channel (type 11): a folder of the client's in the guest; a port whose stream is several HTTP connections.

Source: spice-common spice.proto, WebDAVChannel, which is PortChannel and nothing more.
"""

from typing import Final

from dissectors import port_channel
from dissectors.message import table

SERVER_MESSAGES: Final = table(*port_channel.FROM_SERVER)
CLIENT_MESSAGES: Final = table(*port_channel.FROM_CLIENT)
