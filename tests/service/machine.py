"""A machine with systemd as its first process: this one's files under an overlay, in namespaces of its own.

Nothing of it is left: what it writes is in memory, and its processes end with the block. Takes root and a cgroup v2 mount.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tests.programs import require_programs

ROOT: Final = Path(__file__).resolve().parents[2]
BOOT_S: Final = 60
UNITS: Final = Path("/etc/systemd/system")
# As docs/service.md says: installed in /opt, with a link. What this test's Python has is installed there already.
PYTHON: Final = "/opt/spiceproxy/bin/python3"

# Arguments: a directory, where packages are, where Python is: both may lie in a home directory, which services do not see.
# What systemd would do to the real machine it cannot: /sys and /proc/sys are read-only, and no unit but those of the test
# is wanted by anybody.
_BOOT: Final = r"""
set -eu
work=$1 packages=$2 python=$3
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$work/memory"
mkdir "$work/memory/upper" "$work/memory/work"
root=$work/root
mount -t overlay -o "lowerdir=/,upperdir=$work/memory/upper,workdir=$work/memory/work" overlay "$root"
rm -rf "$root"/etc/systemd/system "$root"/lib/systemd/system/*.wants \
    "$root"/lib/systemd/system/systemd-journald-audit.socket "$root"/etc/fstab "$root"/var/lib/private \
    "$root"/var/lib/spiceproxy "$root"/etc/spiceproxy "$root"/opt/spiceproxy
mkdir -p "$root"/etc/systemd/system "$root"/opt
cp -a "$work/opt" "$root/opt/spiceproxy"
mkdir "$root/opt/spiceproxy/packages"
mount --bind "$packages" "$root/opt/spiceproxy/packages"
mkdir "$root/opt/python"
mount --bind "$python" "$root/opt/python"
ln -sf /opt/spiceproxy/bin/spiceproxy "$root/usr/local/bin/spiceproxy"
cp "$work"/units/* "$root"/etc/systemd/system/
for each in run tmp; do mount -t tmpfs -o mode=0755 tmpfs "$root/$each"; done
chmod 1777 "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for each in null zero full random urandom tty; do touch "$root/dev/$each"; mount --bind "/dev/$each" "$root/dev/$each"; done
mkdir "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
ln -s pts/ptmx "$root/dev/ptmx"
ip link set lo up
cd "$root"
mkdir before
pivot_root . before  # not chroot: systemd makes each service a mount namespace out of its own, which knows no chroot
exec env -i container=spiceproxy-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c "umount -l /before; rmdir /before; exec /lib/systemd/systemd --system --unit=test.target --log-target=journal"
"""
_TARGET: Final = """
[Unit]
Requires=basic.target systemd-journald.service
After=basic.target
AllowIsolate=yes
"""


class Machine:
    """Where commands run, by name of a namespace's process."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", f"--target={pid}", "--all", "--root", "--wd"]

    def run(self, *command: str, check: bool = True, timeout_s: float = 60) -> str:
        """Run a command in it; what it printed."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            [*self._enter, *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)[:300]}: {done.stdout}{done.stderr}")
        return done.stdout

    def python(self, code: str, *arguments: str) -> Any:
        """Run Python where spiceproxy is installed; its output as JSON."""
        return json.loads(self.run(PYTHON, "-c", code, *arguments))

    def write(self, path: str, text: str) -> None:
        """Write a file, as an administrator would."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && printf %s "$1" > "$0"', path, text)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """What systemd says of a unit."""
        text = self.run("systemctl", "show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def journal(self, unit: str) -> str:
        """What a unit wrote."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit)


def _lay_out(work: Path) -> None:
    for each in ("memory", "root", "units", "opt/bin", "opt/source"):
        (work / each).mkdir(parents=True)
    for package in ("spiceproxy", "dissectors"):
        shutil.copytree(ROOT / package, work / "opt/source" / package)
    for unit in (ROOT / "docs/packaging").glob("*@.*"):
        shutil.copy(unit, work / "units")
    (work / "units/test.target").write_text(_TARGET)
    version = sysconfig.get_python_version()
    packages = work / f"opt/lib/python{version}/site-packages"
    packages.mkdir(parents=True)
    (packages / "spiceproxy.pth").write_text("/opt/spiceproxy/source\n/opt/spiceproxy/packages\n")
    (work / "opt/pyvenv.cfg").write_text(f"home = /opt/python/bin\nversion = {version}\n")
    (work / "opt/bin/python3").symlink_to(f"/opt/python/bin/python{version}")
    script = work / "opt/bin/spiceproxy"
    # A libpython beside its Python is found by where it was built, which may be hidden from services.
    script.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH=/opt/python/lib exec {PYTHON} -m spiceproxy "$@"\n',
    )
    subprocess.run(["chmod", "-R", "go=u-w", str(work / "opt")], check=True)
    script.chmod(0o755)


def _cannot(reason: str) -> NoReturn:
    """Whether systemd may be a first process is for whoever owns the machine to say; notify sockets are tested anyway."""
    pytest.skip(f"systemd cannot be started here: {reason}")


def _cgroups() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(mount_point)
    return _cannot("that takes cgroups of version 2")


def _first_process(booting: "subprocess.Popen[bytes]", work: Path) -> int:
    """The process number, in ours, of a systemd that has come up."""
    deadline = time.monotonic() + BOOT_S
    children = Path(f"/proc/{booting.pid}/task/{booting.pid}/children")
    while time.monotonic() < deadline and booting.poll() is None:
        with contextlib.suppress(OSError, ValueError, AssertionError):
            pid = int(children.read_text())
            if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                Machine(pid).run("systemctl", "is-active", "--quiet", "test.target")
                return pid
        time.sleep(0.1)
    log = (work / "boot.log").read_text()[-1000:]
    if booting.poll() is not None:
        _cannot(log)
    pytest.fail(f"systemd does not come up: {log}")


def _remove(cgroup: Path) -> None:
    deadline = time.monotonic() + BOOT_S
    while cgroup.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # processes are still on their way out
            for directory, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(directory)  # noqa: PTH106
        time.sleep(0.02)


@contextmanager
def machine(work: Path) -> Iterator[Machine]:
    """Boot it, for as long as the block runs. Skips the test where that cannot be."""
    require_programs("systemctl", "unshare", "nsenter", "ip", "journalctl")
    if os.geteuid():
        _cannot("that takes root")
    _lay_out(work)
    cgroup = _cgroups() / f"spiceproxy-test-{os.getpid()}"
    try:
        cgroup.mkdir()
    except OSError as error:
        _cannot(f"no cgroup of its own: {error.strerror}")
    flags = ["--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--uts", "--ipc", "--net"]
    enter = 'echo $$ > "$4/cgroup.procs"; exec unshare ' + " ".join(flags) + ' sh -c "$0" boot "$@"'
    arguments = [_BOOT, str(work), sysconfig.get_path("purelib"), sys.base_prefix, str(cgroup)]
    with (work / "boot.log").open("wb") as log:
        booting = subprocess.Popen(
            ["sh", "-c", enter, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        yield Machine(_first_process(booting, work))
    finally:
        booting.kill()  # and so, by the kernel, all that runs in it
        booting.wait()
        _remove(cgroup)
