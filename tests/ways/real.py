"""Two real QEMUs and spicy, wherever a test puts them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from spiceproxy.address import Address
from spiceproxy.lab.display import Display, start_display
from spiceproxy.lab.hop import channel_names, until
from spiceproxy.lab.process import Child, start_child
from spiceproxy.lab.programs import QEMU
from spiceproxy.lab.qemu import QemuConfig, build_command
from spiceproxy.lab.qmp import QmpClient, open_qmp
from spiceproxy.lab.secured import Certificates, subject_of
from spiceproxy.lab.traffic import guest_disk
from tests.programs import require_programs

SPICY_CHANNELS = [
    "cursor:0",
    "display:0",
    "inputs:0",
    "main:0",
    "playback:0",
    "record:0",
    "usbredir:0",
    "webdav:0",
]
_STEP_S = 30.0


def spicy(server: Address, ca: Path | None = None) -> list[str]:
    """spicy's command line, to a TLS port if there is a CA to trust: that of s1."""
    if ca is None:
        return ["spicy", "-h", server.host, "-p", str(server.port)]
    return [
        *("spicy", "-h", server.host, "-s", str(server.port), "--spice-secure-channels=all"),
        *(f"--spice-ca-file={ca}", f"--spice-host-subject={subject_of('s1')}"),
    ]


def require_real_programs() -> None:
    require_programs(QEMU, "spicy", "Xvfb", "import", "dumpcap")


@dataclass(frozen=True)
class Place:
    """Where a server is."""

    address: Address  # of its SPICE port
    migration: Address  # where it waits for the guest
    prefix: Sequence[str] = ()  # in front of its command line


@dataclass
class Real:
    """Two servers, the first with a guest that draws, and a client's screen."""

    directory: Path
    nursery: trio.Nursery
    places: Sequence[Place]
    webdav: bool = True  # remote-viewer leaves it unopened, and a migration stands still then
    certificates: Certificates | None = None  # the servers' ports are for TLS then, and for nothing else
    servers: list[QmpClient] = field(default_factory=list)
    screen: Display | None = None
    clients: list[Child] = field(default_factory=list)

    async def start(self) -> None:
        disk = self.directory / "guest.img"
        disk.write_bytes(guest_disk(set()))
        for number, place in enumerate(self.places):
            name = f"s{number + 1}"
            config = QemuConfig(
                name=name,
                directory=self.directory,
                disk=disk,
                spice_port=place.address.port,
                incoming=bool(number),
                webdav=self.webdav,
                spice={"addr": place.address.host},
                x509=None if self.certificates is None else self.certificates.make(name),
                accelerators=("tcg",),
            )
            command = [*place.prefix, *build_command(config)]
            if number:
                command[-1] = f"tcp:{place.migration}"
            log = self.directory / f"{config.name}.log"
            await start_child(self.nursery, config.name, command, log=log)
            self.servers.append(await self.nursery.start(self._keep, config))
        self.screen = await start_display(self.nursery, self.directory)

    async def _keep(self, config: QemuConfig, *, task_status: trio.TaskStatus[QmpClient]) -> None:
        async with open_qmp(config.monitor, name=config.name, timeout_s=_STEP_S) as qmp:
            task_status.started(qmp)
            await trio.sleep_forever()

    async def connect(self, command: Sequence[str], channels: Sequence[str], **environment: str) -> None:
        """Start a client, and wait for its channels."""
        assert self.screen is not None
        env = self.screen.environment() | environment
        log = self.directory / "client.log"
        self.clients.append(await start_child(self.nursery, "client", command, log=log, env=env))
        await self._channels(0, channels)

    async def _channels(self, server: int, channels: Sequence[str]) -> None:
        async def there() -> bool | None:
            return channel_names(await self.servers[server].execute("query-spice")) == list(channels) or None

        if not await until(there, _STEP_S):
            names = channel_names(await self.servers[server].execute("query-spice"))
            raise AssertionError(f"s{server + 1} has {names}; {self.clients[-1].tail()}")

    async def migrate(self, channels: Sequence[str], *, told: str | None = None) -> None:
        """Have client and guest go from the first server to the second, by the name that the client is told."""
        s1 = self.servers[0]
        place = self.places[1]
        ports: dict[str, Any] = {"port": place.address.port}
        if self.certificates is not None:
            ports = {"port": 0, "tls-port": place.address.port, "cert-subject": subject_of("s2")}
        hostname = told or place.address.host
        await s1.execute("client_migrate_info", protocol="spice", hostname=hostname, **ports)
        await self._channels(1, channels)
        await trio.sleep(0.5)  # the client's answer to the source follows
        await s1.execute("migrate", uri=f"tcp:{place.migration}")
        await s1.wait_event("SPICE_MIGRATE_COMPLETED", _STEP_S)
        assert (await s1.execute("query-migrate"))["status"] == "completed"
        await self._channels(0, [])
        await self._channels(1, channels)

    async def see_the_guest_move(self) -> None:
        """The guest's picture is on the screen, and changes."""
        assert self.screen is not None
        with trio.fail_after(_STEP_S):
            while not (earlier := await self.screen.screenshot()).shows_guest():  # noqa: ASYNC110
                await trio.sleep(0.2)
            while not (await self.screen.screenshot()).moved_since(earlier):  # noqa: ASYNC110
                await trio.sleep(0.2)
