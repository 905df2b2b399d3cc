"""`spiceproxy run` where it runs for long: recordings that are kept in a ring or rotate, limits, signals."""

import json
import signal
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from spiceproxy.cli.run import run_command
from spiceproxy.simulate import open_client, open_server
from tests.cli.test_run import _start
from tests.recording.packets import recorded


async def _wait_for_event(file: Path, name: str) -> dict[str, object]:
    with trio.fail_after(10):
        while True:
            for line in file.read_text().splitlines():  # noqa: ASYNC240  a small file
                event: dict[str, object] = json.loads(line)
                if event["event"] == name:
                    return event
            await trio.sleep(0.02)


async def test_a_signal_has_the_last_seconds_written_and_the_proxy_goes_on(tmp_path: Path) -> None:
    events = tmp_path / "e.jsonl"
    ring = ["--record", str(tmp_path / "vm.pcapng"), "--record-ring", "60"]
    async with trio.open_nursery() as nursery, open_server() as server:
        assert server.address is not None
        process, started = await _start(
            nursery, "--server", "{}:{}".format(*server.address), *ring, "--events", str(events)
        )
        async with open_client() as client:
            await client.connect("127.0.0.1", started["port"])
            await server.wait_client_arrived()
            process.send_signal(signal.SIGUSR1)
            dumped = await _wait_for_event(events, "recording_dumped")
            assert dumped["reason"] == "SIGUSR1"
            assert len(recorded(Path(str(dumped["record"])).read_bytes())) > 20  # noqa: ASYNC240
            server.draw(5)
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(10):
            assert await process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--record-ring", "5"], "needs --record"),
        (["--record-on-full", "end-sessions"], "needs --record"),
        (["--record", "x.pcapng", "--record-ring", "5", "--record-limit", "1M"], "needs no limit"),
        (["--record", "x.pcapng", "--record-keep", "5"], "needs --record-rotate"),
        (["--record", "x.pcapng", "--record-rotate-size", "5 apples"], "no size"),
        (["--record", "x.pcapng", "--record-rotate-size", "5"], "too little"),
        (["--limits", "none.toml"], "No such file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(run_command, ["--server", "127.0.0.1:1", *arguments])
    assert result.exit_code != 0
    assert said in result.output + str(result.exception)
