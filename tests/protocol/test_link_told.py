"""A link phase that somebody in the middle changes: what follows goes by what each peer has read."""

import pytest

from dissectors.side import Side
from spiceproxy.protocol.link import LinkPhase, Phase, without_secrets
from tests.protocol.links import TICKET, mess, reply

SELECTION, MINI = 1, 8


def linked(client: int, server: int) -> LinkPhase:
    """A link phase up to the reply, with these common capabilities."""
    link = LinkPhase()
    link.receive(Side.CLIENT, mess(client))
    link.receive(Side.SERVER, reply(server))
    return link


def test_nobody_has_changed_anything() -> None:
    link = linked(SELECTION | MINI, SELECTION | MINI)
    assert link.mess_told is link.mess
    assert link.reply_told is link.reply
    assert link.mini_header
    assert all(link.sends_mini_header(side) for side in Side)


@pytest.mark.parametrize("told", [Phase.LINK_MESS, Phase.LINK_REPLY])
def test_each_side_sends_the_header_that_it_believes_in(told: Phase) -> None:
    link = linked(SELECTION | MINI, SELECTION | MINI)
    link.told(told, mess(SELECTION) if told is Phase.LINK_MESS else reply(SELECTION))
    assert link.sends_mini_header(Side.SERVER) is (told is Phase.LINK_REPLY)
    assert link.sends_mini_header(Side.CLIENT) is (told is Phase.LINK_MESS)


def test_the_client_goes_by_the_reply_that_it_has_read() -> None:
    link = linked(SELECTION, SELECTION)
    phases = [link.phase]
    for caps in (0, SELECTION):
        link.told(Phase.LINK_REPLY, reply(caps))
        phases.append(link.phase)
    assert phases == [Phase.AUTH_MECHANISM, Phase.TICKET, Phase.AUTH_MECHANISM]


def test_what_is_no_link_message_any_more_announces_nothing() -> None:
    link = linked(SELECTION | MINI, SELECTION | MINI)
    link.told(Phase.LINK_MESS, b"garbage")
    assert link.mess_told is None
    assert not link.sends_mini_header(Side.SERVER)
    link.told(Phase.LINK_REPLY, b"")
    assert link.reply_told is None
    assert link.phase is Phase.TICKET


def test_other_units_agree_on_nothing() -> None:
    link = linked(SELECTION, SELECTION)
    link.told(Phase.TICKET, b"anything")
    assert link.mess_told is link.mess
    assert link.phase is Phase.AUTH_MECHANISM


def test_a_ticket_leaves_no_trace_whatever_its_length() -> None:
    for ticket in (TICKET, TICKET[:7], TICKET * 2):
        assert without_secrets(Phase.TICKET, ticket) == bytes(len(ticket))
    assert without_secrets(Phase.LINK_RESULT, b"1234") == b"1234"
