"""How a client leaves the source: R42 and R44.

Sources: spice-gtk spice-session.c, spice_session_channel_migrate(), which closes all old sockets together; spice-server
reds.cpp, reds_mig_finished() and migrate_timeout().
"""

from typing import Final

from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState
from spiceproxy.protocol.migration.model import ChannelMigration, Closing, Evidence, Kind, Party
from spiceproxy.protocol.migration.rules.case import CROSSING_NS, Check
from spiceproxy.protocol.migration.rules.replying import SLACK_NS
from spiceproxy.protocol.migration.tables import NEED_DATA, PLAIN_CHANNELS
from spiceproxy.protocol.migration.wording import duration, plain_name

_PATIENCE_NS: Final = (
    TIMEOUT_NS * 3 // 2
)  # of ours with a source that does not drop the client: its timers may fire late
_TOGETHER_NS: Final = 10**9  # a client that ends has closed all it had within this


class Leaving(Check):
    """Looks at when connections to the source were closed, and by whom."""

    rules = ("R42", "R44")

    def ended(self) -> None:
        """Judge the ends of connections by the source's last word."""
        ending, replied = self.m.ending, self.m.handshake.reply_evidence
        word = ending.migrate if self.m.performed is Kind.SEAMLESS else ending.end
        if word is None or self.m.performed is Kind.SWITCH_HOST or self.case.muddled:
            return
        open_then = {
            name: connection
            for name, connection in self.case.source.items()
            if connection.linked is not None
            and (
                replied is None or connection.closing is None or connection.closing.time_ns > replied.time_ns
            )
        }
        if replied is not None:
            self._too_early(open_then, word)
        self._too_late(open_then, word)

    def _too_early(self, leaving: dict[str, ConnectionState], word: Evidence) -> None:
        m, end = self.m, self.m.ended_ns or 0
        switched = word.time_ns
        if m.performed is Kind.SEAMLESS:
            times = [_switched_ns(m.channels[name]) for name in leaving if name in m.channels]
            switched = max((end if each is None else each for each in times), default=end)
        closings = {name: each.closing for name, each in leaving.items() if each.closing is not None}
        for name, closing in closings.items():
            if closing.by != "client" or closing.time_ns + CROSSING_NS >= switched:
                continue
            others = [closings.get(other) for other in leaving if other != name]
            if all(_soon(each, closing.time_ns) for each in others) and not self._all_there():
                continue  # it ended everything
            before = duration(switched - closing.time_ns)
            until = "the last channel had switched" if m.performed is Kind.SEAMLESS else "MIGRATE_END"
            text = f"the client closed {name} at the source {before} before {until}"
            self.case.report("R42", Party.CLIENT, text, word, channel=name, needs=tuple(leaving))

    def _all_there(self) -> bool:
        """Whether the client goes on at the destination."""
        return all(
            connection.closing is None or connection.closing.by != "client"
            for connection in self.case.destination.values()
            if connection.linked is not None
        )

    def _too_late(self, leaving: dict[str, ConnectionState], word: Evidence) -> None:
        name, end = plain_name(word.name), self.m.ended_ns or 0
        closings = [each.closing for each in leaving.values()]
        ends = [each.time_ns if each is not None and each.by != "capture" else end for each in closings]
        stayed = max(ends, default=word.time_ns) - word.time_ns
        dropped = [
            each
            for each in closings
            if each is not None
            and each.by == "server"
            and each.time_ns - word.time_ns > TIMEOUT_NS - SLACK_NS
        ]
        if dropped or stayed > TIMEOUT_NS + SLACK_NS:
            how = (
                "the source dropped it"
                if dropped
                else "it is still there"
                if None in closings
                else "then it went"
            )
            text = f"the client had not left the source {duration(stayed)} after {name}: {how}"
            self.case.report("R44", Party.CLIENT, text, word, channel="main:0", needs=tuple(leaving))
        if stayed > _PATIENCE_NS:
            text = f"the source had not dropped the client {duration(stayed)} after {name}: it waits 10 s"
            self.case.report("R44", Party.SOURCE, text, word, channel="main:0", needs=tuple(leaving))


def _switched_ns(channel: ChannelMigration) -> int | None:
    """When the client had all it needs to use the destination; None if it never had."""
    if channel.data_from_source is not None:
        return channel.data_from_source.evidence.time_ns
    needs_data = channel.flags is None or bool(channel.flags & NEED_DATA)
    if channel.migrate is None or (needs_data and channel.channel_type not in PLAIN_CHANNELS):
        return None
    return channel.migrate.time_ns


def _soon(closing: Closing | None, since_ns: int) -> bool:
    return closing is not None and closing.time_ns - since_ns < _TOGETHER_NS
