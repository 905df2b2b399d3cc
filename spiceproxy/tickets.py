"""Tickets that the proxy reads and writes anew: our key for the client, the server's key for the server.

Source: spice-server reds.cpp, reds_send_link_ack() and reds_handle_ticket(): the server makes an RSA key of 1024 bits, the client
encrypts its password and a NUL with it (OAEP, SHA-1), and that is the ticket.
"""

import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from dissectors.link import PUB_KEY_BYTES, TICKET_BYTES
from spiceproxy.errors import UsageError

MAX_PASSWORD_BYTES: Final = 59  # spice-server keeps the ticket in 60 bytes with its NUL
_OAEP: Final = padding.OAEP(mgf=padding.MGF1(hashes.SHA1()), algorithm=hashes.SHA1(), label=None)  # noqa: S303  as on the wire
_KEY_BITS: Final = 8 * TICKET_BYTES


class TicketKey:
    """A key pair for tickets, as each server has one.

    Args:
        private: RSA of 1024 bits, which the protocol leaves no choice about; None: a new one, which takes a moment.
    """

    def __init__(self, private: rsa.RSAPrivateKey | None = None) -> None:
        self._private = private or rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        self.public_der = self._private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @classmethod
    def load(cls, file: Path) -> "TicketKey":
        """Read a private key in PEM.

        Raises:
            UsageError: There is none, or none that fits.
        """
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it needs a password
            raise UsageError(f"{file} is no private key in PEM without a password") from None
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != _KEY_BITS:
            raise UsageError(f"{file}: the key of tickets is RSA with {_KEY_BITS} bits")
        made = cls(key)
        if len(made.public_der) != PUB_KEY_BYTES:
            raise UsageError(f"{file}: the public exponent has to be 65537")
        return made

    def read(self, ticket: bytes) -> bytes | None:
        """The password in a ticket, without the NUL; None if it is not for this key."""
        try:
            return self._private.decrypt(ticket, _OAEP).split(b"\0")[0]
        except ValueError:
            return None

    def opens(self, ticket: bytes, password: str | None) -> bool:
        """Whether `ticket` decrypts, and to `password` if there is one (None: ticketing is disabled)."""
        plain = self.read(ticket)
        return plain is not None and (password is None or hmac.compare_digest(plain, password.encode()))


def write_ticket(public_der: bytes, password: bytes) -> bytes:
    """Encrypt `password` for the server with this public key.

    Raises:
        ValueError: The key is not an RSA key of 1024 bits, or the password does not fit.
    """
    try:
        key = serialization.load_der_public_key(public_der)
    except UnsupportedAlgorithm:  # which is no ValueError
        key = None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != _KEY_BITS:
        raise ValueError("the server's public key is not RSA with 1024 bits")
    return key.encrypt(password + b"\0", _OAEP)


@dataclass(frozen=True, slots=True)
class Tickets:
    """What is done to the tickets of a proxy.

    Attributes:
        key: Ours, which clients find in the place of the server's.
        server_password: What the server is told instead of what the client said; None: that.
        client_password: What the client has to say for it; None: whatever.
    """

    key: TicketKey
    server_password: bytes | None = field(default=None, repr=False)
    client_password: bytes | None = field(default=None, repr=False)

    def reply(self, unit: bytes) -> bytes:
        """A server's link reply, with our key."""
        return unit[:_KEY_AT] + self.key.public_der + unit[_KEY_AT + PUB_KEY_BYTES :]

    def renewed(self, ticket: bytes, server_key: bytes) -> bytes:
        """The ticket for the server in the place of the client's. One that we cannot read stays: nobody can.

        Raises:
            ValueError: The server's key will not do.
        """
        said = self.key.read(ticket)
        if said is None:
            return ticket
        known = self.client_password is None or hmac.compare_digest(said, self.client_password)
        if self.server_password is not None and known:
            said = self.server_password
        return write_ticket(server_key, said)


_KEY_AT: Final = 20  # of the public key in a link reply: behind the header of 16 bytes and the error


def read_passwords(file: Path) -> tuple[bytes, bytes | None]:
    """A ticket file: the server's password, and in a second line, if there is one, what clients have to say for it.

    Raises:
        UsageError: It cannot be read, or has no password, or one that is too long.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    passwords = [line.removesuffix(b"\r") for line in lines[:2]]
    if not passwords[0]:
        raise UsageError(f"{file} has no password in its first line")
    if any(len(each) > MAX_PASSWORD_BYTES or b"\0" in each for each in passwords):
        raise UsageError(f"{file}: a password has at most {MAX_PASSWORD_BYTES} bytes, and no NUL")
    return passwords[0], (passwords[1] or None) if len(passwords) > 1 else None
