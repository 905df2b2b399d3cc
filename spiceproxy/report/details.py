"""What is known of a message or a channel, in a few lines: what appears when the pointer is over it."""

from collections.abc import Sequence
from typing import Final

from dissectors.side import Side
from spiceproxy.protocol.migration.model import ChannelMigration, Evidence, Migration, Payload, Violation
from spiceproxy.report.words import Clock, duration, leg

MAX_FOUND: Final = 6


class Details:
    """Writes them for one migration.

    Args:
        migration: What happened.
        clock: What moments count from.
    """

    def __init__(self, migration: Migration, clock: Clock) -> None:
        self._migration, self._clock = migration, clock
        self._known: dict[Evidence, list[str]] = {}
        offer, handshake = migration.offered, migration.handshake
        if offer is not None:
            where = [f"{offer.host}"] if offer.host is not None else []
            where += [f"port {offer.port}"] if offer.port not in {None, 0, 0xFFFF} else []
            where += [f"TLS port {offer.sport}"] if offer.sport not in {None, 0, 0xFFFF} else []
            version = [f"version {offer.version}"] if offer.version is not None else []
            self._note(offer.evidence, ", ".join([*where, *version]))
        if handshake.do_seamless is not None and handshake.version is not None:
            self._note(handshake.do_seamless, f"version {handshake.version}")
        for channel in migration.channels.values():
            if channel.migrate is not None and channel.flags is not None:
                self._note(channel.migrate, f"flags: {' + '.join(channel.flag_names) or 'none'}")
            for payload in (channel.data_from_source, channel.data_to_destination):
                if payload is not None:
                    self._payload(payload, channel)

    def message(self, said: Evidence, violations: Sequence[Violation] = ()) -> str:
        """Name, number, moment, way, size, fields, and the rules that it breaks."""
        after = (said.time_ns - self._migration.started_ns) / 1e6
        server = leg(self._migration, said.hop)
        way = f"client → {server}" if said.side is Side.CLIENT else f"{server} → client"
        number = f"message {said.number}, " if said.number is not None else ""
        size = f"{said.size:,} bytes" if said.size != 1 else "1 byte"
        lines = [
            said.name,
            f"{number}{self._clock.moment(said.time_ns)} s, {after:+.3f} ms",
            f"{said.channel}, {said.connection}, {way}",
            size if said.size else "no body",
            *self._known.get(said, []),
        ]
        lines += [f"{each.rule} ({each.severity}): {each.message}" for each in violations[:MAX_FOUND]]
        return "\n".join(lines)

    def channel(self, channel: ChannelMigration) -> str:
        """Its connections, and how long the user saw nothing new."""
        lines = [f"{channel.channel}: {channel.step}"]
        for link, where in ((channel.source, "source"), (channel.destination, "destination")):
            if link is not None:
                state = "linked" if link.linked_ns is not None else link.error or "not linked"
                lines.append(f"{where}: {link.connection}, {link.address}, {state}")
        if channel.pause_ms is not None:
            lines.append(
                f"from the last to the first message that could be seen: {duration(channel.pause_ms)}"
            )
        lines += [each.text for each in self._migration.waiting if each.channel == channel.channel][
            :MAX_FOUND
        ]
        return "\n".join(lines)

    # Not what is in it: keys, clipboard and the like, in pages that people show around.
    def _payload(self, payload: Payload, channel: ChannelMigration) -> None:
        equal = {True: "the same bytes on both ways", False: "NOT the same bytes on both ways", None: ""}
        magic = [f"magic {payload.magic}"] if payload.magic else []
        self._note(payload.evidence, ", ".join([*magic, f"serial {payload.serial}"]))
        self._note(payload.evidence, equal[channel.data_equal])

    def _note(self, said: Evidence, text: str) -> None:
        known = self._known.setdefault(said, [])
        if text and text not in known and len(known) < MAX_FOUND:
            known.append(text)
