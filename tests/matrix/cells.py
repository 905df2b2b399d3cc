"""Results for tests."""

import msgspec

from spiceproxy.matrix.results import Cell, Column, Ending, Observation, Verdict
from spiceproxy.matrix.table import rows

__all__ = ["cell", "rows"]


def cell(**changes: object) -> Cell:
    """A cell: nack-rewrite with spicy, as it went."""
    plain = Cell(
        scenario="nack-rewrite",
        column=Column.SPICY,
        run=1,
        verdict=Verdict.EXPECTED,
        outcome="destination-aborted",
        detail="SIGTRAP: qemu-system-x86_64: Spice: ../server/red-client.cpp:192:f: unexpected",
        expect=["destination-aborted"],
        guest_lost=True,
        duration_s=2.5,
        artefacts={"s2.log": "nack-rewrite/spicy-1/s2.log"},
        server="spice-server 0.15.1, QEMU 7.2.22",
        client="spicy, spice-gtk 0.42",
        date="2026-11-25",
        seen=Observation(
            fired=["nack-rewrite"],
            endings=[Ending("s2", "destination", -5, "SIGTRAP", ["Spice: <b>unexpected</b>"])],
        ),
    )
    return msgspec.structs.replace(plain, **changes)
