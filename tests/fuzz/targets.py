"""What can be fuzzed, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz import copying_targets, dissection_targets, file_targets, language_targets, protocol_targets

CORPUS: Final = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """A function that takes any bytes and raises for none of them."""

    run: Callable[[bytes], None]
    max_bytes: int  # longer inputs are not tried: they would only be slower

    @property
    def meaning(self) -> str:
        """One line for people."""
        return (self.run.__doc__ or "").partition("\n")[0]


TARGETS: Final = {
    "framer": Target(protocol_targets.framer, 1024),
    "link": Target(protocol_targets.link, 2048),
    "sub-list": Target(protocol_targets.sub_list, 256),
    "payload": Target(protocol_targets.payload, 2048),
    "guest-port": Target(protocol_targets.guest_port, 1024),
    "message": Target(dissection_targets.message, 1024),
    "inside": Target(dissection_targets.inside, 512),
    "image-header": Target(dissection_targets.image_headers, 512),
    "lz4": Target(dissection_targets.lz4_unpack, 1024),
    "reading": Target(file_targets.reading, 4096),
    "streams": Target(file_targets.streams, 4096),
    "whole-reader": Target(file_targets.whole_reader, 4096),
    "redaction": Target(copying_targets.redaction, 4096),
    "smuggling": Target(copying_targets.smuggling, 64),
    "repairing": Target(copying_targets.repairing, 4096),
    "filter": Target(language_targets.filter_text, 256),
}
