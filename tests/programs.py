"""External programs that some tests need (QEMU, spicy, tshark ...)."""

import os
import shutil

import pytest


def require_programs(*names: str) -> None:
    """Skip the calling test if one of the programs `names` is not in PATH; fail it if SPICEPROXY_REQUIRE_LAB=1."""
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)}"
    if os.environ.get("SPICEPROXY_REQUIRE_LAB") == "1":
        pytest.fail(f"{reason} (and SPICEPROXY_REQUIRE_LAB=1)", pytrace=False)
    pytest.skip(reason)
