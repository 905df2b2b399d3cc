"""A whole live migration without QEMU: simulated servers and a simulated client, through the real proxy.

`run_demo` plays it on loopback sockets and tells what happens, one `Happening` at a time, in the order in which the
servers saw it. Its verdict does not rest on belief: every channel is looked up in the client's own list, in the
proxy's table and in the destination's list of peers, and the three have to agree on the addresses.
"""

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

import trio

from spiceproxy.demo.result import (
    KINDS,
    ChannelPlace,
    DemoOptions,
    DemoResult,
    EventKind,
    Happening,
    HopResult,
    MigrationKind,
)
from spiceproxy.demo.tls import DemoTls
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import Event, EventLog, Sink, jsonl_file, only
from spiceproxy.injection import Faults
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    RuleBroken,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    SimulationError,
    Trace,
)
from spiceproxy.simulate.cast import Cast
from spiceproxy.simulate.meanings import meaning_of, short_name
from spiceproxy.simulate.usage import DRAWINGS, use

__all__ = ["CHANNELS", "KINDS", "DemoOptions", "DemoResult", "Happening", "MigrationKind", "run_demo"]

CHANNELS: Final = ("display", "inputs", "cursor", "playback", "record", "usbredir", "webdav")

_STEP_S: Final = 10.0  # nothing here takes a tenth of that on a machine that is not stuck
_CLIENT: Final = "c"
_OUTCOMES: Final[dict[str, Outcome]] = {
    "seamless": Outcome.MIGRATE,
    "semi-seamless": Outcome.MIGRATE_END,
    "switch-host": Outcome.SWITCH_HOST,
}
# Traffic of a session that goes on all the time; told in sums.
_ROUTINE: Final = frozenset(
    {
        "SPICE_MSG_PING", "SPICE_MSGC_PONG", "SPICE_MSGC_ACK", "SPICE_MSG_DISPLAY_DRAW_FILL", "SPICE_MSG_CURSOR_MOVE",
        "SPICE_MSGC_INPUTS_MOUSE_MOTION", "SPICE_MSG_INPUTS_MOUSE_MOTION_ACK", "SPICE_MSGC_INPUTS_KEY_DOWN",
        "SPICE_MSGC_INPUTS_KEY_UP",
    }
)  # fmt: skip


async def run_demo(options: DemoOptions, tell: Callable[[Happening], None]) -> DemoResult:
    """Play the demo.

    Args:
        options: What to show.
        tell: Called with everything that happens; must not block.

    Raises:
        UsageError: A file cannot be written.
    """
    if options.faults is None:
        return await Demo(options, tell).run()
    from spiceproxy.demo.trial import Trial

    return await Trial(options, tell).run()


