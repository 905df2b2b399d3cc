"""trio in a thread of its own."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from spiceproxy.pytest_plugin import background as module
from spiceproxy.pytest_plugin.background import Background


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


def test_what_is_called_runs_in_the_other_thread_and_its_error_comes_out_here(background: Background) -> None:
    async def name(suffix: str) -> str:
        await trio.lowlevel.checkpoint()
        return threading.current_thread().name + suffix

    assert background.run(name, "!", timeout_s=5) == "spiceproxy!"
    assert background.call(threading.current_thread, timeout_s=5) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        background.call(lambda: 1 / 0, timeout_s=5)


def test_a_deadline_cancels_what_goes_on_there(background: Background) -> None:
    ended = threading.Event()

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with pytest.raises(TimeoutError, match=r"not done within 0\.01 s"):
        background.run(wait, timeout_s=0.01)
    assert ended.wait(5)


def test_a_part_is_left_in_its_own_task_and_says_with_what_it_ended(background: Background) -> None:
    steps = []

    @asynccontextmanager
    async def manager(fail: bool) -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield "value"
            nursery.cancel_scope.cancel()
        steps.append("left")
        if fail:
            raise ValueError("as it ends")

    part = background.enter(manager(False), timeout_s=5)
    assert part.value == "value"
    background.leave(part, timeout_s=5)
    part = background.enter(manager(True), timeout_s=5)
    with pytest.raises(ValueError, match="as it ends"):
        background.leave(part, timeout_s=5)
    assert steps == ["left", "left"]


def test_a_part_that_does_not_end_is_cancelled(background: Background) -> None:
    ended = []

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        yield
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    background.leave(background.enter(manager(), timeout_s=5), timeout_s=0.01)
    assert ended == ["cancelled"]


def test_a_part_that_cannot_be_entered_raises_at_once(background: Background) -> None:
    class Refuses(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            raise OSError("no")

        async def __aexit__(self, *_: object) -> None:
            """It is never entered."""

    with pytest.raises(OSError, match="no"):
        background.enter(Refuses(), timeout_s=5)


def test_a_part_that_breaks_off_does_not_end_its_neighbours(background: Background) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        async def fail() -> None:
            raise ValueError("broken off")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield

    part = background.enter(broken(), timeout_s=5)
    with pytest.raises(ExceptionGroup):
        background.leave(part, timeout_s=5)
    assert background.call(lambda: 1, timeout_s=5) == 1


def test_closing_ends_what_is_left(background: Background) -> None:
    ended = threading.Event()

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        try:
            yield
        finally:
            ended.set()

    background.enter(manager(), timeout_s=5)
    background.close()
    assert ended.is_set()
    background.close()
    with pytest.raises(RuntimeError, match="the test is over"):
        background.call(time.time, timeout_s=5)


def test_a_thread_that_does_not_end_is_said(background: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.01)
    release = threading.Event()
    background._token.run_sync_soon(release.wait)
    with pytest.raises(TimeoutError, match="does not end"):
        background.close()
    release.set()
    background._thread.join(5)
