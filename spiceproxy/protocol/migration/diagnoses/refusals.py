"""Links that the destination refused, by the code that it gave, or that broke off.

Sources: spice-server reds.cpp, reds_handle_link(), reds_send_link_result() and reds_get_mm_time(); spice-gtk spice-channel.c,
spice_channel_recv_auth().
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from dissectors.link import LinkError
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState
from spiceproxy.protocol.migration.diagnoses.case import Case, Finder, Finding, listed
from spiceproxy.protocol.migration.model import Kind

SILENT_NS: Final = 2 * 10**9  # a link that has not come after so long will not: links take milliseconds
_UNREACHED: Final = "cannot connect to"  # how the proxy begins its reason


class _Refusal(NamedTuple):
    """What a link error means, and what to look at."""

    codes: tuple[int, ...]
    meaning: str
    next: str


REFUSALS: Final[dict[str, _Refusal]] = {
    "ticket-refused": _Refusal(
        (LinkError.PERMISSION_DENIED,),
        "its ticket (the password) is wrong there, or has expired",
        "the destination's password: set_password and expire_password have to be given there as well, before "
        "client_migrate_info, with the password that the client used at the source, and with time left for the whole migration",
    ),
    "destination-needs-tls": _Refusal(
        (LinkError.NEED_SECURED,),
        "that channel must be encrypted there, and the client came to the plain port",
        "tls-port (and cert-subject) of client_migrate_info, and -spice tls-channel= of the destination: the migration link "
        "does not use the client's secure-channels, it dials the plain port first; give port 0 to make it dial TLS",
    ),
    "destination-needs-plain": _Refusal(
        (LinkError.NEED_UNSECURED,),
        "that channel must not be encrypted there, and the client came to the TLS port",
        "-spice plaintext-channel= of the destination, and port beside tls-port in client_migrate_info",
    ),
    "bad-connection-id": _Refusal(
        (LinkError.BAD_CONNECTION_ID,),
        "it knows no session with that connection id",
        "whether main was linked there with the same id, and whether another client connected to the destination meanwhile and "
        "took the session over; whether something in between changed the link message",
    ),
    "destination-lacks-channel": _Refusal(
        (LinkError.CHANNEL_NOT_AVAILABLE,),
        "it has no such channel",
        "the devices of both command lines: -chardev spicevmc and spiceport, -device usb-redir, audio and graphics have to be "
        "the same, in number too",
    ),
    "link-version-mismatch": _Refusal(
        (LinkError.VERSION_MISMATCH, LinkError.INVALID_MAGIC),
        "it does not speak that version of the protocol",
        "what listens at that port: is it the destination's SPICE server, and not VNC or another program?",
    ),
    "link-refused": _Refusal(
        (LinkError.ERROR, LinkError.INVALID_DATA),
        "it gives no better reason than this code",
        "the destination's log (QEMU's standard error); with SASL: mechanism list and user database there, and whether the "
        "client has credentials for it; then the client's log with SPICE_DEBUG=1",
    ),
}
"""By code of the diagnosis."""


def refusal(code: str) -> Finder:
    """A finder for links that the destination refused."""
    row = REFUSALS[code]

    def find(case: Case) -> Iterator[Finding]:
        refused = [
            (name, each)
            for name, each in case.at_destination
            if each.failed is not None
            and (
                each.failed.code in row.codes
                or (code == "destination-lacks-channel" and _turned_away(case, each))
            )
        ]
        if not refused or (case.good and case.m.performed is not Kind.SWITCH_HOST):
            return
        names = list(dict.fromkeys(name for name, _ in refused))
        first = refused[0][1]
        assert first.failed is not None  # noqa: S101  just asked
        how = (
            f"with SPICE_LINK_ERR_{LinkError(first.failed.code).name}"
            if first.failed.code
            else "without an answer"
        )
        ids = ""
        if code == "bad-connection-id" and case.m.session_id is not None:
            ids = f" The link carried {first.connection_id}, the session's is {case.m.session_id}."
        yield Finding(
            f"The destination {first.address or case.where} refused the link of {listed(names)} "
            f"{case.after_begin(first.failed.time_ns)} {how}: {row.meaning}{case.consequence}.{ids}",
            names,
            [case.began, case.m.handshake.reply_evidence, case.m.ending.switch_host],
            row.next,
        )

    return find


def _turned_away(case: Case, connection: ConnectionState) -> bool:
    """Whether the link of a channel was closed where the reply was due, which main's was not: it is not there."""
    main, failed = case.before_the_word.get("main:0"), connection.failed
    return (
        failed is not None
        and failed.by is Side.SERVER
        and failed.code is None
        and "link reply" in failed.reason
        and not was_silent(connection)
        and not was_unreached(connection)
        and not connection.is_main
        and main is not None
        and main.linked is not None
    )


