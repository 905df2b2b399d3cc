"""External programs that some tests need (QEMU, spicy, tshark ...)."""

import os
import shutil
from pathlib import Path

import pytest


def require_programs(*names: str) -> None:
    """Skip the calling test if one of the programs `names` is not in PATH; fail it if SPICEPROXY_REQUIRE_LAB=1."""
    _require([name for name in names if shutil.which(name) is None])


def require_files(*files: Path) -> None:
    """The same for files that are no programs."""
    _require([str(file) for file in files if not file.exists()])


def _require(missing: list[str]) -> None:
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)}"
    if os.environ.get("SPICEPROXY_REQUIRE_LAB") == "1":
        pytest.fail(f"{reason} (and SPICEPROXY_REQUIRE_LAB=1)", pytrace=False)
    pytest.skip(reason)
