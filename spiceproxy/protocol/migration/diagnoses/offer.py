"""Why the source offered no more than it did, and what was wrong with the offer.

Sources: spice-server reds.cpp, spice_server_migrate_connect(); main-channel-client.cpp, connect_semi_seamless() and
migrate_src_complete(); spice-gtk channel-main.c, main_migrate_connect() and main_handle_migrate_switch_host().
"""

from collections.abc import Iterator
from typing import Final

from dissectors.capabilities import MainCap
from spiceproxy.protocol.migration.diagnoses.case import Case, Finding, listed, short
from spiceproxy.protocol.migration.model import Kind, Offer

NO_PORT: Final = (0, 0xFFFF)
_NEEDED: Final = (MainCap.SEMI_SEAMLESS_MIGRATE, MainCap.AGENT_CONNECTED_TOKENS, MainCap.SEAMLESS_MIGRATE)


def _lacking(case: Case) -> list[str]:
    """Capabilities that the client would need for a seamless migration and did not announce to the source."""
    main = case.attempt.main
    known = main is not None and main.linked is not None
    return [bit.name for bit in _NEEDED if known and main is not None and not main.client_caps.has_main(bit)]


def _takes_begin(case: Case) -> bool:
    """Whether the client announced that it can connect to a destination beforehand."""
    main = case.attempt.main
    return main is not None and main.client_caps.has_main(MainCap.SEMI_SEAMLESS_MIGRATE)


def seamless_option_off(case: Case) -> Iterator[Finding]:
    """BEGIN, though the client could do more."""
    offer, main = case.m.offered, case.attempt.main
    if offer is None or offer.kind is not Kind.SEMI_SEAMLESS or main is None or main.linked is None:
        return
    if not _lacking(case):
        yield Finding(
            "The source offered only a semi-seamless migration (BEGIN), though the client announced all that a seamless one "
            "needs: its seamless-migration option is off, or something in between turned BEGIN_SEAMLESS into BEGIN.",
            ["main:0"],
            [offer.evidence],
            "start the source with -spice seamless-migration=on, and the other hosts too, since each becomes a source; then "
            "query-spice, and look at the offer again",
        )


def client_lacks_capability(case: Case) -> Iterator[Finding]:
    """The client's link message says that it cannot do more."""
    offer, lacking = case.m.offered, _lacking(case)
    if offer is None or not lacking or (offer.kind is Kind.SEAMLESS):
        return
    semi = MainCap.SEMI_SEAMLESS_MIGRATE.name
    if offer.kind is Kind.SWITCH_HOST and semi not in lacking:
        return  # that is why it would not have been seamless, not why there was no BEGIN
    got = (
        "no BEGIN at all, only SWITCH_HOST: it has to leave its session and build a new one"
        if offer.kind is Kind.SWITCH_HOST
        else "a semi-seamless migration, in which every channel is reset"
    )
    yield Finding(
        f"The client did not announce {listed(lacking)} on its main channel, so the source gave it {got}.",
        ["main:0"],
        [offer.evidence],
        "the client's version (spice-gtk has all of them since 0.12), and whether something in between changed the "
        "capabilities in its link message: spiceproxy read shows client_caps of channel_linked",
    )


def source_lacks_capability(case: Case) -> Iterator[Finding]:
    """A client ignores MIGRATE_END of a source that did not announce that it can say it."""
    main, end = case.attempt.main, case.m.ending.end
    if main is None or main.linked is None or end is None or not case.stuck or case.m.ending.client_end:
        return
    if not main.server_caps.has_main(MainCap.SEMI_SEAMLESS_MIGRATE):
        yield Finding(
            "The source did not announce SEMI_SEAMLESS_MIGRATE in its link reply, so the client ignores its MIGRATE_END and "
            "stays with a guest that has left.",
            ["main:0"],
            [end],
            "whether something in between changed the capabilities in the source's link reply; else the version of the "
            "source's spice-server",
        )


def begin_postponed(case: Case) -> Iterator[Finding]:
    """No BEGIN, because the source still waits for state that an earlier migration owes it."""
    offer, owed = case.m.offered, case.attempt.owed
    if offer is None or offer.kind is not Kind.SWITCH_HOST or not owed or not _takes_begin(case):
        return
    yield Finding(
        f"The source put its BEGIN off until it gave up: it still waits for MIGRATE_DATA of {listed(owed)} from the migration "
        "that brought the client here, and for it that one is not over.",
        owed,
        [offer.evidence],
        f"the migration before this one, and why {listed(owed)} never brought its state; until the client connects anew, every "
        "further migration from this host will be a switch-host",
    )


def switch_host_without_begin(case: Case) -> Iterator[Finding]:
    """No BEGIN, and nothing on the wire says why."""
    offer = case.m.offered
    if offer is None or offer.kind is not Kind.SWITCH_HOST or not _takes_begin(case) or case.attempt.owed:
        return
    yield Finding(
        "SWITCH_HOST came without any BEGIN, though the client could have connected to the destination beforehand.",
        ["main:0"],
        [offer.evidence],
        "how the migration was started: client_migrate_info has to come before migrate; without it, or with an old manager "
        "that calls spice_server_migrate_switch(), the client is sent away unprepared",
    )


def _no_port(offer: Offer | None) -> bool:
    return offer is not None and offer.port in NO_PORT and offer.sport in NO_PORT


def no_usable_port(case: Case) -> Iterator[Finding]:
    """Nothing that a client could dial."""
    for offer in (case.m.offered, case.m.ending.switch_to):
        if offer is not None and _no_port(offer):
            yield Finding(
                f"{short(offer.evidence)} names neither a plain port nor a TLS port ({offer.port} and {offer.sport}), so that "
                f"there is nothing the client could dial at {offer.host or 'any host'}{case.consequence}.",
                ["main:0"],
                [offer.evidence],
                "port and tls-port of client_migrate_info: at least one must be that of the destination's -spice option",
            )
            return


def _sentinel(case: Case) -> Offer | None:
    for offer in (case.m.offered, case.m.ending.switch_to):
        if offer is not None and offer.port == 0xFFFF and offer.sport not in {None, *NO_PORT}:
            return offer
    return None


def tls_only_sentinel(case: Case) -> Iterator[Finding]:
    """The destination has TLS only, and the client dials port 65535 in clear."""
    offer = _sentinel(case)
    failed = case.m.handshake.reply == "connect-error" or (case.stuck and not case.answered)
    if offer is None or not failed:
        return
    yield Finding(
        f"{short(offer.evidence)} names plain port 65535, which is QEMU's word for none, beside TLS port {offer.sport}. "
        "spice-gtk takes it for a port, dials 65535 in clear before it would try TLS, and fails"
        + case.consequence
        + ".",
        ["main:0"],
        [offer.evidence, case.m.handshake.reply_evidence],
        f"give client_migrate_info a plain port, or port 0 with tls-port {offer.sport}: with 0 the client goes straight to TLS",
    )


def switch_host_without_host(case: Case) -> Iterator[Finding]:
    """spice-gtk reads the host of SWITCH_HOST without looking whether there is one."""
    where = case.m.ending.switch_to
    if where is None or where.port is None or where.host:
        return
    yield Finding(
        "SWITCH_HOST names no host. spice-gtk does not check that and crashes when it reads the name.",
        ["main:0"],
        [where.evidence],
        "hostname of client_migrate_info; whether something in between changed the message; the client's core dump",
    )
