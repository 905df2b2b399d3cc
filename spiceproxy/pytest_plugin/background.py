"""trio in a thread of its own, for tests that know no trio: everything that is called has a deadline."""

import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast

import trio

T = TypeVar("T")
P = ParamSpec("P")

# Beyond a deadline inside the thread: so long for what is cancelled to come to its end, on a machine with other work.
_GRACE_S: Final = 10.0


async def awaited(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a method of a fixture from a trio test, where it must not block.

    ``await awaited(spice_servers.migrate, "seamless")``. Its own deadline is what ends it.
    """
    return await trio.to_thread.run_sync(lambda: function(*args, **kwargs), abandon_on_cancel=True)


class Part(Generic[T]):
    """An async context manager that has been entered in a `Background`.

    Attributes:
        value: What it gave.
        error: With what it ended by itself.
    """

    def __init__(self, value: T, leave: trio.Event, ended: trio.Event, scope: trio.CancelScope) -> None:
        self.value, self.error = value, cast("Exception | None", None)
        self._leave, self._ended, self._scope = leave, ended, scope

    async def exit(self, timeout_s: float) -> None:
        """Leave it; what takes longer is cancelled."""
        self._leave.set()
        with trio.move_on_after(timeout_s):
            await self._ended.wait()
            return
        self._scope.cancel()
        await self._ended.wait()


class Background:
    """A thread in which trio runs, until `close`."""

    def __init__(self) -> None:
        self._up = threading.Event()
        self._closed = False
        # A daemon, so that a bug of ours cannot keep a test run from ending.
        self._thread = threading.Thread(target=trio.run, args=(self._live,), name="spiceproxy", daemon=True)
        self._thread.start()
        if not self._up.wait(_GRACE_S):
            raise TimeoutError("the thread for spiceproxy does not start")

    async def _live(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as self._nursery:
            self._up.set()
            await self._stop.wait()
            self._nursery.cancel_scope.cancel()

    def call(self, function: Callable[..., Any], *args: Any, timeout_s: float) -> Any:
        """Call any function there, and await what it gives if that can be awaited.

        Raises:
            TimeoutError: It took too long.
        """

        async def call() -> Any:
            found = function(*args)
            return await found if inspect.isawaitable(found) else found

        return self.run(call, timeout_s=timeout_s)

    def run(self, function: Callable[..., Awaitable[T]], *args: Any, timeout_s: float) -> T:
        """Await an async function there.

        Raises:
            TimeoutError: It took too long.
        """
        future: Future[T] = Future()
        scope = trio.CancelScope()

        async def call() -> None:
            with scope:
                try:
                    with trio.fail_after(timeout_s):
                        future.set_result(await function(*args))
                except trio.TooSlowError:
                    future.set_exception(TimeoutError(f"not done within {timeout_s:g} s"))
                except Exception as error:  # noqa: BLE001  raised again where the caller waits
                    future.set_exception(error)
                finally:
                    future.cancel()  # without effect on one that has a result

        return self._wait(future, scope, call, timeout_s)

    def enter(self, manager: AbstractAsyncContextManager[T], *, timeout_s: float) -> Part[T]:
        """Enter an async context manager there, in a task of its own.

        Raises:
            TimeoutError: It took too long.
        """
        future: Future[Part[T]] = Future()
        scope = trio.CancelScope()

        async def hold() -> None:
            leave, ended = trio.Event(), trio.Event()
            part: Part[T] | None = None
            try:
                with scope:
                    async with manager as value:
                        part = Part(value, leave, ended, scope)
                        future.set_result(part)
                        await leave.wait()
            except Exception as error:  # noqa: BLE001  as above, or when it is left
                if part is None:
                    future.set_exception(error)
                else:
                    part.error = error
            finally:
                ended.set()
                future.cancel()

        return self._wait(future, scope, hold, timeout_s)

    def leave(self, part: Part[Any], *, timeout_s: float) -> None:
        """Leave what was entered.

        Raises:
            Exception: With which it has ended.
        """
        self.run(part.exit, timeout_s, timeout_s=timeout_s + _GRACE_S)
        if part.error is not None:
            raise part.error

    def _wait(
        self,
        future: "Future[T]",
        scope: trio.CancelScope,
        task: Callable[[], Awaitable[None]],
        timeout_s: float,
    ) -> T:
        if self._closed:
            raise RuntimeError("the test is over, and spiceproxy has stopped")
        self._token.run_sync_soon(self._nursery.start_soon, task)
        try:
            return future.result(timeout_s + _GRACE_S)
        except BaseException:  # also what a test's own time limit raises here
            self._token.run_sync_soon(scope.cancel)
            raise

    def close(self) -> None:
        """End everything there, and the thread.

        Raises:
            TimeoutError: It does not end.
        """
        if self._closed:
            return
        self._closed = True
        self._token.run_sync_soon(self._stop.set)
        self._thread.join(2 * _GRACE_S)
        if self._thread.is_alive():
            raise TimeoutError("the thread of spiceproxy does not end")
