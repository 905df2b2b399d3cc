"""Tickets of the simulated peers."""

from functools import cache

from dissectors.link import TICKET_BYTES
from spiceproxy.tickets import TicketKey, write_ticket

__all__ = ["MAX_PASSWORD_CHARACTERS", "TICKET_BYTES", "TicketKey", "make_ticket", "shared_key"]

MAX_PASSWORD_CHARACTERS = 59  # spice-server keeps the ticket in 60 bytes with its NUL


@cache
def shared_key() -> TicketKey:
    """The key pair of all simulated servers in this process: they have nothing to hide from each other."""
    return TicketKey()


def make_ticket(public_der: bytes, password: str) -> bytes:
    """Encrypt `password` for the server with this public key.

    Raises:
        ValueError: The key is not an RSA key of 1024 bits.
    """
    return write_ticket(public_der, password.encode())
