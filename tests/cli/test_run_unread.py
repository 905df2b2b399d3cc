"""`spiceproxy run` whose standard output nobody reads to the end."""

import json
import os
import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["--json"], []], ids=["json", "text"])
def test_a_proxy_whose_output_is_not_read_any_more_goes_on_and_ends_well(arguments: list[str]) -> None:
    """As with `| head -1`, or a program that wants to know the port and no more."""
    command = [
        sys.executable,
        "-m",
        "spiceproxy",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--server",
        "127.0.0.1:1",
    ]
    # With a buffer, as users have it, the flush at the end of the program fails as well.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        first = program.stdout.readline()
        program.stdout.close()
        program.send_signal(signal.SIGTERM)
        said = program.stderr.read()
        assert (program.wait(timeout=30), "Traceback" in said) == (0, False), said
    assert "proxy_stopped" in said
    if arguments:
        assert json.loads(first)["event"] == "proxy_started"
