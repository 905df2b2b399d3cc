"""QEMUs as the servers of a test, started and migrated as the lab does it."""

import tempfile
from pathlib import Path
from typing import Final

import trio

from spiceproxy.errors import UsageError
from spiceproxy.lab.courses import Act, Moment, Plan, Stroke, Target
from spiceproxy.lab.errors import LabError
from spiceproxy.lab.forwarder import start_forwarder
from spiceproxy.lab.hop import Observer, channel_names, completed_event, play
from spiceproxy.lab.programs import QEMU, require_programs
from spiceproxy.lab.qemu import HOST, Qemu, QemuConfig, free_port, start_qemu
from spiceproxy.lab.result import LabOptions, MigrationKind, Picture
from spiceproxy.lab.traffic import guest_disk
from spiceproxy.lab.watch import EventWatch
from spiceproxy.pytest_plugin.servers import Move
from spiceproxy.pytest_plugin.settings import Settings

_LONGEST_DIRECTORY: Final = 80  # the path of a unix socket has 107 bytes
_MOMENTS: Final = {"before": Moment.CONNECTED, "during": Moment.MOVING, "after": Moment.MOVED}


class QemuStage:
    """QEMUs with a guest that draws: s1, s2 ... Tasks of `nursery`; they may die, that is what some tests are about."""

    def __init__(self, nursery: trio.Nursery, settings: Settings, directory: Path, watch: EventWatch) -> None:
        require_programs([QEMU])
        self._nursery, self._settings, self._watch = nursery, settings, watch
        self._logs = directory
        self._sockets = directory
        if len(str(directory)) > _LONGEST_DIRECTORY:
            self._sockets = Path(tempfile.mkdtemp(prefix="spiceproxy-"))
        self._seamless = settings.kind != "semi-seamless"
        self._count = 0

    async def start(self) -> None:
        """Begin with s1."""
        disk = await trio.to_thread.run_sync(guest_disk, ())
        (self._sockets / "guest.img").write_bytes(disk)
        self.current = await self._qemu()
        self.address = self.current.spice

    async def _qemu(self, *, incoming: bool = False) -> Qemu:
        self._count += 1
        config = QemuConfig(
            name=f"s{self._count}",
            directory=self._sockets,
            disk=self._sockets / "guest.img",
            spice_port=free_port(),
            incoming=incoming,
            seamless=self._seamless,
            webdav=self._settings.client_command is None,
            ticket=self._settings.ticket is not None,
        )
        qemu = await start_qemu(self._nursery, config)
        qemu.child.may_fail = True
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
        problems += [
            f"{qemu.name} has ended: {qemu.child.tail() or 'it wrote nothing'}"
            for qemu in (source, destination)
            if qemu.gone
        ]
        if status == "completed":
            self.current = destination
            if not problems:
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
            self._count,
            channels,
            self._watch,
            tuple,
            picture,
            lambda _: None,
        )

    def findings(self) -> list[str]:
        """They say nothing."""
        return []
