"""What can be fuzzed, by name."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

CORPUS: Final = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    """A function that takes any bytes and raises for none of them.

    Its module is imported when it is wanted: a fuzzer has one target, and pays for every line that it watches.
    """

    module: str
    function: str
    max_bytes: int  # longer inputs are not tried: they would only be slower

    @property
    def run(self) -> Callable[[bytes], None]:
        """The function."""
        run: Callable[[bytes], None] = getattr(importlib.import_module(self.module), self.function)
        return run

    @property
    def meaning(self) -> str:
        """One line for people."""
        return (self.run.__doc__ or "").partition("\n")[0]


TARGETS: Final = {
    "framer": Target("tests.fuzz.protocol_targets", "framer", 1024),
    "link": Target("tests.fuzz.protocol_targets", "link", 2048),
    "sub-list": Target("tests.fuzz.protocol_targets", "sub_list", 256),
    "payload": Target("tests.fuzz.protocol_targets", "payload", 2048),
    "guest-port": Target("tests.fuzz.protocol_targets", "guest_port", 1024),
    "message": Target("tests.fuzz.dissection_targets", "message", 1024),
    "inside": Target("tests.fuzz.dissection_targets", "inside", 512),
    "image-header": Target("tests.fuzz.dissection_targets", "image_headers", 512),
    "lz4": Target("tests.fuzz.dissection_targets", "lz4_unpack", 1024),
    "reading": Target("tests.fuzz.file_targets", "reading", 4096),
    "streams": Target("tests.fuzz.file_targets", "streams", 4096),
    "whole-reader": Target("tests.fuzz.file_targets", "whole_reader", 4096),
    "redaction": Target("tests.fuzz.copying_targets", "redaction", 4096),
    "smuggling": Target("tests.fuzz.copying_targets", "smuggling", 64),
    "repairing": Target("tests.fuzz.copying_targets", "repairing", 4096),
    "filter": Target("tests.fuzz.language_targets", "filter_text", 256),
}
