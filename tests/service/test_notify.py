"""What the service manager is told, over a real socket of its kind."""

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from spiceproxy.service.notify import Notifier


def manager(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(address)
    made.settimeout(5)
    return made


def test_what_is_told_arrives_in_one_datagram(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as heard:
        Notifier({"NOTIFY_SOCKET": path}).tell("READY=1", "STATUS=fine")
        assert heard.recv(1000) == b"READY=1\nSTATUS=fine"


def test_an_abstract_socket_is_reached_as_well() -> None:
    name = f"spiceproxy-test-{os.getpid()}"
    with manager("\0" + name) as heard:
        Notifier({"NOTIFY_SOCKET": "@" + name}).tell("STOPPING=1")
        assert heard.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/none/there"}])
def test_nobody_who_listens_is_no_error(environment: dict[str, str]) -> None:
    Notifier(environment).tell("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "wanted_s"),
    [
        ("2000000", "", 2.0),
        ("2000000", str(os.getpid()), 2.0),
        ("2000000", "1", None),
        ("0", "", None),
        ("x", "", None),
    ],
)
def test_the_watchdog_is_served_only_if_it_is_ours(usec: str, pid: str, wanted_s: float | None) -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    assert Notifier(environment).watchdog_s == wanted_s


async def test_the_watchdog_hears_of_us_twice_as_often_as_it_wants(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as heard:
        heard.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "10000000"})
        with trio.move_on_after(21):
            await notifier.run()
        datagrams = []
        while True:
            try:
                datagrams.append(heard.recv(100))
            except BlockingIOError:
                break
    assert datagrams == [b"WATCHDOG=1"] * 5
