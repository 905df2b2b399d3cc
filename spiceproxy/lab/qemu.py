"""One QEMU with a SPICE server: its command line and its life."""

import errno
import os
import random
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from spiceproxy.address import Address
from spiceproxy.lab.errors import LabError
from spiceproxy.lab.process import Child
from spiceproxy.lab.programs import QEMU
from spiceproxy.lab.qmp import QmpClient, open_qmp
from spiceproxy.lab.result import Traffic
from spiceproxy.lab.traffic import (
    ADAPTER_SLOTS,
    AGENT_PORT,
    SERIAL_SLOT,
    SOUND_SLOT,
    TEXT_PORT,
    TEXT_PORT_NAME,
    WEBDAV_PORT,
)

HOST: Final = "127.0.0.1"
MORE_PORT_NAME: Final = "org.test.port.1"
_START_S: Final = 20.0
# Below 32768 the kernel hands out no port by itself (ip_local_port_range), so a free one stays free until QEMU binds it.
_PORTS: Final = range(20000, 32000)


@dataclass(frozen=True, slots=True)
class QemuConfig:
    """What one QEMU is started with. Migration demands the same devices, in the same order, on both sides."""

    name: str
    directory: Path  # private: monitor socket, migration socket and log go there
    disk: Path
    spice_port: int
    incoming: bool = False  # wait for a migration instead of booting
    seamless: bool = True
    webdav: bool = True
    more: bool = False  # a port channel that nothing is connected to, as one of two servers may have
    smartcard: bool = False  # a reader with a card that the client has
    ticket: bool = False  # ask for a password, to be set over QMP
    environment: Mapping[str, str] = field(default_factory=dict)  # beside ours
    sasl: bool = False  # ask for a user and password by SASL, as `environment` leads to
    x509: Path | None = None  # certificate and key: `spice_port` is for TLS then
    traffic: frozenset[Traffic] = frozenset()
    heads: int = 1
    one_adapter: bool = False
    spice: Mapping[str, str] = field(default_factory=dict)  # further options of -spice
    accelerators: Sequence[str] = ("kvm", "tcg")  # the first that works
    memory_mib: int = 128
    state: Path | None = None  # a guest that was saved, to go on with instead of booting
    may_fail: bool = False  # it may end by itself, however

    @property
    def monitor(self) -> Path:
        """The socket of the monitor."""
        return self.directory / f"{self.name}.qmp"

    @property
    def migration_uri(self) -> str:
        """Where an incoming QEMU waits for the guest: a unix socket, which nobody can take from us in between."""
        return f"unix:{self.directory / f'{self.name}.migration'}"


def build_command(config: QemuConfig) -> list[str]:
    """Return the command line. Its SPICE server offers all channels that a client of Debian 12 opens.

    That is main, display, inputs, cursor, playback, record, usbredir and, if wanted, webdav and port, and a display and
    a cursor for each further adapter.
    """
    spice = {
        "addr": HOST,
        **(
            {"port": str(config.spice_port)}
            if config.x509 is None
            else {"tls-port": str(config.spice_port), "x509-dir": str(config.x509)}
        ),
        **({} if config.ticket else {"disable-ticketing": "on"}),
        **({"sasl": "on"} if config.sasl else {}),
        "seamless-migration": "on" if config.seamless else "off",
        **config.spice,
    }
    command = [QEMU, "-name", config.name, "-nodefaults", "-M", "q35", "-m", str(config.memory_mib)]
    for accelerator in config.accelerators:
        command += ["-accel", accelerator]
    command += [
        *("-display", "none", "-vga", "none", *_adapters(config)),
        *("-spice", ",".join(f"{key}={value}" for key, value in spice.items())),
        *("-qmp", f"unix:{config.monitor},server=on,wait=off"),
        *("-audiodev", "spice,id=sound", *_sound(config)),
        *("-device", f"virtio-serial,addr={SERIAL_SLOT}"),
        *("-chardev", "spicevmc,id=agent,name=vdagent"),
        *("-device", f"virtserialport,nr={AGENT_PORT},chardev=agent,name=com.redhat.spice.0"),
        *("-device", "ich9-usb-ehci1,id=usb", "-chardev", "spicevmc,id=usb0,name=usbredir"),
        *("-device", "usb-redir,chardev=usb0"),
        # Read-only, so two QEMUs may have it open at once. A floppy drive would cost SeaBIOS two seconds more.
        *("-drive", f"file={config.disk},format=raw,if=none,id=boot,readonly=on"),
        *("-device", "virtio-blk-pci,drive=boot,bootindex=0"),
    ]
    if config.webdav:
        command += ["-chardev", "spiceport,id=webdav,name=org.spice-space.webdav.0"]
        name = "name=org.spice-space.webdav.0"
        command += ["-device", f"virtserialport,nr={WEBDAV_PORT},chardev=webdav,{name}"]
    if Traffic.PORT in config.traffic:
        command += ["-chardev", f"spiceport,id=text,name={TEXT_PORT_NAME}"]
        command += ["-device", f"virtserialport,nr={TEXT_PORT},chardev=text,name={TEXT_PORT_NAME}"]
    if config.more:
        command += ["-chardev", f"spiceport,id=more,name={MORE_PORT_NAME}"]
    if config.smartcard:
        # A reader is a full-speed device, which an EHCI does not take.
        command += ["-device", "piix3-usb-uhci,id=readers", "-device", "usb-ccid,bus=readers.0"]
        command += [
            "-chardev",
            "spicevmc,id=card,name=smartcard",
            "-device",
            "ccid-card-passthru,chardev=card",
        ]
    if config.incoming:
        command += ["-incoming", config.migration_uri]
    elif config.state is not None:
        command += ["-incoming", f"exec:cat {shlex.quote(str(config.state))}"]
    return command


