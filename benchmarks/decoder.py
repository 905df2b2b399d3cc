"""Microseconds to decode one message: construct, our code from the same schemas, and on to a line of JSON.

python benchmarks/decoder.py [--number N] [--rounds N] [--json]
"""

import argparse
import json
import sys
from pathlib import Path
from timeit import repeat
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import captures
from dissectors.channels import ChannelType
from dissectors.fields import read
from dissectors.registry import build_named, dissect, dissect_plain, find, lookup

_MINI_HEADER_BYTES: Final = 6


def bodies() -> dict[str, bytes]:
    """One body of each kind that is measured, by the message's name."""
    image = {"type": 101, "u": {"lz_rgb": {"data": bytes(500)}}}
    rects = [captures.rect(n, n) for n in range(100)]
    return {
        "SPICE_MSGC_INPUTS_MOUSE_MOTION": build_named("SPICE_MSGC_INPUTS_MOUSE_MOTION", dx=1, dy=2, buttons_state=0),
        "SPICE_MSG_SET_ACK": build_named("SPICE_MSG_SET_ACK", generation=1, window=20),
        "SPICE_MSG_DISPLAY_DRAW_COPY": captures.draw_copy(image, 64, 64, 1)[_MINI_HEADER_BYTES:],
        "SPICE_MSG_DISPLAY_STREAM_CLIP": build_named(
            "SPICE_MSG_DISPLAY_STREAM_CLIP", id=1, clip={"type": 1, "u": {"rects": {"rects": rects}}}
        ),
    }  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Best of the rounds, in microseconds a message."""
    encode = msgspec.json.Encoder().encode
    figures: dict[str, dict[str, float]] = {}
    for name, body in bodies().items():
        channel, side, found = find(name)[0]
        channel_type = ChannelType.MAIN if channel is None else channel
        spec = lookup(channel_type, side, found.id)
        assert spec is not None
        schema = spec.schema

        def best(statement: str, number: int, names: dict[str, object]) -> float:
            return min(repeat(statement, number=number, repeat=options.rounds, globals=names)) / number * 1e6

        names: dict[str, object] = {
            "read": read, "schema": schema, "body": body, "dissect": dissect, "plain": dissect_plain,
            "encode": encode, "c": channel_type, "s": side, "i": found.id,
        }  # fmt: skip
        figures[name] = {
            "bytes": len(body),
            "construct": best("read(schema, body)", options.number // 10, names),
            "compiled": best("dissect(c, s, i, body)", options.number, names),
            "for JSON": best("plain(c, s, i, body)", options.number, names),
            "with JSON": best("encode(plain(c, s, i, body)[0])", options.number, names),
        }
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps(figures))
        return 0
    columns = list(next(iter(figures.values())))
    table = Table("message", *columns, title="microseconds a message")
    for name, row in figures.items():
        table.add_row(
            name, *(f"{row[column]:.0f}" if column == "bytes" else f"{row[column]:.1f}" for column in columns)
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
