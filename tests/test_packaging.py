"""What is shipped."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for name in ("spiceproxy", "dissectors")
        for init in (ROOT / name).rglob("__init__.py")
    }
    assert set(listed) == found
