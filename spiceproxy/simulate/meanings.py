"""What messages mean, in plain words, for people who watch a migration."""

import re
from typing import Final

from dissectors.common import MigrateFlags
from dissectors.message_ids import Msg
from dissectors.registry import find
from dissectors.side import Side
from spiceproxy.simulate.wire import Trace

# Shorter, or plainer, than what the dissectors say.
_MEANINGS: Final = {
    "SPICE_MSG_SET_ACK": "Confirm this, then acknowledge every 20 messages.",
    "SPICE_MSG_DISPLAY_INVAL_ALL_PIXMAPS": "Forget all cached pictures: the new server does not know them.",
    "SPICE_MSG_CURSOR_INIT": "Where the pointer is and what it looks like.",
    "SPICE_MSG_PORT_INIT": "The port's name.",
    "SPICE_MSGC_INPUTS_KEY_DOWN": "A key goes down (which one is not told).",
}


def sentence(name: str) -> str:
    """What a message of this C name means; empty if nobody has said so."""
    if (known := _MEANINGS.get(name)) is not None:
        return known
    found = find(name)
    return found[0][2].meaning if found else ""


def meaning_of(trace: Trace) -> str:
    """What this very message means."""
    if trace.side is Side.SERVER and trace.message_id == Msg.MIGRATE and len(trace.body) == 4:
        flags = MigrateFlags(int.from_bytes(trace.body, "little"))
        if not flags:
            return "Go on at the destination now; there is nothing to carry."
        return "Go on at the destination: answer FLUSH_MARK, then carry over the state that follows."
    if trace.body and trace.name.endswith("_MIGRATE_DATA"):
        what = f"{trace.size} bytes ({trace.body[:4].decode('ascii', 'replace')})"
        if trace.side is Side.SERVER:
            return f"The state of this channel, for the client to carry over: {what}."
        return f"The very same state, handed over by the client: {what}."
    return sentence(trace.name)


def short_name(name: str) -> str:
    """A C name as people say it: ``DRAW_FILL``."""
    return re.sub(r"^SPICE_MSGC?_(DISPLAY_|INPUTS_)?", "", name)
