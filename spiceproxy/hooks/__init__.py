"""Hooks: Python functions that are asked what to do with a message or at a moment (docs/hooks.md).

    from spiceproxy import hooks

    @hooks.message(channel="main", message="MIGRATE_END")
    async def late(seen: hooks.Seen) -> hooks.Answer:
        return hooks.Delay(2)

What a hook returns are actions of faults, with the same names and the same checks. A `Script` is a file of hooks; a
`Room` asks them and the engine, and gives the effects of both.
"""

from spiceproxy.faults.actions import (
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Inject,
    Log,
    Pad,
    Replace,
    Set,
    Split,
    Truncate,
)
from spiceproxy.faults.streams import AbortSession, Close, Refuse, Reset, Stall
from spiceproxy.hooks.hook import Answer, Hook, HookError, channel, message, migration, session
from spiceproxy.hooks.room import Room
from spiceproxy.hooks.script import Script
from spiceproxy.hooks.seen import Seen

__all__ = [
    "AbortSession",
    "Answer",
    "Close",
    "Corrupt",
    "Delay",
    "Drop",
    "Duplicate",
    "Hook",
    "HookError",
    "Inject",
    "Log",
    "Pad",
    "Refuse",
    "Replace",
    "Reset",
    "Room",
    "Script",
    "Seen",
    "Set",
    "Split",
    "Stall",
    "Truncate",
    "channel",
    "message",
    "migration",
    "session",
]
