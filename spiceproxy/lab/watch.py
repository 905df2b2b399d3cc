"""What the proxy says while the lab runs: its events, kept and waited for."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from spiceproxy.lab.result import MigrationKind

Event = Mapping[str, Any]

_REPLIES: Final = frozenset({"MIGRATE_CONNECTED", "MIGRATE_CONNECTED_SEAMLESS", "MIGRATE_CONNECT_ERROR"})


class EventWatch:
    """A sink for the proxy's event log."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = trio.Event()

    def __call__(self, event: Event) -> None:
        """Take one event; called by the event log."""
        self.events.append(dict(event))
        self._news.set()
        self._news = trio.Event()

    async def wait(self, wanted: Callable[[Event], bool], *, since: int, timeout_s: float) -> Event | None:
        """Return the first wanted event after the first `since` ones, or None if none has come in `timeout_s` s."""
        with trio.move_on_after(timeout_s):
            while True:
                for event in self.events[since:]:
                    if wanted(event):
                        return event
                since = len(self.events)
                await self._news.wait()
        return None

    async def client_reply(self, *, since: int, timeout_s: float) -> str | None:
        """Return how the client answered BEGIN or BEGIN_SEAMLESS ("CONNECT_ERROR"), or None if it did not."""
        event = await self.wait(_is_reply, since=since, timeout_s=timeout_s)
        return None if event is None else _main_message(event).removeprefix("MIGRATE_")

    def rewritten(self, *, since: int) -> list[str]:
        """Return the messages that the proxy changed after the first `since` events."""
        return [
            f"{event['name']}: {_target(event['before'])} -> {_target(event['after'])}"
            for event in self.events[since:]
            if event.get("event") == "message_rewritten"
        ]

    def kind(self, *, since: int) -> str | None:
        """Return what kind of migration the messages after the first `since` events amount to, None if to none.

        The last word of the source decides (spice-server, reds_mig_finished and what it calls): SWITCH_HOST, END or
        CANCEL on main, or MIGRATE on its channels.
        """
        outcome = None
        for event in self.events[since:]:
            if event.get("event") == "migration_message" and event.get("from") == "server":
                outcome = _OUTCOMES.get(str(event.get("name")), outcome)
        return outcome


_OUTCOMES: Final = {
    "SPICE_MSG_MIGRATE": MigrationKind.SEAMLESS.value,
    "SPICE_MSG_MAIN_MIGRATE_END": MigrationKind.SEMI_SEAMLESS.value,
    "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST": MigrationKind.SWITCH_HOST.value,
    "SPICE_MSG_MAIN_MIGRATE_CANCEL": "cancelled",
}


def _is_reply(event: Event) -> bool:
    return event.get("from") == "client" and _main_message(event) in _REPLIES


def _main_message(event: Event) -> str:
    if event.get("event") != "migration_message":
        return ""
    return str(event.get("name", "")).removeprefix("SPICE_MSGC_MAIN_")


def _target(fields: Any) -> str:
    """A destination as text, from the host, port and sport of an event."""
    ports = [f"{key} {fields[key]}" for key in ("port", "sport") if fields.get(key) is not None]
    return f"{fields.get('host')} {' '.join(ports)}".strip()
