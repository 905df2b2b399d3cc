"""Programs of the lab: each one a task, in a process group of its own, with a log, and gone when the task is gone."""

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from spiceproxy.lab.errors import LabError
from spiceproxy.lab.procfs import process_group_lives

_GRACE_S: Final = 3.0  # QEMU needs a tenth of that to end after SIGTERM
_STRAGGLERS_S: Final = 2.0  # SIGKILL takes effect a moment later
_TAIL_BYTES: Final = 4096


class Child:
    """A running program. Made by `start_child`."""

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        self.pid = 0
        self.may_fail = False  # it may end by itself, however
        self.returncode: int | None = None  # once it has ended; negative: by this signal
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def stop(self) -> None:
        """End the program (SIGTERM, after 3 seconds SIGKILL) and wait until it is gone. May be called again."""
        self._scope.cancel()
        await self._ended.wait()

    async def kill(self) -> None:
        """End the program as a crash would (SIGKILL), and wait until it is gone."""
        self.may_fail = True
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._ended.wait()

    def stand_still(self, still: bool) -> None:
        """Stop the program in its tracks (SIGSTOP), or let it go on."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGSTOP if still else signal.SIGCONT)

    def tail(self, lines: int = 4) -> str:
        """Return the last lines of what the program wrote, as one line."""
        with suppress(OSError), self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
            return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
        return ""

    async def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        may_end: bool = False,
        task_status: trio.TaskStatus["Child"] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start the program and stay until it ends; a task for a nursery.

        Raises:
            LabError: It cannot be started, or ended before `stop` was called and not with success if it `may_end`,
                unless it `may_fail`.
        """
        returncode: int | None = None
        log = await trio.to_thread.run_sync(self.log.open, "ab")
        try:
            with log, self._scope:
                async with trio.open_nursery() as nursery:

                    async def run_process(*, task_status: trio.TaskStatus[Any]) -> None:
                        nonlocal returncode
                        done = await trio.run_process(
                            list(command),
                            stdout=log,
                            stderr=log,
                            check=False,
                            env=env,
                            pass_fds=pass_fds,
                            start_new_session=True,  # Ctrl-C is for us; we then end our children in good order
                            deliver_cancel=_end_group,
                            task_status=task_status,
                        )
                        returncode = self.returncode = done.returncode

                    try:
                        process = await nursery.start(run_process)
                    except OSError as error:
                        raise LabError(f"cannot start {command[0]}: {error.strerror or error}") from None
                    self.pid = process.pid
                    task_status.started(self)
        finally:
            await _empty_group(self.pid)
            self._ended.set()
        expected = self.may_fail or (may_end and returncode == 0)
        if not self._scope.cancelled_caught and returncode is not None and not expected:
            raise LabError(
                f"{self.name} ended by itself ({ending(returncode)}): {self.tail() or 'it wrote nothing'}"
            )


async def start_child(
    nursery: trio.Nursery,
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    may_end: bool = False,
    may_fail: bool = False,
) -> Child:
    """Start a program as a task of `nursery`, which fails with a LabError if the program ends unasked.

    Args:
        nursery: Where the program lives; cancelling it ends the program.
        name: What error texts call it.
        command: Program and arguments.
        log: File that its output and errors are appended to.
        env: Its whole environment, or None for ours.
        pass_fds: Descriptors that it inherits under the same numbers.
        may_end: It may end by itself, with success.
        may_fail: It may end by itself, however.
    """
    child = Child(name, log)
    child.may_fail = may_fail
    run = partial(child.run, command, env=env, pass_fds=pass_fds, may_end=may_end)
    started: Child = await nursery.start(run)
    return started


async def _end_group(process: trio.Process) -> None:
    """Called by trio, shielded, when the task of a program is cancelled."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with trio.move_on_after(_GRACE_S):
        await process.wait()
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _empty_group(pid: int) -> None:
    """End what a program has started and left behind, as GTK programs do with their helpers, and wait for that."""
    with trio.CancelScope(shield=True), suppress(ProcessLookupError, PermissionError):
        with trio.move_on_after(_STRAGGLERS_S):
            while pid and process_group_lives(pid):
                os.killpg(pid, signal.SIGKILL)
                await trio.sleep(0.01)


def ending(returncode: int) -> str:
    """Say how a program ended."""
    if returncode >= 0:
        return f"exit status {returncode}"
    with suppress(ValueError):
        return signal.Signals(-returncode).name
    return f"signal {-returncode}"
