"""A file of hooks, read again when it changes."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

import trio

from spiceproxy.hooks.hook import Hook, HookError
from spiceproxy.hooks.traces import place

MODULE: Final = "spiceproxy_script"
"""The name that a script has for itself and for the classes in it."""


class Script:
    """A file of hooks.

    Args:
        path: Of the file.

    Attributes:
        path: As given.
        hooks: Of the file as it was last read without an error, in its order.

    Raises:
        HookError: It cannot be read or run, or has no hook.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = self._look()
        self.hooks = self._run()

    def renew(self) -> bool:
        """Read the file again if it is another one now.

        Returns:
            Whether there are new hooks.

        Raises:
            HookError: As in the beginning. The old hooks stay, and the file is not tried again before it changes.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.hooks = self._run()
        return True

    async def watch(self, changed: Callable[[HookError | None], None], *, every_s: float = 0.1) -> None:
        """Look again and again whether the file has changed; ends when it is cancelled.

        Args:
            changed: Called after a change: with None if there are new hooks, or with what is wrong.
            every_s: How long to wait between two looks.
        """
        missing = False
        while True:
            await trio.sleep(every_s)
            try:
                if self.renew():
                    changed(None)
                missing = False
            except HookError as error:
                gone = not self.path.exists()  # an editor may be about to put the new one there
                if not (gone and missing):
                    changed(error)
                missing = gone

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise HookError(f"cannot read {self.path}: {(error.strerror or str(error)).lower()}") from None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _run(self) -> tuple[Hook, ...]:
        module = ModuleType(MODULE)
        module.__file__ = str(self.path)
        before = sys.modules.get(MODULE)
        sys.modules[MODULE] = module  # where dataclasses look for the names in their annotations
        try:
            exec(compile(self.path.read_bytes(), str(self.path), "exec"), module.__dict__)  # noqa: S102  what a script is for
            hooks = tuple(each for each in vars(module).values() if isinstance(each, Hook))
            if not hooks:
                raise HookError("there is no hook in it")
        except (Exception, SystemExit) as error:  # noqa: BLE001  anything may be in a script
            if before is None:
                del sys.modules[MODULE]
            else:
                sys.modules[MODULE] = before
            reason = str(error) if isinstance(error, HookError | SyntaxError | OSError) else place(error)
            raise HookError(f"{self.path}: {reason}") from None
        return hooks
