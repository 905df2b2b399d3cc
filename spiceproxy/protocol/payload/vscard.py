"""Smartcard messages inside SMARTCARD_DATA: one in each, so there is no state."""

from typing import ClassVar, Final

from dissectors.errors import DissectionError
from dissectors.fields import read
from dissectors.side import Side
from dissectors.smartcard_channel import SmartcardData
from dissectors.vscard import VSC_MESSAGES
from spiceproxy.protocol.payload.inner import Inner, take_apart

_SMARTCARD_DATA: Final = 101  # both ways. Source: spice-common spice.proto, SmartcardChannel


class VscardPayload:
    """Smartcard messages of a smartcard channel."""

    protocol: ClassVar[str] = "vscard"

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:  # noqa: ARG002 - the same both ways
        """Return the smartcard message in this message."""
        if message_id != _SMARTCARD_DATA:
            return []
        try:
            fields, _ = read(SmartcardData, body)
        except DissectionError:
            return []  # what is wrong with the outer message is said there
        data: bytes = fields.pop("data")
        type_: int = fields["type"]
        return [take_apart(self.protocol, fields, type_, VSC_MESSAGES.get(type_), data)]
