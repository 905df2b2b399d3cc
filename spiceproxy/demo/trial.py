"""The demo with faults: whatever comes of it, within a time limit, is the result.

The peers are strict: one that finds a rule broken ends its session, where a real one might abort, or not notice.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import trio

from spiceproxy.demo.result import DemoResult, HopResult
from spiceproxy.demo.run import Demo
from spiceproxy.faults.scenarios import Outcome
from spiceproxy.injection import Faults
from spiceproxy.proxy import Proxy
from spiceproxy.simulate import RuleBroken, ServerOptions, SimulatedClient, SimulatedServer, SimulationError
from spiceproxy.simulate.cast import Cast
from spiceproxy.simulate.move import move_guest

T = TypeVar("T")

# What scenarios do to a session without a migration begins 2 s after its start.
_QUIET_S = 3.0
_LOOK_S = 3.0


class Trial(Demo):
    """One demo with faults."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # as of Demo
        self._outcome: Outcome = "session-lost"
        self._findings: list[str] = []
        self._other: SimulatedServer | None = None

    async def _faults(self, nursery: trio.Nursery) -> Faults | None:
        faults = self._options.faults
        assert faults is not None  # noqa: S101  else this is a plain demo
        variables = dict(faults.variables)
        if self._options.other_server:
            self._other = other = SimulatedServer(ServerOptions(name="other"))
            address = await nursery.start(other.serve)
            variables = {"other_host": address.host, "other_port": address.port, **variables}
        return replace(faults, variables=variables)

    async def _play(self, proxy: Proxy, client: SimulatedClient, cast: Cast, source: SimulatedServer) -> None:
        self._phase(f"c connects to the proxy at {proxy.address}, which stands before s1 at {source.address}")
        server = source
        with trio.move_on_after(self._options.time_limit_s) as limit:
            server = await self._try_all(proxy, client, cast, source)
        if limit.cancelled_caught:
            self._findings.append(f"not done within {self._options.time_limit_s:g} s: {self._step}")
        self._outcome = await self._judge(client, cast, server)
        self._phase("The demo is over")

    def _hold_against(self, broken: Iterable[RuleBroken]) -> None:
        self._findings += map(str, broken)

    async def _try_all(
        self, proxy: Proxy, client: SimulatedClient, cast: Cast, source: SimulatedServer
    ) -> SimulatedServer:
        """Play what can be played; return the last server that may have the client."""
        self._step = "connecting"
        if not await self._attempt(lambda: self._connect(proxy, client)):
            return source
        await self._attempt(source.wait_client_arrived)
        await self._attempt(lambda: self._use(client, source))
        if self._options.migration == "none":
            self._step = "waiting for what comes"
            await trio.sleep(_QUIET_S)
            return source
        for _ in range(max(self._options.course.migrations, self._options.hops)):
            destination = await cast.destination(source)
            if not await self._migrate_somehow(client, cast, source, destination):
                break
            source = destination
        return source

    async def _migrate_somehow(
        self, client: SimulatedClient, cast: Cast, source: SimulatedServer, destination: SimulatedServer
    ) -> bool:
        """As a hypervisor does it, which does not care for what becomes of the client. Whether the client has arrived."""
        course, began, was, will = self._options.course, trio.current_time(), source.name, destination.name
        migrations = len(client.migrations)

        def tell(step: str, text: str) -> None:
            self._phase(text)
            self._step = step

        def moved() -> None:
            with suppress(SimulationError):
                client.send_motion(1, 1)

        told = await move_guest(cast, source, destination, course, self._attempt, tell=tell, moved=moved)
        if course.cancel:
            return False
        if len(client.migrations) == migrations and client.session is None:
            return False
        await self._attempt(client.wait_migrated)
        await self._attempt(lambda: destination.wait_client_arrived(told))
        works = await self._works(client, destination)
        kind = client.migrations[-1].kind if len(client.migrations) > migrations else "nothing"
        self._hops.append(
            HopResult(
                was, will, kind, told.name if told is not None else "", round(trio.current_time() - began, 6)
            )
        )
        return works

    async def _attempt(self, step: Callable[[], Awaitable[T]]) -> bool:
        """Do something that may fail: then say so, and that is all."""
        try:
            await step()
        except SimulationError as error:
            self._findings.append(f"{self._step}: {error}")
            return False
        except trio.TooSlowError:
            self._findings.append(f"{self._step}: too slow")
            return False
        return True

    async def _works(self, client: SimulatedClient, server: SimulatedServer) -> bool:
        """Whether what the guest draws reaches the client, and what the user does the guest."""
        client.forget()
        server.forget()
        if not (client.is_connected and server.has_guest and server.session is not None):
            return False
        with trio.move_on_after(_LOOK_S) as scope:
            step = self._step
            try:
                await self._use(client, server)
            except (SimulationError, trio.TooSlowError) as error:
                self._findings.append(f"{step}: {error}")
                return False
        return not scope.cancelled_caught

    async def _judge(self, client: SimulatedClient, cast: Cast, server: SimulatedServer) -> Outcome:
        migrations = client.migrations
        elsewhere = () if self._other is None else (self._other,)
        for candidate in dict.fromkeys((server, *reversed(cast.servers), *elsewhere)):
            if await self._works(client, candidate):
                if candidate is cast.servers[0] and not self._hops:
                    return "cancelled" if migrations and migrations[-1].kind == "cancelled" else "unchanged"
                kind = migrations[-1].kind if migrations else "unchanged"
                known: dict[str, Outcome] = {
                    "seamless": "seamless", "semi-seamless": "semi-seamless", "switch-host": "switch-host",
                    "cancelled": "cancelled", "unchanged": "unchanged",
                }  # fmt: skip
                return known.get(kind, "wedged")
        with trio.move_on_after(_LOOK_S):  # the end of a connection takes its time to be seen
            while client.session is not None:
                await client.changed()
        return "wedged" if client.session is not None else "session-lost"

    def _result(self) -> DemoResult:
        made = super()._result()
        verdict = f"with faults: {self._outcome}"
        if self._reasons:
            verdict = f"failed: {self._reasons[0]}"
        elif made.report is not None and not made.report.faults:
            verdict += "; none of them fired"
        return replace(
            made, verdict=verdict, outcome=self._outcome, findings=list(dict.fromkeys(self._findings))
        )
