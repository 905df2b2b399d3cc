"""Faults that were injected, as reports tell of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that has fired.

    Attributes:
        fault: Its name.
        actions: What it did, in a few words.
        name: The message's C name, or the moment.
        session: Where: of the proxy, as "s1".
        connection: As "c5".
        channel: As "display:0".
        hop: Of the connection.
        time_ns: When, nanoseconds since 1970.
        firing: Which firing of this fault it was, from 1.
        migration: The session's present or last migration; None before the first.
        failed: What of it could not be carried out.
    """

    fault: str
    actions: str
    name: str
    session: str
    connection: str
    channel: str
    hop: int
    time_ns: int
    firing: int
    migration: int | None = None
    failed: str = ""
