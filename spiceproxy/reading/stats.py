"""How many messages of which kind passed."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from spiceproxy.reading.decode import MessageView

# Kinds that are told apart: a peer may send any of 65536 ids on any of 65536 channels.
MAX_ROWS: Final = 10_000
OTHERS: Final = ("others", "", "")


class Stats:
    """Sums per channel, sender and message name."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], list[int]] = {}  # messages, bytes, undecoded

    def add(self, view: MessageView) -> None:
        """Count this message. Its body is decoded: how many do not decode is what people ask first."""
        message = view.captured.message
        key = view.captured.connection.channel or "unknown", message.side.value, view.name
        if key not in self._rows and len(self._rows) >= MAX_ROWS:
            key = OTHERS
        row = self._rows.setdefault(key, [0, 0, 0])
        row[0] += 1
        row[1] += message.size
        row[2] += view.error is not None

    def json_lines(self) -> Iterator[bytes]:
        """A line for each kind."""
        for row in self._sorted():
            yield msgspec.json.encode({"v": 1, "stats": row})

    def lines(self) -> Iterator[str]:
        """A table."""
        rows = self._sorted()
        if not rows:
            return
        name = max(len(row["name"]) for row in rows)
        channel = max(7, *(len(row["channel"]) for row in rows))
        yield f"{'channel':<{channel}}  {'from':<6}  {'message':<{name}}  {'messages':>9}  {'bytes':>12}  undecoded"
        for row in [*rows, self._total(rows)]:
            yield (
                f"{row['channel']:<{channel}}  {row['from']:<6}  {row['name']:<{name}}  {row['messages']:>9}  "
                f"{row['bytes']:>12}  {row['undecoded'] or '-':>9}"
            )

    def _sorted(self) -> list[dict[str, Any]]:
        return [
            {
                "channel": channel,
                "from": side,
                "name": name,
                "messages": row[0],
                "bytes": row[1],
                "undecoded": row[2],
            }
            for (channel, side, name), row in sorted(self._rows.items())
        ]

    def _total(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        sums = {key: sum(row[key] for row in rows) for key in ("messages", "bytes", "undecoded")}
        return {"channel": "all", "from": "", "name": "", **sums}
