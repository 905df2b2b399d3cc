"""What a packet is to those who take it, whatever file it was in."""

from typing import Final, Literal

MAX_PACKET_BYTES: Final = 1 << 20
"""libpcap makes none above 256 KiB; IPv6 packets put together by a network card ("BIG TCP") may have 512 KiB."""

Order = Literal["little", "big"]

Packet = tuple[int, int, bytes, int, int, int, int, Order]
"""Time in nanoseconds since 1970 (UTC); link type; a buffer, and offsets in it: where the packet begins and where it
ends; bytes of it that were not captured; where its pcapng options end (where it does itself if there are none), and
the byte order of those. A plain tuple over the buffer of the file, since 200,000 of them a second are made."""
