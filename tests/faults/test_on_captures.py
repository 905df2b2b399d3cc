"""Every scenario of the catalog against sessions that were recorded: its rules fire, and what they do can be done."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from dissectors.link import LinkError, LinkMessage, LinkReplyMessage, build_link_mess, build_link_reply
from dissectors.side import Side
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.faults import Context, Engine, Moment
from spiceproxy.faults.effects import Effect, Fired, Wait
from spiceproxy.faults.scenarios import scenarios
from spiceproxy.protocol.framer import Message
from spiceproxy.protocol.migration.model import Phase
from spiceproxy.simulate.tickets import shared_key

CAPTURES = Path(__file__).parent.parent.parent / "captures"
RECORDED = (
    "clipboard-and-input",
    "semi-seamless",
    "switch-host",
    "port-webdav-two-hops",
    "usb-cd",
    "destination-refuses",
)
# Of each message of a connection so many are enough.
MOST_OF_A_KIND = 30
VARIABLES = {"other_host": "elsewhere", "other_port": 5999, "plain_port": 5998}

# No recorded session has a smart card, or was cancelled.
WITHOUT = {
    "swallow-cancel",
    "cancel-after-reply",
    *(f"{verb}-cancel" for verb in ("lose", "late", "twice", "behind")),
}


class Step(NamedTuple):
    """A message, or the moment at which a connection is linked."""

    context: Context
    message: Message | None


def read(name: str) -> Iterator[Step]:
    known: dict[str, Context] = {}
    counts: Counter[tuple[str, Side, int]] = Counter()
    (path,) = (CAPTURES / name).glob("capture.pcap*")
    with open_capture(str(path)) as source:
        for item in read_messages(stream_events(source)):
            if not isinstance(item, CapturedMessage) or item.error is not None:
                continue
            connection, message = item.connection, item.message
            if connection.id not in known:
                hop = connection.hop or 0
                known[connection.id] = Context(
                    f"{name} {connection.session}",
                    f"{name} {connection.id}",
                    connection.channel_type or 0,
                    connection.channel_id or 0,
                    hop,
                    connection.leg,
                    mini_header=connection.link.mini_header,
                    migration=max(1, hop),
                    phase=Phase.WAITING,
                )
                yield Step(known[connection.id], None)
            key = connection.id, message.side, message.id
            counts[key] += 1
            if counts[key] <= MOST_OF_A_KIND:
                yield Step(known[connection.id], message)


@cache
def steps() -> list[Step]:
    return [step for name in RECORDED for step in read(name)]


def linked(engine: Engine, context: Context) -> list[Effect]:
    """The link phase of a connection, as far as rules can be about it."""
    found = []
    context.phase, context.ticket_key = Phase.CONNECTING, shared_key().public_der
    mess = build_link_mess(LinkMessage(7, context.channel_type, context.channel_id, (0b1101,), (0b1111,)))
    reply = build_link_reply(LinkReplyMessage(LinkError.OK, bytes(162), (0b1011,), (0b1111,)))
    found += engine.moment(context, Moment.SESSION)
    found += engine.moment(context, Moment.CONNECT)
    found += engine.moment(context, Moment.LINK_MESSAGE, mess, Side.CLIENT)
    found += engine.moment(context, Moment.LINK_REPLY, reply, Side.SERVER)
    found += engine.moment(context, Moment.TICKET, bytes(128), Side.CLIENT)
    found += engine.moment(context, Moment.AUTH, bytes(4), Side.SERVER)
    found += engine.moment(context, Moment.LINKED)
    for context.phase in Phase:
        found += engine.moment(context, Moment.PHASE)
    context.phase = Phase.WAITING
    return found


@pytest.mark.parametrize("name", scenarios())
def test_the_rules_of_a_scenario_fire_and_can_do_what_they_say(name: str) -> None:
    scenario = scenarios()[name]
    engine = Engine(scenario.rules(), seed=scenario.seed, variables=VARIABLES)
    effects: list[Effect] = []
    for context, message in steps():
        context.now_ns += 1_000_000_000
        if message is None:
            effects += linked(engine, context)
            waiting = effects
        elif message.id in engine.wanted(context.channel_type, message.side, mini_header=context.mini_header):
            waiting = engine.message(context, message)
            effects += waiting
        else:
            continue
        for each in list(waiting):
            if isinstance(each, Wait):
                effects += engine.resume(context, each.token)
    assert [each.failed for each in effects if isinstance(each, Fired) and each.failed] == []
    silent = set(engine.never_fired())
    if name in WITHOUT or "smartcard" in name:
        assert silent
    else:
        assert silent == set()
