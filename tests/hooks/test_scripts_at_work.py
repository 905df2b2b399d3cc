"""Scripts in a proxy, over real sockets, and in the demo: read again while it runs, and the bytes go on."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, MainC, Msg
from spiceproxy import hooks
from spiceproxy.errors import UsageError
from spiceproxy.injection import Faults
from spiceproxy.injection.loading import load_faults
from tests.injection.faulty import expect, expect_nothing
from tests.raw_peers import RawProxy, message, raw_proxy

EXAMPLES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/hooks.md").read_text(), re.DOTALL
)
COMMAND = [sys.executable, "-m", "spiceproxy"]
PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")
HEAD = "from spiceproxy import hooks\n"
AWAY = HEAD + '@hooks.message(message="PING")\nasync def away(seen):\n    return hooks.Drop()\n'
ANSWER = (
    HEAD
    + '@hooks.message(message="PING")\nasync def mark(seen):\n    return [hooks.Drop(), hooks.Inject("SPICE_MSG_DISPLAY_MARK")]\n'
)
WRONG = HEAD + '@hooks.message(message="PING")\nasync def wrong(seen):\n    return int("hunter2")\n'


def faults(path: Path, text: str) -> Faults:
    path.write_text(text)
    found = load_faults((), (), (), script=path)
    assert found is not None
    return found


def write(path: Path, text: str) -> None:
    path.write_text(text)


async def test_an_edit_counts_from_the_next_message_on_connections_that_are_open(tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    async with raw_proxy(faults=faults(path, AWAY)) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, MARK)
        write(path, ANSWER)
        renewed = await raw.events.wait_for("script_renewed")
        assert renewed["hooks"] == ["hook mark"]
        await server.send_all(PING)
        await expect(client, MARK)
        other = '@hooks.message(message="SPICE_MSG_DISPLAY_MARK")\nasync def other(seen):\n    return hooks.Drop()\n'
        write(path, HEAD + other)  # about another message
        await raw.events.wait_for("script_renewed", count=2)
        await server.send_all(PING + MARK + PING)
        await expect(client, PING + PING)


@pytest.mark.parametrize(
    "broken",
    [
        "def (",
        "raise ValueError('hunter2')",
        "",
        HEAD + '@hooks.message(message="PINK")\nasync def x(seen): ...\n',
    ],
)
async def test_a_broken_edit_keeps_the_old_hooks_and_says_so_in_one_line(broken: str, tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    async with raw_proxy(faults=faults(path, AWAY)) as raw:
        client, server = await raw.linked()
        write(path, broken)
        failed = await raw.events.wait_for("script_failed")
        assert failed["reason"].startswith(str(path))
        assert "\n" not in failed["reason"]
        assert "hunter2" not in str(failed)
        await server.send_all(PING + MARK)
        await expect(client, MARK)
        write(path, ANSWER)
        await raw.events.wait_for("script_renewed")
        await server.send_all(PING)
        await expect(client, MARK)
        assert len(raw.events.named("script_failed")) == 1


async def test_an_exception_in_a_hook_is_logged_and_the_bytes_go_on(tmp_path: Path) -> None:
    async with raw_proxy(faults=faults(tmp_path / "s.py", WRONG)) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)
        failed = await raw.events.wait_for("hook_failed")
        assert (failed["hook"], failed["name"], failed["reason"]) == (
            "hook wrong",
            "SPICE_MSG_PING",
            "ValueError",
        )
        assert "hunter2" not in failed["reason"]
        assert failed["session"] == "s1"


async def test_a_hook_that_never_answers_is_abandoned_and_the_bytes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        HEAD
        + 'import trio\n@hooks.message(message="PING")\nasync def stuck(seen):\n    await trio.sleep(99)\n'
    )
    async with raw_proxy(faults=faults(tmp_path / "s.py", text)) as raw:
        assert raw.proxy.injector is not None
        assert raw.proxy.injector.room is not None
        raw.proxy.injector.room._limit_s = 0.1
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)
        assert (await raw.events.wait_for("hook_abandoned"))["hook"] == "hook stuck"


async def test_the_first_example_answers_over_sockets_in_the_destinations_place(tmp_path: Path) -> None:
    async with raw_proxy(faults=faults(tmp_path / "s.py", EXAMPLES[0])) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        await client.send_all(message(MainC.MIGRATE_DST_DO_SEAMLESS, b"\1\0\0\0"))
        with trio.fail_after(5):
            header = await client.receive_some(6)
        assert header[:2] == (118).to_bytes(2, "little")  # SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK
        await expect_nothing(server)
        assert (await raw.events.wait_for("fault_fired"))["fault"] == "hook nack"


async def test_the_second_example_counts_over_sockets(tmp_path: Path) -> None:
    text = EXAMPLES[1].replace("DRAW_COPY", "SPICE_MSG_DISPLAY_MARK")
    async with raw_proxy(faults=faults(tmp_path / "s.py", text)) as raw:
        await _many(raw)
        logged = await raw.events.wait_for("fault_log")
        assert logged["message"] == "100 images on display:0"


async def _many(raw: RawProxy) -> None:
    client, server = await raw.linked()
    await server.send_all(MARK * 150)
    await expect(client, MARK * 150)


def test_a_script_and_faults_go_together_and_a_bad_script_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    path.write_text("1 / 0")
    with pytest.raises(UsageError) as found:
        load_faults((), (), (), script=path)
    assert "ZeroDivisionError" in str(found.value)
    assert "\n" not in str(found.value)
    path.write_text(AWAY)
    both = load_faults((), ("nack-synth",), (), script=path)
    assert both is not None
    assert both.script is not None
    assert len(both.rules) == 1


def played(tmp_path: Path, script: str, *arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result of a demo with a script, and the proxy's events."""
    path, events = tmp_path / "hooks.py", tmp_path / "events.jsonl"
    path.write_text(script)
    call = [*COMMAND, "demo", "--json", "--script", str(path), "--events", str(events), *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result, [json.loads(line) for line in events.read_text().splitlines()]


def test_the_first_example_makes_the_demo_semi_seamless(tmp_path: Path) -> None:
    result, events = played(tmp_path, EXAMPLES[0])
    assert result["outcome"] == "semi-seamless"
    assert {event["fault"] for event in events if event["event"] == "fault_fired"} == {"hook nack"}


def test_the_second_example_counts_what_the_demo_draws(tmp_path: Path) -> None:
    # The demo draws with DRAW_FILL, 135 times in all: as the example, and every fiftieth.
    text = EXAMPLES[1].replace("DRAW_COPY", "DRAW_FILL").replace("100", "50")
    result, events = played(tmp_path, text)
    assert result["outcome"] == "seamless"
    told = [event["message"] for event in events if event["event"] == "fault_log"]
    assert told[:2] == ["50 images on display:0", "100 images on display:0"]


def test_the_third_example_delays_every_second_migration_of_the_demo(tmp_path: Path) -> None:
    result, events = played(tmp_path, EXAMPLES[2], "--hops", "2")
    assert result["outcome"] == "seamless"
    fired = [event for event in events if event["event"] == "fault_fired"]
    assert {event["fault"] for event in fired} == {"hook late"}
    assert {event["hop"] for event in fired} == {1}
    assert result["hops"][1]["duration_s"] > 2 > result["hops"][0]["duration_s"]


def test_the_names_that_a_script_may_use_are_those_of_the_package() -> None:
    used = {name for text in EXAMPLES for name in re.findall(r"hooks\.(\w+)", text)}
    assert used <= set(hooks.__all__)