def sasl_refused(case: Case) -> Iterator[Finding]:
    """Authentication by SASL failed at the destination."""
    refused = [
        (name, each)
        for name, each in failed_links(case)
        if each.failed is not None and each.failed.code is not None and "SASL" in each.failed.reason
    ]
    if refused:
        names, failed = [name for name, _ in refused], refused[0][1].failed
        yield Finding(
            f"Authentication by SASL failed at the destination {case.where} on {listed(names)}: "
            f"{failed.reason if failed else ''}{case.consequence}.",
            names,
            [case.began, case.m.handshake.reply_evidence],
            "sasl=on, mech_list and the user database (sasldb) of the destination: they have to accept what the client used at "
            "the source; without TLS only mechanisms with a security layer are allowed",
        )


def link_broken(case: Case) -> Iterator[Finding]:
    """A connection ended in the middle of the link phase, without a code."""
    broken = [
        (name, each)
        for name, each in failed_links(case)
        if each.failed is not None
        and each.failed.code is None
        and not was_silent(each)
        and not was_unreached(each)
        and not _ended_before(case, each)
    ]
    if not broken:
        return
    names, first = list(dict.fromkeys(name for name, _ in broken)), broken[0][1]
    assert first.failed is not None  # noqa: S101  just asked
    who = {Side.SERVER: "the destination", Side.CLIENT: "the client", None: "somebody"}[first.failed.by]
    yield Finding(
        f"The link of {listed(names)} to {first.address or case.where} broke off {case.after_begin(first.failed.time_ns)}: "
        f"{who} ended it ({first.failed.reason}){case.consequence}.",
        names,
        [case.began, case.m.handshake.reply_evidence],
        "if the destination ended it: its log, and whether SPICE listens at that port at all (a TLS port closes when it is "
        "spoken to in clear); if the client did: its log with SPICE_DEBUG=1, above all certificate and cert-subject",
    )


def failed_links(case: Case) -> list[tuple[str, ConnectionState]]:
    """Links to the destination that did not come up, if that matters."""
    if case.good and case.m.performed is not Kind.SWITCH_HOST:
        return []
    return [
        (name, each)
        for name, each in case.at_destination
        if each.failed is not None and not each.failed.opaque and case.whole(name)
    ]


def _ended_before(case: Case, connection: ConnectionState) -> bool:
    """Whether a link broke off because the migration had ended: SWITCH_HOST or CANCEL makes the client drop it."""
    failed, cancel = connection.failed, case.m.ending.cancel
    ends = [each for each in (case.attempt.word_ns, cancel.time_ns if cancel else None) if each is not None]
    return failed is not None and failed.by is not Side.SERVER and bool(ends) and failed.time_ns >= min(ends)


def was_silent(connection: ConnectionState) -> bool:
    """Whether the client gave up on a destination that accepted it and said nothing."""
    failed = connection.failed
    gave_up = failed is not None and (failed.by is Side.CLIENT or failed.reason.startswith("no link"))
    return (
        failed is not None
        and gave_up
        and failed.code is None
        and connection.opened_ns is not None
        and failed.time_ns - connection.opened_ns >= SILENT_NS
    )


def was_unreached(connection: ConnectionState) -> bool:
    """Whether the proxy, with the client's connection in its hands, got no further."""
    return connection.failed is not None and connection.failed.reason.startswith(_UNREACHED)
