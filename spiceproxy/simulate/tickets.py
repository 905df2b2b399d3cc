"""Tickets: the password, encrypted under the server's key. Source: spice-server reds.cpp, reds_handle_ticket()."""

import hmac
from functools import cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

TICKET_BYTES = 128  # one RSA block of 1024 bits: the protocol fixes the size, so a stronger key does not fit
MAX_PASSWORD_CHARACTERS = 59  # spice-server keeps the ticket in 60 bytes with its NUL
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303 - as on the wire


class TicketKey:
    """A server's key pair. spice-server makes one per connection, which takes 20 to 100 ms."""

    def __init__(self) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - see TICKET_BYTES
        self.public_der = self._private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def opens(self, ticket: bytes, password: str | None) -> bool:
        """Whether `ticket` decrypts, and to `password` if there is one (None: ticketing is disabled)."""
        try:
            plain = self._private.decrypt(ticket, _OAEP)
        except ValueError:
            return False
        return password is None or hmac.compare_digest(plain.split(b"\0")[0], password.encode())


@cache
def shared_key() -> TicketKey:
    """The key pair of all simulated servers in this process: they have nothing to hide from each other."""
    return TicketKey()


def make_ticket(public_der: bytes, password: str) -> bytes:
    """Encrypt `password` for the server with this public key.

    Raises:
        ValueError: The key is not an RSA key of 1024 bits.
    """
    key = serialization.load_der_public_key(public_der)
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != 8 * TICKET_BYTES:
        raise ValueError("the server's public key is not RSA with 1024 bits")
    return key.encrypt(password.encode() + b"\0", _OAEP)
