"""Scripts are files, read again when they change; and the examples of docs/hooks.md."""

import re
from pathlib import Path

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, MainC, MsgC
from spiceproxy import hooks
from spiceproxy.faults import Context, Engine
from spiceproxy.faults.effects import Effect, Log, Wait
from tests.faults.doing import DISPLAY, INPUTS, MAIN, SECOND, C, S
from tests.faults.relaying import sent, unwire, wire

HOOK = """
from spiceproxy import hooks

@hooks.message(message="MIGRATE")
async def {name}(seen):
    return None
"""
EXAMPLES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/hooks.md").read_text(), re.DOTALL
)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def example(number: int, path: Path) -> hooks.Room:
    def fail(name: str, fields: dict[str, str]) -> None:
        raise AssertionError(f"{name} {fields}")

    script = hooks.Script(written(path / "example.py", EXAMPLES[number]))
    return hooks.Room(Engine(live=True), script.hooks, fail)


def on(channel_type: ChannelType, channel_id: int = 0, migration: int = 0) -> Context:
    return Context("s1", f"c{channel_id}", channel_type, channel_id, migration=migration)


def test_there_are_three_examples() -> None:
    assert len(EXAMPLES) == 3


async def test_the_first_example_answers_in_the_destinations_place(tmp_path: Path) -> None:
    asked = example(0, tmp_path)
    question = unwire(C, wire(MainC.MIGRATE_DST_DO_SEAMLESS, b"\1\0\0\0"))
    effects = await asked.message(on(MAIN), question)
    assert sent(effects, S) == []
    assert sent(effects, C) == [wire(Main.MIGRATE_DST_SEAMLESS_NACK)]


async def test_the_second_example_counts_each_display(tmp_path: Path) -> None:
    asked = example(1, tmp_path)
    displays = [on(DISPLAY, 0), on(DISPLAY, 1)]
    logged: list[Effect] = []
    for number in range(1, 101):
        for context in displays if number % 2 else displays[:1]:
            logged += await asked.message(context, unwire(S, wire(Display.DRAW_COPY, b"?"), number=number))
    assert [each.text for each in logged if isinstance(each, Log)] == ["100 images on display:0"]


async def test_the_third_example_delays_every_second_migration(tmp_path: Path) -> None:
    asked = example(2, tmp_path)
    mark = wire(MsgC.MIGRATE_FLUSH_MARK)
    delays = []
    for migration in (1, 2, 3, 4):
        effects = await asked.message(on(INPUTS, migration, migration), unwire(C, mark))
        delays.append([each.delay_ns for each in effects if isinstance(each, Wait)])
    assert delays == [[], [2 * SECOND], [], [2 * SECOND]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no hook in it"),
        ("def (", "line 1"),
        ("import sys\nsys.exit(3)", "SystemExit"),
        ("int('hunter2')", r"ValueError at .*s\.py, line 1$"),
        (HOOK.format(name="x").replace("MIGRATE", "MIGRAT"), "did you mean `MIGRATE`"),
    ],
)
def test_a_script_that_cannot_be_used_says_why(text: str, reason: str, tmp_path: Path) -> None:
    path = written(tmp_path / "s.py", text)
    with pytest.raises(hooks.HookError, match=reason) as found:
        hooks.Script(path)
    assert str(found.value).startswith(str(path))


def test_a_script_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(hooks.HookError, match=r"cannot read .*: no such file or directory"):
        hooks.Script(tmp_path / "none.py")


def test_a_script_may_have_dataclasses_with_postponed_annotations(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + HOOK.format(name="x")
    script = hooks.Script(written(tmp_path / "s.py", text + "\n@dataclass\nclass A:\n    b: int\n"))
    assert [each.name for each in script.hooks] == ["hook x"]


def test_a_script_is_read_again_when_it_has_changed_and_only_then(tmp_path: Path) -> None:
    path = written(tmp_path / "s.py", HOOK.format(name="first"))
    script = hooks.Script(path)
    assert not script.renew()
    written(path, HOOK.format(name="the_second"))
    assert script.renew()
    assert [each.name for each in script.hooks] == ["hook the_second"]
    assert not script.renew()


async def test_the_old_hooks_stay_while_the_file_is_wrong_or_gone(
    tmp_path: Path, autojump_clock: object
) -> None:
    path = written(tmp_path / "s.py", HOOK.format(name="first"))
    script = hooks.Script(path)
    changes: list[hooks.HookError | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script.watch, changes.append)
        written(path, "def (")
        await trio.sleep(3)
        assert len(changes) == 1
        assert isinstance(changes[0], hooks.HookError)
        path.unlink()
        await trio.sleep(3)
        assert len(changes) == 2
        assert [each.name for each in script.hooks] == ["hook first"]
        written(path, HOOK.format(name="third"))
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert changes[2:] == [None]
    assert [each.name for each in script.hooks] == ["hook third"]
