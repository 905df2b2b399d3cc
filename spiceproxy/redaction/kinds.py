"""What can be taken out of a capture, and how much of it was."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a secret is: the word for `--keep`, and the row in the table of what was removed."""

    CREDENTIALS = "credentials"
    KEYS = "keys"
    POINTER = "pointer"
    CLIPBOARD = "clipboard"
    FILES = "files"
    AGENT = "agent"
    WEBDAV = "webdav"
    USB = "usb"
    SMARTCARD = "smartcard"
    PORT = "port"
    PIXELS = "pixels"
    SOUND = "sound"
    GUEST = "guest"
    NOTICES = "notices"
    MIGRATION = "migration"
    ADDRESSES = "addresses"
    UNREAD = "unread"


MEANINGS: Final[dict[Kind, str]] = {
    Kind.CREDENTIALS: "tickets, SASL data and the reasons for its failure",
    Kind.KEYS: "scan codes of keys, and lock lights",
    Kind.POINTER: "positions and motion of the pointer",
    Kind.CLIPBOARD: "contents of the clipboard",
    Kind.FILES: "names and contents of files sent to the guest's agent",
    Kind.AGENT: "other data of the guest's agent, and agent messages that are not whole",
    Kind.WEBDAV: "contents of shared folders",
    Kind.USB: "data of USB devices",
    Kind.SMARTCARD: "commands and answers of smart cards, names of readers",
    Kind.PORT: "bytes of ports, and names of ports that are not well known",
    Kind.PIXELS: "images, video, glyphs, cursors, colours, lines; cache ids are numbered anew",
    Kind.SOUND: "sound, both ways",
    Kind.GUEST: "name and UUID of the virtual machine",
    Kind.NOTICES: "texts of NOTIFY",
    Kind.MIGRATION: "device data inside MIGRATE_DATA; equal ones stay equal, different ones different",
    Kind.ADDRESSES: "addresses, host names, certificate subjects, public keys (with --addresses)",
    Kind.UNREAD: "bytes that could not be decoded, and link layer padding",
}

KEEPABLE: Final = tuple(kind for kind in Kind if kind not in {Kind.CREDENTIALS, Kind.ADDRESSES, Kind.UNREAD})
"""What a user may choose to leave in."""


@dataclass
class Removed:
    """How much of one kind."""

    count: int = 0
    bytes: int = 0


@dataclass
class Account:
    """All that was removed."""

    kinds: dict[Kind, Removed] = field(default_factory=dict)
    packets: int = 0  # written
    dropped: int = 0  # packets of other protocols, left out
    unread_packets: int = (
        0  # packets that could not be read: kept, all zero behind what is known of their headers
    )
    comments: int = 0  # packet comments left out
    messages: int = 0
    undecoded: int = 0  # messages whose body was zeroed as a whole
    notes: list[str] = field(default_factory=list)

    def add(self, kind: Kind, size: int, count: int = 1) -> None:
        """Count so many bytes of a kind."""
        if size:
            removed = self.kinds.setdefault(kind, Removed())
            removed.count += count
            removed.bytes += size

    def rows(self) -> Iterable[tuple[Kind, Removed]]:
        """What there is, in the order of the kinds."""
        return [(kind, self.kinds[kind]) for kind in Kind if kind in self.kinds]
