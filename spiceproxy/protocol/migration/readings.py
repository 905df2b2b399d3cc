"""What single messages of a migration hold."""

import hashlib
from typing import Any, Final

from dissectors.channels import ChannelType
from dissectors.destination import host_name
from dissectors.errors import DissectionError
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Evidence, Kind, Offer, Payload

HEAD_BYTES: Final = 128  # of MIGRATE_DATA that are kept


def payload_of(evidence: Evidence, said: Said) -> Payload:
    """A MIGRATE_DATA."""
    body = said.body
    if body is None or len(body) != said.size:
        return Payload(evidence, said.size, said.serial, None, "", b"")
    magic = body[:4].decode("ascii", "backslashreplace")
    return Payload(
        evidence, said.size, said.serial, hashlib.sha256(body).digest(), magic, bytes(body[:HEAD_BYTES])
    )


def offer_of(kind: Kind, evidence: Evidence, said: Said) -> Offer:
    """BEGIN, BEGIN_SEAMLESS or SWITCH_HOST."""
    offer = Offer(kind, evidence)
    if said.body is None:
        return offer
    try:
        fields: dict[str, Any] = dissect(ChannelType.MAIN, Side.SERVER, said.id, said.body).fields
    except DissectionError:
        return offer
    offer.version = fields.get("src_mig_version")
    where = fields.get("dst_info", fields)
    offer.host, offer.subject = host_name(where["host_data"]), host_name(where["cert_subject_data"])
    offer.port, offer.sport = where["port"], where["sport"]
    return offer
