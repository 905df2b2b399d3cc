"""Versions of what takes part, as results name them."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from spiceproxy.lab.programs import QEMU
from spiceproxy.matrix.results import Column

_TIMEOUT_S: Final = 20.0
# Debian's packages of the libraries: their names say nothing of the version.
_SPICE_SERVER: Final = "libspice-server1"
_SPICE_GTK: Final = "libspice-client-glib-2.0-8"


@dataclass(frozen=True, slots=True)
class Versions:
    """Of one machine."""

    servers: str
    clients: dict[Column, str]
    own: str

    def server(self, column: Column) -> str:
        """As "spice-server 0.15.1, QEMU 7.2.22"."""
        return f"simulated, spiceproxy {self.own}" if column is Column.SIMULATED else self.servers

    def client(self, column: Column) -> str:
        """As "spicy, spice-gtk 0.42"."""
        return f"simulated, spiceproxy {self.own}" if column is Column.SIMULATED else self.clients[column]


def versions(columns: Iterable[Column]) -> Versions:
    """Ask the programs and the package manager; what cannot be found out is not said."""
    try:
        own = version("spiceproxy")
    except PackageNotFoundError:
        own = ""
    wanted = list(columns)
    if not wanted:
        return Versions("", {}, own)
    qemu = re.search(r"version (\d[\w.]*)", _output(QEMU, "--version"))
    servers = f"spice-server {_package(_SPICE_SERVER)}".strip() + f", QEMU {qemu[1] if qemu else ''}".rstrip()
    gtk = f"spice-gtk {_package(_SPICE_GTK)}".strip()
    return Versions(servers, {column: f"{column}, {gtk}" for column in wanted}, own)


def _package(name: str) -> str:
    """A Debian package's upstream version."""
    found = _output("dpkg-query", "-W", "-f=${Version}", name)
    return re.sub(r"^\d+:|-[^-]*$", "", found.strip())


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
