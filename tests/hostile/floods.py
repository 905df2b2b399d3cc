"""Many at once."""

from typing import Final

import trio

from tests.hostile.abuse import Abuse, Act, reset, until_closed
from tests.raw_peers import RawProxy, link_mess


def flood(count: int, data: bytes = b"", *, ends: str) -> Act:
    """So many connections with these first bytes, a hundred at a time; what comes of them is not looked at."""

    async def one(raw: RawProxy) -> None:
        try:
            client = await trio.open_tcp_stream(*raw.proxy.address)
        except OSError:
            return
        async with client:
            try:
                await client.send_all(data)
            except trio.BrokenResourceError:
                return
            if ends == "reset":
                reset(client)
            elif ends == "waits":
                await until_closed(client)

    async def act(raw: RawProxy) -> None:
        done = 0
        while done < count:
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(one, raw)
            done += 100
            await trio.sleep(0.05)

    return act


async def _half_open(raw: RawProxy) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(_stay, raw)
            await trio.sleep(0.001)


async def _stay(raw: RawProxy) -> None:
    stream = await trio.open_tcp_stream(*raw.proxy.address)
    async with stream:
        await until_closed(stream)


FLOODS: Final = (
    Abuse("a thousand connections that say nothing", _half_open, "connection_refused", {"reason": "have not sent a link message"}, time_limit_s=8),
    Abuse("two thousand connections that close at once", flood(2000, ends="closes"), "link_failed", {"by": "client"}, time_limit_s=8),
    Abuse("two thousand connections that reset at once", flood(2000, ends="reset"), "link_failed", {"by": "client"}, time_limit_s=8),
    Abuse("five hundred wrong protocols", flood(500, b"GET / HTTP/1.0\r\n\r\n", ends="waits"), "link_failed", {"by": "client"}, time_limit_s=8),
    Abuse("five hundred links whose client leaves", flood(500, link_mess(connection_id=77), ends="reset"), "session_unknown", {"connection_id": 77}, time_limit_s=8),
)  # fmt: skip
