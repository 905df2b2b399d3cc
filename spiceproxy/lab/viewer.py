"""The client of a run: one with a screen under Xvfb, or the simulated one."""

import random
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from spiceproxy.address import Address
from spiceproxy.lab import client_traffic
from spiceproxy.lab.display import Display, Screenshot, start_display
from spiceproxy.lab.errors import LabError
from spiceproxy.lab.process import Child
from spiceproxy.lab.result import ClientKind, LabOptions, Picture, Traffic
from spiceproxy.lab.sasl import USER
from spiceproxy.lab.secured import Secured
from spiceproxy.simulate import SimulatedClient, SimulationError, open_client

# The guest draws 18 frames a second, and the bands of a QXL adapter are where they were after 4 of them, 0.22 s: looks at one
# interval can all, for 10 s, come upon the same frame. So an interval is any between two that are so far apart.
_BETWEEN_LOOKS_S: Final = (0.2, 0.42)
_CONNECT_S: Final = 30.0


class Viewer(Protocol):
    """A running client."""

    async def look(self, timeout_s: float) -> Picture:
        """Look until the guest's picture has moved, or for `timeout_s` seconds."""

    async def act(self) -> None:
        """Do once what the user of the client does in this run."""

    def write_screenshot(self, path: Path) -> bool:
        """Write what was seen last as a PNG file; False if nothing was."""

    async def stop(self) -> None:
        """End the client and wait until it is gone."""

    async def kill(self) -> None:
        """The same, as a crash does it."""


def needed_programs(client: ClientKind, traffic: Collection[Traffic] = ()) -> tuple[str, ...]:
    """Return what must be installed for a client and its traffic."""
    if client is ClientKind.SIMULATED:
        return ()
    return (client.value, "Xvfb", "import", *client_traffic.needed_programs(traffic))


async def start_viewer(
    nursery: trio.Nursery,
    options: LabOptions,
    directory: Path,
    address: Address,
    *,
    password: str | None = None,
    secured: Secured | None = None,
    may_be_lost: bool = False,
) -> Viewer:
    """Start the client of a run; a task of `nursery`, which fails with a LabError if the client ends unasked.

    Args:
        nursery: Where it lives.
        options: Which client, and whether to keep its debug log.
        directory: For what it writes.
        address: The SPICE server, or the proxy.
        password: For the server, if it asks for one; not for the simulated client.
        secured: How to connect with TLS, if that is wanted; not for the simulated client.
        may_be_lost: The run may end the client's session, and it may end with it.

    Raises:
        LabError: It does not come up.
    """
    if options.client is ClientKind.SIMULATED:
        viewer = SimulatedViewer(may_be_lost=may_be_lost)
        await nursery.start(viewer.run, address)
        return viewer
    display = await start_display(nursery, directory)
    child = await display.start_client(
        nursery,
        options.client,
        address,
        options=client_traffic.client_options(options, directory),
        password=password,
        username=None if options.sasl is None else USER,
        secured=secured,
        grab=Traffic.INPUT in options.traffic,
        debug=options.keep_logs is not None,
        may_fail=may_be_lost,
    )
    user = client_traffic.User(nursery, display.environment(), directory)
    return ScreenViewer(display, child, partial(user.act, options.traffic))


class ScreenViewer:
    """A client program on an X display."""

    def __init__(self, display: Display, child: Child, act: Callable[[], Awaitable[None]]) -> None:
        self._display, self._child, self._act = display, child, act
        self._shot: Screenshot | None = None

    async def look(self, timeout_s: float) -> Picture:
        """Take screenshots until the guest's picture has moved from one to the next."""
        seen = Picture.ABSENT
        earlier: Screenshot | None = None
        with trio.move_on_after(timeout_s):
            while True:
                self._shot = await self._display.screenshot()
                shows = await trio.to_thread.run_sync(self._shot.shows_guest)
                if shows and earlier is not None:
                    if await trio.to_thread.run_sync(self._shot.moved_since, earlier):
                        return Picture.MOVING
                    seen = Picture.STILL
                earlier = self._shot if shows else None
                await trio.sleep(random.uniform(*_BETWEEN_LOOKS_S))  # noqa: S311 - no secret
        return seen

    async def act(self) -> None:
        """Use keyboard, mouse and clipboard, as the run is to have them."""
        await self._act()

    def write_screenshot(self, path: Path) -> bool:
        """Write the last screenshot."""
        if self._shot is None:
            return False
        self._shot.write_png(path)
        return True

    async def stop(self) -> None:
        """End the program."""
        await self._child.stop()

    async def kill(self) -> None:
        """SIGKILL."""
        await self._child.kill()


class SimulatedViewer:
    """The simulated client: it draws nothing, but is strict about the protocol and counts what it was told to draw."""

    def __init__(self, *, may_be_lost: bool = False) -> None:
        self._may_be_lost = may_be_lost
        self._client: SimulatedClient | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(
        self, address: Address, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Connect and live until `stop`; a task for a nursery.

        Raises:
            LabError: A server broke a rule of the protocol, the session was lost, or there was none in time.
        """
        try:
            with self._scope:
                async with open_client() as client:
                    with trio.fail_after(_CONNECT_S):
                        await client.connect(*address)
                    self._client = client
                    task_status.started()
                    await client.wait_until(lambda: False)
        except SimulationError as error:
            if self._may_be_lost and self._client is not None:
                return
            raise LabError(f"simulated client: {error}") from None
        except trio.TooSlowError:
            raise LabError(f"simulated client: no session within {_CONNECT_S:g} s") from None
        finally:
            self._ended.set()

    async def look(self, timeout_s: float) -> Picture:
        """Wait until drawing commands have come."""
        client = self._client
        assert client is not None  # noqa: S101 - it was started
        with trio.move_on_after(timeout_s):
            while True:
                drawn = client.drawn
                await trio.sleep(max(_BETWEEN_LOOKS_S))
                if client.drawn > drawn > 0:
                    return Picture.MOVING
        return Picture.STILL if client.drawn else Picture.ABSENT

    async def act(self) -> None:
        """It has no user."""

    def write_screenshot(self, path: Path) -> bool:  # noqa: ARG002 - there is nothing to write
        """It has no screen."""
        return False

    async def stop(self) -> None:
        """Close the session."""
        self._scope.cancel()
        await self._ended.wait()

    async def kill(self) -> None:
        """The same: it is part of this process."""
        await self.stop()