def _adapters(config: QemuConfig) -> list[str]:
    outputs = f",max_outputs={config.heads}" if config.one_adapter else ""
    adapters = ["-device", f"qxl-vga,addr={ADAPTER_SLOTS[0]}{outputs}"]
    for slot in ADAPTER_SLOTS[1 : 1 if config.one_adapter else config.heads]:
        adapters += ["-device", f"qxl,addr={slot}"]
    return adapters


def _sound(config: QemuConfig) -> list[str]:
    """The sound card that the guest can drive, or else one as virtual machines have it."""
    if Traffic.SOUND in config.traffic:
        return ["-device", f"AC97,addr={SOUND_SLOT},audiodev=sound"]
    return ["-device", "ich9-intel-hda", "-device", "hda-duplex,audiodev=sound"]


@dataclass(slots=True)
class Qemu:
    """A running QEMU, its monitor open. Made by `start_qemu`."""

    config: QemuConfig
    child: Child
    qmp: QmpClient
    accelerator: str  # "kvm" or "tcg"
    _scope: trio.CancelScope
    _ended: trio.Event

    @property
    def name(self) -> str:
        """Its name in the report: s1, s2 ..."""
        return self.config.name

    @property
    def spice(self) -> Address:
        """Where its SPICE server listens."""
        return Address(HOST, self.config.spice_port)

    async def query_spice(self) -> dict[str, Any]:
        """Return what `query-spice` says."""
        answer: dict[str, Any] = await self.qmp.execute("query-spice")
        return answer

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    async def stop(self) -> None:
        """End it and wait until it is gone."""
        self._scope.cancel()
        await self._ended.wait()

    async def kill(self) -> None:
        """End it as a crash would, and wait until it is gone."""
        await self.child.kill()
        await self.stop()


async def start_qemu(nursery: trio.Nursery, config: QemuConfig) -> Qemu:
    """Start a QEMU and wait until its monitor answers and its SPICE port is open.

    The QEMU is a task of `nursery`, which fails with a LabError if QEMU ends unasked.

    Raises:
        LabError: It did not come up; the text has what QEMU wrote.
    """
    qemu: Qemu = await nursery.start(_run_qemu, config)
    return qemu


async def _run_qemu(config: QemuConfig, *, task_status: trio.TaskStatus[Qemu]) -> None:
    scope, ended = trio.CancelScope(), trio.Event()
    child = Child(config.name, config.directory / f"{config.name}.log")
    child.may_fail = config.may_fail

    async def run_child(*, task_status: trio.TaskStatus[Child]) -> None:
        await child.run(
            build_command(config), env={**os.environ, **config.environment}, task_status=task_status
        )
        scope.cancel()

    try:
        with scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(run_child)
                transcript = config.directory / f"{config.name}.qmp.log"
                async with open_qmp(
                    config.monitor, name=config.name, timeout_s=_START_S, transcript=transcript
                ) as qmp:
                    accelerator = "kvm" if (await qmp.execute("query-kvm"))["enabled"] else "tcg"
                    task_status.started(Qemu(config, child, qmp, accelerator, scope, ended))
                    await trio.sleep_forever()
    finally:
        ended.set()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 where nobody listens, outside the range that the kernel gives away by itself.

    Raises:
        LabError: All that were tried are taken.
    """
    for _ in range(200):
        port = random.choice(_PORTS)  # noqa: S311 - not a secret
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise
            return port
    raise LabError(f"no free port on {HOST} between {_PORTS.start} and {_PORTS.stop - 1}")
