"""Authentication of one connection, as far as the proxy has a part in it: tickets with its own key, and what is told of SASL."""

import contextlib
from collections.abc import Iterator

from dissectors.side import Side
from spiceproxy.eventlog import EventLog
from spiceproxy.protocol.link import LinkPhase, Phase, Unit, without_secrets
from spiceproxy.relay.link_phase import ClosedEarlyError
from spiceproxy.tickets import Tickets


def with_our_key(unit: Unit, link: LinkPhase, tickets: Tickets | None, log: EventLog) -> Unit:
    """A unit of the link phase as it goes out: the client is given our key, and the server a ticket for its own.

    Args:
        unit: As it came.
        link: Its state.
        tickets: What is done to tickets; None: nothing, and the unit stays as it is.
        log: Of the connection.
    """
    reply = link.reply
    if tickets is None or reply is None or reply.error:
        return unit
    data = unit.data
    if unit.phase is Phase.LINK_REPLY:
        data = tickets.reply(data)
    elif unit.phase is Phase.TICKET:
        try:
            data = tickets.renewed(data, reply.pub_key)
        except ValueError as error:
            log.warning("ticket_not_renewed", reason=str(error))
    return Unit(unit.side, unit.phase, data, without_secrets(unit.phase, data))


@contextlib.contextmanager
def sasl_told(link: LinkPhase, log: EventLog) -> Iterator[None]:
    """Log how SASL went, if that is what the client chose: mechanism and result, and nothing else."""
    refused = False
    try:
        yield
    except ClosedEarlyError as error:  # spice-server has no other word for a wrong password
        refused = error.side is Side.SERVER
        raise
    finally:
        if link.sasl_mechanism is not None:
            refused |= link.phase is Phase.REFUSED
            result = "accepted" if link.sasl_done else "refused" if refused else "unfinished"
            level = log.info if link.sasl_done else log.warning
            level("sasl_ended", mechanism=link.sasl_mechanism, offered=link.sasl_mechanisms, result=result)
