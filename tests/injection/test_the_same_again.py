"""The same seed and the same input bring the same bytes, however the connections of a session come in each other's way."""

import random
import struct
from pathlib import Path

import trio
import trio.lowlevel

from dissectors.channels import ChannelType
from dissectors.message_ids import Msg
from dissectors.side import Side
from tests.injection.faulty import faulty
from tests.injection.test_recording import recorded
from tests.raw_peers import message

RULES = """
[[fault]]
match = { message = "PING", probability = 0.3 }
do = "drop"

[[fault]]
match = { message = "PING", probability = 0.3 }
do = { corrupt = 2 }

[[fault]]
match = { message = "PING", probability = 0.2 }
do = ["duplicate", { split = 5 }]

[[fault]]
count = "connection"
match = { message = "PING", every = 5 }
do = { inject = { message = "PING", when = "before", fields = { id = 77 } } }
"""

CHANNELS = (ChannelType.DISPLAY, ChannelType.CURSOR, ChannelType.INPUTS)
END = message(9999, b"the end of it")


async def play(path: Path, seed: int, order: random.Random, *, recorded_too: bool = True) -> dict[int, bytes]:
    """What each client gets, with bytes cut and connections taken in turns as `order` has it."""
    got: dict[int, bytes] = {}
    async with faulty(RULES, seed=seed, record=path if recorded_too else None) as raw:
        pairs = {kind: await raw.linked(kind, connection_id=4) for kind in CHANNELS}
        left = {
            kind: b"".join(message(Msg.PING, struct.pack("<IQ", n, kind)) for n in range(200)) + END
            for kind in CHANNELS
        }

        async def read(kind: ChannelType) -> None:
            data = b""
            with trio.fail_after(20):
                while not data.endswith(END):
                    data += await pairs[kind][0].receive_some()
            got[kind] = data

        async with trio.open_nursery() as nursery:
            for kind in CHANNELS:
                nursery.start_soon(read, kind)
            while any(left.values()):
                kind = order.choice([each for each in CHANNELS if left[each]])
                size = order.randint(1, 400)
                await pairs[kind][1].send_all(left[kind][:size])
                left[kind] = left[kind][size:]
                if order.random() < 0.2:
                    await trio.lowlevel.checkpoint()
        for client, server in pairs.values():
            await client.aclose()
            await server.aclose()
        await raw.events.wait_for("channel_closed", count=len(CHANNELS))
    return got


async def test_however_bytes_are_cut_and_connections_take_turns(tmp_path: Path) -> None:
    first = await play(tmp_path / "0", 3, random.Random(0))
    for n in (1, 2, 3):
        assert await play(tmp_path / str(n), 3, random.Random(n)) == first
    assert await play(tmp_path / "other", 4, random.Random(0)) != first
    assert await play(tmp_path / "none", 3, random.Random(9), recorded_too=False) == first
    told: dict[int, bytes] = {}
    for each in recorded(tmp_path / "0"):
        if each.message.side is Side.SERVER:
            key = each.connection.channel_type or 0
            told[key] = told.get(key, b"") + each.message.header + each.message.body
    assert told == {int(kind): data for kind, data in first.items()}
