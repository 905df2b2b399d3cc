"""QEMUs as the servers of a test, started and migrated as the lab does it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from spiceproxy.errors import UsageError
from spiceproxy.lab.courses import Act, Moment, Plan, Stroke, Target
from spiceproxy.lab.errors import LabError, single_error
from spiceproxy.lab.forwarder import start_forwarder
from spiceproxy.lab.hop import Observer, channel_names, completed_event, play
from spiceproxy.lab.programs import QEMU, require_programs
from spiceproxy.lab.qemu import HOST, Qemu, QemuConfig, free_port, start_qemu
from spiceproxy.lab.result import LabOptions, MigrationKind, Picture
from spiceproxy.lab.run import private_directory
from spiceproxy.lab.traffic import guest_disk
from spiceproxy.lab.watch import EventWatch
from spiceproxy.pytest_plugin.servers import Move
from spiceproxy.pytest_plugin.settings import Settings

_MOMENTS: Final = {"before": Moment.CONNECTED, "during": Moment.MOVING, "after": Moment.MOVED}


@asynccontextmanager
async def qemu_stage(settings: Settings, directory: Path, watch: EventWatch) -> AsyncIterator["QemuStage"]:
    """QEMUs for as long as the block runs; their logs go to `directory` then.

    Raises:
        UsageError: QEMU is not installed.
        LabError: It does not come up.
    """
    require_programs([QEMU])
    with private_directory(directory) as private, single_error():
        async with trio.open_nursery() as nursery:
            stage = QemuStage(nursery, settings, private, watch)
            await stage.start()
            yield stage
            nursery.cancel_scope.cancel()


class QemuStage:
    """QEMUs with a guest that draws: s1, s2 ... Tasks of `nursery`; they may die, that is what some tests are about."""

    def __init__(self, nursery: trio.Nursery, settings: Settings, directory: Path, watch: EventWatch) -> None:
        self._nursery, self._settings, self._watch, self._directory = nursery, settings, watch, directory
        self._started: list[Qemu] = []
        self._left: list[Qemu] = []  # that the plugin has ended
        self._seamless = settings.kind != "semi-seamless"

    async def start(self) -> None:
        """Begin with s1."""
        disk = await trio.to_thread.run_sync(guest_disk, ())
        (self._directory / "guest.img").write_bytes(disk)
        self.current = await self._qemu()
        self.address = self.current.spice

    async def _qemu(self, *, incoming: bool = False) -> Qemu:
        config = QemuConfig(
            name=f"s{len(self._started) + 1}",
            directory=self._directory,
            disk=self._directory / "guest.img",
            spice_port=free_port(),
            incoming=incoming,
            seamless=self._seamless,
            webdav=self._settings.client_command is None,
            ticket=self._settings.ticket is not None,
        )
        qemu = await start_qemu(self._nursery, config)
        qemu.child.may_fail = True
        self._started.append(qemu)
        if self._settings.ticket is not None:
            await qemu.qmp.execute("set_password", protocol="spice", password=self._settings.ticket)
        return qemu

    async def migrate(self, kind: str, limit_s: float) -> Move:
        """Move the guest to a new QEMU; the old one ends if the client has left it."""
        if (kind == "semi-seamless") == self._seamless and kind != "switch-host":
            raise UsageError(
                f"these QEMUs were not started for {kind} migrations: mark the test with spice_servers(kind={kind!r})"
            )
        source, destination = self.current, await self._qemu(incoming=True)
        plan = self._plan(kind)
        target, forwarder = destination.spice, None
        if plan.target is Target.REFUSES_AT_FIRST:
            forwarder = await start_forwarder(self._nursery, HOST, destination.spice)
            target = forwarder.address
        status, problems = "", list[str]()
        with trio.move_on_after(limit_s) as scope:
            try:
                channels = channel_names(await source.query_spice())
                observer = self._observer(plan, channels, MigrationKind(kind))
                status = (await play(source, destination, observer, target, forwarder, channels))["status"]
                if status == "completed" and not await completed_event(source):
                    problems.append(f"{source.name} sent no SPICE_MIGRATE_COMPLETED")
            except LabError as error:
                problems.append(str(error))
        if scope.cancelled_caught:
            problems.append(f"not done within {limit_s:g} s")
        problems += self.findings()
        if status == "completed":
            self.current = destination
            if not problems:
                self._left.append(source)
                await source.stop()
        return Move(source.name, destination.name, status, problems)

    def _plan(self, kind: str) -> Plan:
        course = self._settings.course
        stroke = None
        if course.cancel:
            stroke = Stroke(Act.CANCEL, Moment.MOVING)
        elif course.kill is not None:
            act = Act.KILL_SOURCE if course.kill == "source" else Act.KILL_DESTINATION
            stroke = Stroke(act, _MOMENTS[course.kill_when])
        return Plan(
            target=Target.REFUSES_AT_FIRST if kind == "switch-host" else Target.SERVER,
            patient=course.migrate_after_s is None,
            stroke=stroke,
        )

    def _observer(self, plan: Plan, channels: list[str], kind: MigrationKind) -> Observer:
        async def picture() -> Picture:
            return Picture.UNSEEN

        return Observer(
            LabOptions(migration=kind),
            plan,
            (),
            len(self._started),
            channels,
            self._watch,
            tuple,
            picture,
            lambda _: None,
        )

    def findings(self) -> list[str]:
        """Which of them have ended by themselves, and what they wrote."""
        return [
            f"{qemu.name} has ended: {qemu.child.tail() or 'it wrote nothing'}"
            for qemu in self._started
            if qemu.gone and qemu not in self._left
        ]
