"""A proxy with faults, between peers that say exactly what a test tells them to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from spiceproxy.faults import parse
from spiceproxy.injection import Faults
from tests.raw_peers import RawProxy, raw_proxy, read_exactly


@asynccontextmanager
async def faulty(rules: str, *, seed: int = 0, live: bool = False, **options: Any) -> AsyncIterator[RawProxy]:
    """A proxy with the rules of a TOML text."""
    async with raw_proxy(faults=Faults(parse(rules).rules, seed=seed, live=live), **options) as raw:
        yield raw


async def expect(stream: trio.SocketStream, data: bytes, *, timeout_s: float = 5) -> None:
    """These bytes come next."""
    with trio.fail_after(timeout_s):
        assert await read_exactly(stream, len(data)) == data


async def expect_nothing(stream: trio.SocketStream, seconds: float = 0.2) -> None:
    """Nothing comes for a while."""
    with trio.move_on_after(seconds) as scope:
        data = await stream.receive_some()
        raise AssertionError(f"{data!r} came")
    assert scope.cancelled_caught


def one(do: str, match: str = 'message = "PING"', **more: str) -> str:
    """A file with one fault."""
    lines = [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(["[[fault]]", f"match = {{ {match} }}", f"do = {do}", *lines])
