"""From a capture to a capture without its secrets."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import BinaryIO, Final

from spiceproxy.capture.events import Summary
from spiceproxy.capture.packet import Packet
from spiceproxy.capture.packets import packets_of
from spiceproxy.errors import CaptureError
from spiceproxy.recording.pcapng import append_packet, interface_description, remark, section_header
from spiceproxy.redaction.addresses import StandIns
from spiceproxy.redaction.bodies import Bodies
from spiceproxy.redaction.comments import public_problem
from spiceproxy.redaction.kinds import Account, Kind
from spiceproxy.redaction.packets import Packets
from spiceproxy.redaction.store import Store
from spiceproxy.redaction.survey import Survey

WRITTEN_BYTES: Final = 256 * 1024
"""Blocks are written together up to this size."""

_LATEST_NS: Final = 2**64 - 1
_MARK: Final = "redacted"


@dataclass(frozen=True)
class Options:
    """What is to be removed."""

    keep: frozenset[Kind] = frozenset()
    """Kinds that stay."""

    addresses: bool = False
    """Addresses, host names, certificate subjects and public keys get stand-ins."""

    keep_others: bool = False
    """Packets that are not SPICE stay as they are, instead of being left out."""

    keep_comments: bool = False
    """Comments of packets stay as they are, whatever they say."""

    ports: Collection[int] = ()
    """TCP ports of connections whose beginning is not in the capture."""


@dataclass
class Outcome:
    """What was done."""

    account: Account
    summary: Summary
    damage: CaptureError | None  # from there on the capture could not be read: nothing of it is in the copy


def redact(open_source: Callable[[], BinaryIO], out: BinaryIO | None, options: Options) -> Outcome:
    """Copy a capture without its secrets.

    Args:
        open_source: Opens the capture; called twice. What is added to it in between is left out.
        out: Takes a pcapng file; None only counts.
        options: What is secret.

    Raises:
        CaptureError: It is no capture. Nothing has been written then.
        UsageError: It cannot be read.
        OSError: The copy, or the temporary file, cannot be written.
    """
    account = Account()
    stand_ins = StandIns() if options.addresses else None
    bodies = Bodies(account, keep=options.keep, stand_ins=stand_ins)
    with Store() as store:
        survey = Survey(store, bodies, options.ports)
        with open_source() as source:
            damage = survey.read(source)
        if bodies.exhausted:
            account.notes.append(
                "there are too many different cache ids or device data: the later ones look alike"
            )
        packets = Packets(
            store,
            survey.routes,
            account,
            stand_ins=stand_ins,
            keep_others=options.keep_others,
            keep_comments=options.keep_comments,
        )
        with open_source() as source:
            # What belongs to no stream is counted on the way, and the file begins with the sums: a reading more.
            problems: list[str] = []
            for _ in _written(source, packets, survey.summary.packets, problems):
                pass
        if out is not None:
            totals = comment_of(account, options)
            again = Packets(
                store,
                survey.routes,
                Account(),
                stand_ins=stand_ins,
                keep_others=options.keep_others,
                keep_comments=options.keep_comments,
            )
            with open_source() as source:
                _write(out, totals, _written(source, again, survey.summary.packets, []), problems)
    return Outcome(account, survey.summary, damage)


def _written(
    source: BinaryIO, packets: Packets, last: int, problems: list[str]
) -> Iterator[tuple[Packet, bytearray, str | None]]:
    """The packets of the copy; `problems` takes what is wrong with the file, and so would not be seen in the copy."""
    summary = Summary()
    try:
        for packet in packets_of(source, None, summary):
            if summary.packets > last:
                break
            written = packets.rewrite(packet, summary.packets)
            if written is not None:
                packets.account.packets += 1
                yield packet, written.data, written.comment
    except CaptureError as error:  # where the first reading stopped, too
        problems.append(str(error))
    problems[:0] = summary.problems
    end = packets.last()
    if end is not None:
        packets.account.packets += 1
        yield end[0], end[1].data, None


def _write(
    out: BinaryIO,
    comments: list[str],
    packets: Iterator[tuple[Packet, bytearray, str | None]],
    problems: list[str],
) -> None:
    try:
        release = version("spiceproxy")
    except PackageNotFoundError:  # run from a source tree that was never installed
        release = "(not installed)"
    buffer = bytearray(section_header(application=f"spiceproxy {release} redact", comments=comments))
    interfaces: dict[int, int] = {}
    last_ns = 0
    for (time_ns, link_type, _, _, _, uncaptured, _, _), data, told in packets:
        if link_type not in interfaces:
            interfaces[link_type] = len(interfaces)
            buffer += interface_description(
                name=f"link type {link_type}",
                description="packets without their secrets",
                link_type=link_type,
            )
        last_ns = min(max(time_ns, 0), _LATEST_NS)
        append_packet(
            buffer,
            last_ns,
            b"",
            data,
            told,
            interface=interfaces[link_type],
            uncaptured=max(uncaptured, -len(data)),
        )
        if len(buffer) >= WRITTEN_BYTES:
            out.write(buffer)
            buffer = bytearray()
    for problem in problems if interfaces else ():
        buffer += remark(last_ns, public_problem(problem))
    out.write(buffer)


def comment_of(account: Account, options: Options) -> list[str]:
    """What the file says of itself: comments of its section, one for each kind of secret."""
    kept = f"; kept: {', '.join(sorted(options.keep))}" if options.keep else ""
    lines = [f"{_MARK}: secrets are removed from this capture, sizes and times are as they were{kept}"]
    lines += [
        f"{_MARK}: {kind}, {removed.count} times, {removed.bytes} bytes" for kind, removed in account.rows()
    ]
    if account.dropped:
        lines.append(f"{_MARK}: {account.dropped} packets that are not SPICE are left out")
    if account.unread_packets:
        lines.append(f"{_MARK}: {account.unread_packets} packets that could not be read are zero")
    if account.comments:
        lines.append(f"{_MARK}: {account.comments} lines of comments are left out or cut")
    return lines