class Demo:
    """One demo: a proxy, servers, a client, and the account of them."""

    def __init__(self, options: DemoOptions, tell: Callable[[Happening], None]) -> None:
        self._options, self._tell = options, tell
        self._started_ns, self._step = time.time_ns(), "starting"
        self._tls = DemoTls() if options.tls else None
        self._password = secrets.token_hex(8) if options.ticket else None
        self._cast: Cast | None = None
        self._proxy: Proxy | None = None
        self._sums: Counter[tuple[str, str, str]] = Counter()  # sender, receiver, message
        self._reasons: list[str] = []
        self._hops: list[HopResult] = []
        self._channels: dict[str, ChannelPlace] = {}

    async def run(self) -> DemoResult:
        with contextlib.ExitStack() as stack:
            sinks: list[Sink] = [self._proxy_event]
            if self._options.events is not None:
                file = stack.enter_context(jsonl_file(self._options.events))
                sinks.append(only(self._options.events_filter, file))
            async with trio.open_nursery() as nursery:
                self._cast = cast = Cast(
                    nursery, self._make_server, refuse=self._options.migration == "switch-host"
                )
                stack.callback(cast.close)
                first = await cast.start()
                config = ProxyConfig(
                    server=cast.addresses[first.name],
                    record=self._options.record,
                    events=EventLog(sinks),
                    faults=await self._faults(nursery),
                    control=self._options.control,
                )
                if self._tls is not None:
                    cast.subject = self._tls.subject
                    tls = self._tls.proxy(cast.addresses[first.name], first.name)
                    stack.callback(self._tls.close)
                    config = replace(config, server=None, listen=None, tls=tls)
                wrong: UsageError | None = None
                try:
                    await self._play_through(config, cast, first)
                except UsageError as error:  # raised again outside, where no nursery wraps it
                    wrong = error
                nursery.cancel_scope.cancel()
            if wrong is not None:
                raise wrong
        return self._result()

    async def _play_through(self, config: ProxyConfig, cast: Cast, first: SimulatedServer) -> None:
        async with open_proxy(config) as proxy:
            self._proxy = proxy
            client = SimulatedClient(
                ClientOptions(
                    name=_CLIENT, password=self._password, tls=self._tls.client() if self._tls else None
                )
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(client.run)
                try:
                    await self._play(proxy, client, cast, first)
                except trio.TooSlowError:
                    self._reasons.append(f"{self._step}: not done within {_STEP_S:g} s")
                except SimulationError as error:
                    self._reasons.append(f"{self._step}: {error}")
                nursery.cancel_scope.cancel()
            self._hold_against(error for peer in (client, *cast.servers) for error in peer.broken_rules)

    def _hold_against(self, broken: Iterable[RuleBroken]) -> None:
        """Rules that the peers saw broken."""
        self._reasons += [
            text for text in map(str, broken) if not any(text in known for known in self._reasons)
        ]

    async def _faults(self, _nursery: trio.Nursery) -> Faults | None:
        """What the proxy is to break."""
        return None

    def _make_server(self, number: int, port: int) -> SimulatedServer:
        options = ServerOptions(
            name=f"s{number}",
            port=port,
            channels=(*CHANNELS, *(each for each in self._options.channels if each not in CHANNELS)),
            tls=self._tls.server(f"s{number}") if self._tls is not None else None,
            seamless=self._options.migration != "semi-seamless",
            incoming=number > 1,
            password=self._password,
            observer=self._trace,
        )
        return SimulatedServer(options)

    # The account.

    def _now_s(self, time_ns: int | None = None) -> float:
        return round(((time_ns or time.time_ns()) - self._started_ns) / 1e9, 6)

    def _phase(self, text: str) -> None:
        directions = sorted({(sender, receiver) for sender, receiver, _ in self._sums})
        for sender, receiver in directions:
            counts = [
                f"{count} {short_name(name)}"
                for (*way, name), count in self._sums.items()
                if way == [sender, receiver]
            ]
            self._tell(
                Happening("sum", self._now_s(), f"besides: {', '.join(sorted(counts))}", sender, receiver)
            )
        self._sums.clear()
        self._tell(Happening("phase", self._now_s(), text))

    def _trace(self, trace: Trace) -> None:
        """Servers see both directions: what they send, and what reaches them from the client."""
        sender, receiver = (trace.peer, _CLIENT) if trace.sent else (_CLIENT, trace.peer)
        name, channel = trace.name, trace.channel.name
        if routine := name in _ROUTINE:
            self._sums[sender, receiver, name] += 1
        kind: EventKind = "routine" if routine else "message"
        when = self._now_s(trace.time_ns)
        self._tell(Happening(kind, when, meaning_of(trace), sender, receiver, channel, name, trace.size))

    def _proxy_event(self, event: Event) -> None:
        """What the proxy's event log says, in words."""
        meaning, more = "", dict[str, Any]()
        match event["event"]:
            case "channel_linked":
                meaning = f"Linked through the proxy as its connection {event['connection']}, {event['header']} header."
                more = {"event": "link", "sender": _CLIENT, "receiver": self._name(event["server"])}
            case "destination_opened":
                server, listen = event["destination"], event["listen"]
                meaning = f"The proxy listens on {listen} from now on, in front of {self._name(server)} at {server}."
            case "message_rewritten":
                port = "port" if self._tls is None else "sport"
                before, after = (f"{event[key]['host']}:{event[key][port]}" for key in ("before", "after"))
                meaning = f"The proxy rewrites it: c is sent to {after}, not to {before}."
                more = {"message": event["name"]}
            case "link_failed" | "link_refused" | "message_not_rewritten":
                meaning = f"{event['event'].replace('_', ' ')}: {event.get('reason') or event.get('error')}"
            case "fault_fired":
                meaning = f"A fault fires, {event['fault']}: {event['actions']}, at {event['name']}"
            case "fault_failed":
                meaning = f"The fault {event['fault']} fails: {event['reason']}"
            case "recording_failed":
                self._reasons.append(f"the recording failed: {event['reason']}")
        if meaning:
            when, channel = self._now_s(event["time_ns"]), event.get("channel", "")
            self._tell(
                Happening(
                    **{"event": "proxy", "time_s": when, "meaning": meaning, "channel": channel, **more}
                )
            )

    def _name(self, address: str) -> str:
        addresses = self._cast.addresses if self._cast is not None else {}
        return next((name for name, known in addresses.items() if str(known) == address), address)

    # The play.

    @contextlib.contextmanager
    def _doing(self, step: str) -> Iterator[None]:
        self._step = step
        with trio.fail_after(_STEP_S):
            yield

    async def _play(self, proxy: Proxy, client: SimulatedClient, cast: Cast, source: SimulatedServer) -> None:
        self._phase(f"c connects to the proxy at {proxy.address}, which stands before s1 at {source.address}")
        with self._doing("connecting"):
            await self._connect(proxy, client)
            await source.wait_client_arrived()
            await client.wait_until(lambda: client.received["SPICE_MSG_DISPLAY_MARK"] > 0)
        for name, place in self._look(proxy, client, source, 0).items():
            self._channels[name] = replace(place, was=place.now)
        await self._use(client, source)
        for hop in range(1, self._options.hops + 1):
            destination = await cast.destination(source)
            await self._migrate(client, cast, source, destination)
            await self._use(client, destination)
            self._follow(self._look(proxy, client, destination, hop), destination)
            source = destination
        self._phase("The demo is over")

    async def _connect(self, proxy: Proxy, client: SimulatedClient) -> None:
        secure = self._tls is not None
        await client.connect(*proxy.address, secure=secure, subject=proxy.host_subject)

    async def _use(self, client: SimulatedClient, server: SimulatedServer) -> None:
        """Traffic both ways, that has to arrive."""
        self._phase(f"The guest runs on {server.name}: it draws, the user moves the mouse and hits a key")
        with self._doing(f"using {server.name}"):
            await use(client, server)

    async def _migrate(
        self, client: SimulatedClient, cast: Cast, source: SimulatedServer, destination: SimulatedServer
    ) -> None:
        began, was, will = time.monotonic(), source.name, destination.name
        self._phase(f"The guest is to move from {was} to {will}: {was} announces {will} to c")
        with self._doing(f"announcing {will}"):
            cast.announce(source, will)
            source.draw(DRAWINGS // 4)  # the guest runs on meanwhile
            state = await source.wait_client_connected()
        await cast.listen(destination)
        self._phase(f"{was} knows: {state.value}. The guest moves to {will}, and {was} tells c how to follow")
        with self._doing(f"migrating to {will}"):
            source.hand_over_to(destination)
            client.send_motion(1, 1)  # on its way when the channel moves
            told = await source.migrate_end()
            report = await client.wait_migrated()
            await destination.wait_client_arrived()
        self._hops.append(HopResult(was, will, report.kind, told.name, round(time.monotonic() - began, 6)))
        asked = self._options.migration
        if report.kind != asked or told is not _OUTCOMES[asked]:
            self._reasons.append(f"{was} to {will}: {asked} was asked for, it came out as {report.kind}")

    def _look(
        self, proxy: Proxy, client: SimulatedClient, server: SimulatedServer, hop: int
    ) -> dict[str, ChannelPlace]:
        """Where the client's channels are: only what client, proxy and server agree on counts."""
        relayed = {
            view.client: view
            for session in proxy.sessions
            for view in session.connections
            if view.state == "open"
        }
        peers = {view.name: view.peer for view in server.channels}
        places = {}
        for mine in client.channels:
            via = relayed.get(mine.local)
            if via is None or via.upstream is None or via.server != server.address or via.hop != hop:
                continue
            if via.channel == mine.name and peers.get(mine.name) == via.upstream:
                now, messages = f"{server.name} {via.server}", via.messages
                places[mine.name] = ChannelPlace(
                    mine.name, "", now, via.id, mine.header, messages["server"], messages["client"]
                )
        return places

    def _follow(self, places: dict[str, ChannelPlace], server: SimulatedServer) -> None:
        """Note where every channel is now; one that is not found has been lost on the way."""
        for name, known in self._channels.items():
            if (place := places.get(name)) is not None:
                self._channels[name] = replace(place, was=known.was)
            else:
                self._channels[name] = replace(known, now="", connection="")
                self._reasons.append(f"{name} is not on {server.name} through the proxy")

    def _result(self) -> DemoResult:
        options, ok = self._options, not self._reasons
        way = " → ".join(["s1", *(hop.destination for hop in self._hops)])
        count = len(self._channels)
        if ok:
            verdict = f"{options.migration}, {way}: all {count} channels moved, on the proxy all the way, and they work"
        else:
            verdict = f"failed: {self._reasons[0]}"
        record = str(options.record) if options.record is not None else None
        channels = [self._channels[name] for name in sorted(self._channels)]
        report = None
        if (proxy := self._proxy) is not None:
            report = proxy.report(expected=options.expected, file=record)
        return DemoResult(
            ok, verdict, self._reasons, options.migration, self._hops, channels, self._now_s(), record, report
        )
