"""A migration as its client lives it. Source: spice-gtk channel-main.c (main_migrate_connect, main_handle_migrate_*)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from dissectors.capabilities import MainCap, has_capability
from dissectors.channels import ChannelType
from dissectors.destination import host_name, is_usual_layout
from dissectors.message_ids import Main, MainC
from dissectors.registry import build, message_name
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.simulate.errors import ConnectionLost, LinkRefused, RuleBroken, SimulationError
from spiceproxy.simulate.groups import leaves
from spiceproxy.simulate.migrate_data import DisplayData
from spiceproxy.simulate.steps import PHASE, Machine, Order, Phase
from spiceproxy.simulate.wire import MAIN, Wire

if TYPE_CHECKING:
    from spiceproxy.simulate.client_channel import ClientChannel
    from spiceproxy.simulate.client_session import ClientSession

_NO_PORT: Final = {0, 0xFFFF}
_VERSION: Final = 1
# What happens on two connections within this time may have crossed: a SWITCH_HOST and our reply, a channel that died and
# MIGRATE on the others. That breaks no rule.
_CROSSING_S: Final = 0.5


@dataclass(slots=True)
class MigrationReport:
    """What became of one migration.

    Attributes:
        kind: ``seamless``, ``semi-seamless``, ``switch-host`` or ``cancelled``; ``pending`` until it is known.
        source, destination: As the client was told; behind a proxy that is the proxy.
        reply: What BEGIN was answered with, as a message name; None without BEGIN.
        refusal: Why the client could not connect, if so.
        began_at, ended_at: Seconds of trio's clock.
        moved: Channels that are on the destination, with this end of their connection.
    """

    source: Address
    destination: Address
    began_at: float
    kind: str = "pending"
    reply: str | None = None
    refusal: str | None = None
    ended_at: float | None = None
    moved: dict[str, Address] = field(default_factory=dict)


class ClientMigration:
    """The migrations of one session, one after the other.

    Attributes:
        tried_seamless: DO_SEAMLESS was sent in the last attempt.
    """

    def __init__(self, session: "ClientSession") -> None:
        """Begin without a migration."""
        self._session, self._client = session, session.client
        self._phase: Machine[Phase, Order] = Machine(
            Phase.NONE, PHASE, otherwise="R19", by=Side.SERVER, channel=MAIN.name
        )
        self._report: MigrationReport | None = None
        self._retired: list[Wire] = []
        self._freezers: dict[int, str] = {}
        self._frozen: set[int] = set()
        self._replied_at = self._began_at = self._switching_since = 0.0
        self._seamless_switch = False
        self.tried_seamless = False

    @property
    def misses_channels(self) -> bool:
        """Whether channels switch by MIGRATE, and every other should have been told by now."""
        switching = self._phase.state is Phase.SWITCHING and self._seamless_switch
        return switching and trio.current_time() - self._switching_since > _CROSSING_S

    async def begin(self, fields: Mapping[str, Any], *, seamless: bool) -> None:
        """Connect to the destination and say how that went. Until then main is not read, and nothing else is sent.

        Raises:
            RuleBroken: BEGIN is not allowed, or the destination broke a rule.
        """
        session, main = self._session, self._session.main
        assert main is not None  # noqa: S101 - it brought BEGIN
        name = message_name(
            ChannelType.MAIN, Side.SERVER, Main.MIGRATE_BEGIN_SEAMLESS if seamless else Main.MIGRATE_BEGIN
        )
        self._judge_begin(main, name, fields, seamless=seamless)
        self._phase.step(Order.BEGIN, name)
        destination = self._destination(fields["dst_info"])
        self._report = MigrationReport(session.server, destination, trio.current_time())
        self._client.migrations.append(self._report)
        self._began_at = trio.current_time()
        main.outbox.held = True
        self.tried_seamless = False
        await session.all_linked()
        try:
            if destination.port in _NO_PORT:
                raise ConnectionLost(f"{name} names no plain port, and there is no TLS here")
            agreed = await self._connect(destination, fields.get("src_mig_version") if seamless else None)
        except* (ConnectionLost, LinkRefused) as group:
            self._drop_targets()
            self._report.refusal = str(leaves(group)[0])
            reply, self._phase.state = MainC.MIGRATE_CONNECT_ERROR, Phase.REFUSED
        else:
            reply = MainC.MIGRATE_CONNECTED_SEAMLESS if agreed else MainC.MIGRATE_CONNECTED
            self._phase.state = Phase.SEAMLESS if agreed else Phase.CONNECTED
        self._report.reply = message_name(ChannelType.MAIN, Side.CLIENT, reply)
        self._replied_at = trio.current_time()
        main.put(reply, urgent=True)
        main.outbox.held = False
        main.outbox.kick()

    def _judge_begin(
        self, main: "ClientChannel", name: str, fields: Mapping[str, Any], *, seamless: bool
    ) -> None:
        caps = self._client.options.main_caps
        if not has_capability(caps, MainCap.SEMI_SEAMLESS_MIGRATE):
            raise main.broken("R2", name)
        both = has_capability(caps, MainCap.AGENT_CONNECTED_TOKENS) and has_capability(
            caps, MainCap.SEAMLESS_MIGRATE
        )
        if seamless and not both:
            raise main.broken("R3", name)
        self._judge_destination(main, name, fields["dst_info"])
        if seamless and fields["src_mig_version"] != _VERSION:
            self._client.remarks.append(f"{name} has src_mig_version {fields['src_mig_version']} (R6)")

    def _judge_destination(self, main: "ClientChannel", name: str, fields: Mapping[str, Any]) -> None:
        if fields["port"] in _NO_PORT and fields["sport"] in _NO_PORT:
            raise main.broken("R5", f"{name} with ports {fields['port']} and {fields['sport']}")
        if not host_name(fields["host_data"]):
            raise main.broken("R4", f"{name} without a host")
        if not is_usual_layout(fields):
            self._client.remarks.append(f"{name} lays its strings out in an unusual way (R4)")

    def _destination(self, fields: Mapping[str, Any]) -> Address:
        host = host_name(fields["host_data"])
        assert host  # noqa: S101 - _judge_destination has seen to it
        if fields["port"] in _NO_PORT and self._client.options.tls is not None:
            secure = Address(host, fields["sport"])  # spice-gtk takes the plain port where there is one
            self._client.secure[secure] = host_name(fields["cert_subject_data"]) or None
            return secure
        return Address(host, fields["port"])

    async def _connect(self, destination: Address, version: int | None) -> bool:
        """Link every channel at the destination: whether that is agreed to be seamless."""
        session, main = self._session, self._session.main
        assert main is not None  # noqa: S101 - as in begin
        linked = await session.link(destination, MAIN, connection_id=main.session_id)
        main.target = linked.wire
        agreed = False

        async def handshake(version: int) -> None:
            nonlocal agreed
            agreed = await self._ask_seamless(linked.wire, version)

        async def link(channel: "ClientChannel") -> None:
            other = await session.link(destination, channel.key, connection_id=main.session_id)
            channel.target = other.wire

        async with trio.open_nursery() as nursery:
            if version is not None and has_capability(linked.channel_caps, MainCap.SEAMLESS_MIGRATE):
                self.tried_seamless = True
                nursery.start_soon(handshake, version)
            for channel in reversed(session.channels.values()):
                if channel is not main:
                    nursery.start_soon(link, channel)
        return agreed

    async def _ask_seamless(self, wire: Wire, version: int) -> bool:
        """DO_SEAMLESS and its answer."""
        body = build(ChannelType.MAIN, Side.CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS, {"src_version": version})
        await wire.send(MainC.MIGRATE_DST_DO_SEAMLESS, body)
        message = None
        with trio.move_on_after(self._client.options.link_timeout_s):
            message = await wire.receive()
        if message is None:
            raise ConnectionLost(f"{wire.key.name}: {wire.remote} does not answer DO_SEAMLESS")
        name = message_name(ChannelType.MAIN, Side.SERVER, message.type)
        if message.type == Main.MIGRATE_DST_SEAMLESS_ACK:
            if version > _VERSION:
                raise RuleBroken("R15", by=Side.SERVER, channel=MAIN.name, detail=f"ACK to version {version}")
            return True
        if message.type != Main.MIGRATE_DST_SEAMLESS_NACK:
            rule = "R17" if message.type in {Main.INIT, Main.CHANNELS_LIST} else "R14"
            raise RuleBroken(
                rule, by=Side.SERVER, channel=MAIN.name, detail=f"{name} in answer to DO_SEAMLESS"
            )
        return False

    def order(self, order: Order, channel: "ClientChannel") -> None:
        """MIGRATE has come on a channel.

        Raises:
            RuleBroken: The session is not connected to a seamless destination (R19, R20).
        """
        if self._phase.state is not Phase.SWITCHING:
            self._switching_since = trio.current_time()
        self._phase.step(order, order.name, channel=channel.name)
        self._seamless_switch = True

    def freeze(self, data: DisplayData, channel: "ClientChannel") -> None:
        """A display leaves: note whose pixmap cache it freezes.

        Raises:
            RuleBroken: Another display has frozen that cache already (R37).
        """
        self._frozen.add(data.pixmap_cache_id)
        if data.freezer:
            first = self._freezers.setdefault(data.pixmap_cache_id, channel.name)
            if first != channel.name:
                raise channel.broken("R37", f"pixmap cache {data.pixmap_cache_id} was frozen by {first}")

    def retire(self, wire: Wire) -> None:
        """Keep a source connection until all channels have switched."""
        self._retired.append(wire)

    def channel_lost(self) -> None:
        """A channel has died; if it was the last that had to switch, the others need not wait."""
        if self._phase.state is Phase.SWITCHING and self._seamless_switch:
            self.channel_switched()

    def channel_switched(self) -> None:
        """One more channel is on the destination; after the last the source is left.

        Raises:
            RuleBroken: No display has frozen a pixmap cache that they share (R37).
        """
        session, report = self._session, self._report
        if any(channel.target is not None for channel in session.channels.values()):
            return
        if missing := self._frozen - self._freezers.keys():
            channel = session.find(ChannelType.DISPLAY)
            raise channel.broken("R37", f"nobody has frozen pixmap cache {min(missing)}")
        assert report is not None  # noqa: S101 - a switch has a BEGIN
        self._finish("seamless")

    def cancel(self) -> None:
        """The migration is off.

        Raises:
            RuleBroken: It has ended already (R19).
        """
        self._phase.step(Order.CANCEL, "MIGRATE_CANCEL")
        self._drop_targets()
        if self._report is not None:
            self._conclude(self._report, "cancelled")

    def end(self) -> None:
        """Leave the source, all channels at once, and say so to the destination.

        Raises:
            RuleBroken: END is not allowed, or the destination was not silent (R18, R21).
        """
        self._phase.step(Order.MIGRATE_END, "MIGRATE_END")
        session, main = self._session, self._session.main
        assert main is not None  # noqa: S101 - it brought END
        self._seamless_switch = False
        for channel in session.channels.values():
            # After a NACK the destination's main may have sent its latency PINGs.
            asked = channel is main and self.tried_seamless
            if channel.target is not None and channel.target.has_unread() and not asked:
                raise channel.broken("R18", "the destination has written before MIGRATE_END")
            channel.outbox.held = True
            channel.wire.close()
        main.reset_to_target()
        main.expect_arrival()
        main.put(MainC.MIGRATE_END, urgent=True)

    def main_has_arrived(self) -> None:
        """MAIN_INIT of a semi-seamless destination: the other channels start over."""
        if self._phase.state is not Phase.SWITCHING:
            return
        for channel in self._session.channels.values():
            if channel.target is not None:
                channel.reset_to_target()
                channel.open()
        self._finish("semi-seamless")

    def switch_host(self, fields: Mapping[str, Any]) -> None:
        """Leave this session and start a new one elsewhere.

        Raises:
            RuleBroken: The client is connected to the destination (R22), or is switching (R19).
        """
        session, main = self._session, self._session.main
        assert main is not None  # noqa: S101 - it brought SWITCH_HOST
        self._judge_destination(main, "SWITCH_HOST", fields)
        now, connected = trio.current_time(), self._phase.state in {Phase.CONNECTED, Phase.SEAMLESS}
        if self._phase.state is Phase.SWITCHING:
            raise main.broken("R19", "SWITCH_HOST while channels are switching")
        # A reply that came too late is void, and one that came a moment ago may not have been seen yet.
        in_time = self._replied_at - self._began_at < self._client.options.connect_timeout_s
        if connected and in_time and now - self._replied_at > _CROSSING_S:
            raise main.broken(
                "R22", f"SWITCH_HOST {now - self._replied_at:.1f} s after {self._report_name()}"
            )
        destination = self._destination(fields)
        report = self._report
        if report is None or report.kind != "pending":
            report = MigrationReport(session.server, destination, now)
            self._client.migrations.append(report)
        report.kind, report.destination = "switch-host", destination
        self._phase.state = Phase.SWITCHING
        if destination.port in _NO_PORT:
            raise SimulationError("SWITCH_HOST names no plain port, and there is no TLS here")
        session.end(destination)

    def _report_name(self) -> str:
        return (self._report.reply if self._report is not None else None) or "the reply"

    def close(self) -> None:
        """Close everything that is not a channel's current connection."""
        self._drop_targets()
        self._close_retired()

    def _finish(self, kind: str) -> None:
        session, report = self._session, self._report
        assert report is not None  # noqa: S101 - a switch has a BEGIN
        self._close_retired()
        session.server = report.destination
        self._phase.state, self._seamless_switch = Phase.NONE, False
        self._freezers.clear()
        self._frozen.clear()
        for channel in session.channels.values():
            channel.settle()
        self._conclude(report, kind)

    def _conclude(self, report: MigrationReport, kind: str) -> None:
        report.kind, report.ended_at = kind, trio.current_time()
        if kind != "cancelled":
            report.moved = {channel.name: channel.wire.local for channel in self._session.channels.values()}
        self._report = None
        self._client.notify()

    def _close_retired(self) -> None:
        for wire in self._retired:
            wire.close()
        self._retired.clear()

    def _drop_targets(self) -> None:
        for channel in self._session.channels.values():
            if channel.target is not None:
                channel.target.close()
                channel.target = None
