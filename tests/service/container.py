"""The image of docs/packaging/Containerfile: built, run, connected through, and stopped.

python -m tests.service.container      # takes podman, and what the image is based on

As the environment says: PODMAN (the program and its options, by default `podman`), BUILD_OPTIONS and RUN_OPTIONS (for `podman build` and
`podman run`). A machine without the usual registry takes BUILD_OPTIONS='--build-arg BASE=localhost/python-base'.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from spiceproxy.lab.qemu import free_port
from spiceproxy.simulate import SimulatedClient, SimulatedServer, open_client, open_server

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGE: Final = "localhost/spiceproxy-test"
NAME: Final = "spiceproxy-test"
PODMAN: Final = shlex.split(os.environ.get("PODMAN", "podman"))
BUILD_OPTIONS: Final = shlex.split(os.environ.get("BUILD_OPTIONS", ""))
# On the host's network, so that what connects here needs no port mapping; nothing but the volume can be written to.
RUN_OPTIONS: Final = ["--network=host", "--read-only", *shlex.split(os.environ.get("RUN_OPTIONS", ""))]
HEALTH: Final = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:{}/healthz', timeout=4).status)"
)


def podman(*arguments: str) -> str:
    """Run it; returns what it prints."""
    done = subprocess.run([*PODMAN, *arguments], check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(f"podman {shlex.join(arguments)}: {done.stderr.strip()[-500:]}")
    return done.stdout


@contextmanager
def _container(server: int, listen: int, metrics: int) -> Iterator[subprocess.Popen[str]]:
    command = [*PODMAN, "run", "--rm", "--name", NAME, *RUN_OPTIONS, IMAGE, "--json"]
    options = [
        f"--server=127.0.0.1:{server}",
        f"--listen=127.0.0.1:{listen}",
        f"--metrics=127.0.0.1:{metrics}",
    ]
    recorded = ["--record=/data/vm.pcapng"]
    with subprocess.Popen([*command, *options, *recorded], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                subprocess.run([*PODMAN, "kill", NAME], check=False, capture_output=True)


async def _draw(server: SimulatedServer, client: SimulatedClient) -> None:
    """Have the guest draw, and wait until the client has it."""
    before = client.drawn
    server.draw(20)
    with trio.fail_after(30):
        while client.drawn < before + 20:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def play() -> None:
    """Connect through a container, ask it how it is, have it read its files again, and stop it."""
    listen, metrics = free_port(), free_port()
    async with open_server() as server, open_client() as client:
        assert server.address is not None
        with _container(server.address.port, listen, metrics) as process:
            assert process.stdout is not None
            started = json.loads(await trio.to_thread.run_sync(process.stdout.readline))
            assert started["event"] == "proxy_started", started
            with trio.fail_after(30):
                await client.connect("127.0.0.1", listen)
                await server.wait_client_arrived()
            await _draw(server, client)
            print("a session goes through it")
            assert podman("exec", NAME, "id", "-u").strip() == "10001"
            assert podman("exec", NAME, "python", "-c", HEALTH.format(metrics)).strip() == "200"
            print("it runs without privileges, and is healthy")
            podman("kill", "--signal=HUP", NAME)
            await _draw(server, client)
            modes = podman("exec", NAME, "stat", "-c", "%a %u", "/data/vm.pcapng").split()
            assert modes == ["600", "10001"], modes
            print("it lives through SIGHUP, and its recording is its own")
            client.disconnect()
            podman("kill", "--signal=TERM", NAME)
            status = await trio.to_thread.run_sync(lambda: process.wait(60))
            assert status == 0, status
            print("it ends by SIGTERM with status 0")


def main() -> int:
    """All of it."""
    print("building")
    podman(
        "build",
        "--format=docker",
        "-f",
        "docs/packaging/Containerfile",
        "-t",
        IMAGE,
        *BUILD_OPTIONS,
        str(ROOT),
    )
    text = podman("run", "--rm", *RUN_OPTIONS, "--entrypoint=spiceproxy", IMAGE, "demo")
    assert "none broken" in text, text
    print("the demo runs in it")
    trio.run(play)
    return 0


if __name__ == "__main__":
    sys.exit(main())
