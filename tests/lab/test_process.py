"""Programs that end when they should, and the error when they end on their own."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import trio

from spiceproxy.lab.errors import LabError, single_error
from spiceproxy.lab.process import Child, start_child


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def stopped(pid: int) -> bool:
    return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()


async def shell(nursery: trio.Nursery, tmp_path: Path, script: str) -> Child:
    return await start_child(nursery, "prog", ["sh", "-c", script], log=tmp_path / "log")


async def word_in_log(child: Child, word: str) -> None:
    with trio.fail_after(5):
        while word not in child.tail():  # noqa: ASYNC110 - a file has no event
            await trio.sleep(0.01)


async def run_to_its_end(tmp_path: Path, script: str) -> None:
    with single_error():
        async with trio.open_nursery() as nursery:
            await shell(nursery, tmp_path, script)
            await trio.sleep(5)


async def test_a_program_that_ends_by_itself_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^prog ended by itself \(exit status 3\): first \| cannot go on$"):
        await run_to_its_end(tmp_path, "echo first; echo cannot go on >&2; exit 3")


async def test_a_program_that_may_end_is_an_error_only_if_it_fails(tmp_path: Path) -> None:
    for script, failing in (("exit 0", False), ("exit 3", True)):
        with pytest.raises(LabError, match="exit status 3") if failing else nullcontext(), single_error():
            async with trio.open_nursery() as nursery:
                command = ["sh", "-c", script]
                await start_child(nursery, "prog", command, log=tmp_path / "log", may_end=True)


async def test_a_program_that_is_killed_is_an_error_that_names_the_signal(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"^prog ended by itself \(SIGABRT\): it wrote nothing$"):
        await run_to_its_end(tmp_path, "kill -ABRT $$")


async def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot start /nowhere/prog: No such file"), single_error():
        async with trio.open_nursery() as nursery:
            await start_child(nursery, "prog", ["/nowhere/prog"], log=tmp_path / "log")


async def test_stopping_is_no_error_and_takes_along_what_the_program_started(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        child = await shell(nursery, tmp_path, "sleep 60 & echo child $! end; wait")
        await word_in_log(child, "end")
        grandchild = int(child.tail().split()[1])
        assert runs(child.pid)
        assert runs(grandchild)
        await child.stop()
        assert not runs(child.pid)
        assert not runs(grandchild)
        await child.stop()


async def test_a_program_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spiceproxy.lab.process._GRACE_S", 0.1)
    async with trio.open_nursery() as nursery:
        child = await shell(nursery, tmp_path, "trap '' TERM; echo ready; while true; do sleep 0.05; done")
        await word_in_log(child, "ready")
        with trio.fail_after(5):
            await child.stop()
        assert not runs(child.pid)


async def test_a_cancelled_nursery_leaves_no_program_behind(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        child = await shell(nursery, tmp_path, "sleep 60")
        assert runs(child.pid)
        assert os.getpgid(child.pid) == child.pid  # so Ctrl-C on our terminal does not reach it before us
        nursery.cancel_scope.cancel()
    assert not runs(child.pid)


async def test_a_program_that_may_fail_is_no_error_however_it_ends(tmp_path: Path) -> None:
    with single_error():
        async with trio.open_nursery() as nursery:
            command = ["sh", "-c", "kill -SEGV $$"]
            await start_child(nursery, "prog", command, log=tmp_path / "log", may_fail=True)


async def test_a_program_that_we_kill_is_gone_and_no_error(tmp_path: Path) -> None:
    with single_error():
        async with trio.open_nursery() as nursery:
            child = await shell(nursery, tmp_path, "trap '' TERM; echo ready; sleep 50")
            await word_in_log(child, "ready")
            await child.kill()
            assert not runs(child.pid)


async def test_a_program_that_stands_still_goes_on_when_it_is_let(tmp_path: Path) -> None:
    # Not a shell: while it starts another program it cannot be stopped.
    script = "import time\nwhile True: print('ready', flush=True); time.sleep(0.01)"
    with single_error():
        async with trio.open_nursery() as nursery:
            child = await start_child(nursery, "prog", [sys.executable, "-c", script], log=tmp_path / "log")
            await word_in_log(child, "ready")
            child.stand_still(True)
            with trio.fail_after(5):
                while not stopped(child.pid):  # noqa: ASYNC110 - a process state has no event
                    await trio.sleep(0.01)
            before = child.log.stat().st_size
            child.stand_still(False)
            with trio.fail_after(5):
                while child.log.stat().st_size == before:  # noqa: ASYNC110 - a file has no event
                    await trio.sleep(0.01)
            await child.stop()
