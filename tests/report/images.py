"""The pictures in `docs/images/`, made from captures. `python -m tests.report.images` makes them anew: look at them."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from spiceproxy.capture.files import open_capture
from spiceproxy.capture.migrations import migrations_in
from spiceproxy.capture.streams import stream_events
from spiceproxy.protocol.migration.model import Migration
from spiceproxy.report.svg import draw, render_svg
from spiceproxy.report.verdict import Report
from tests.report.browser import screenshot

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "docs/images"
MAX_BYTES: Final = 200_000

# Name of the picture; capture; which of its migrations; dark.
PICTURES: Final = (
    ("seamless", "seamless-two-hops", 0, False),
    ("semi-seamless", "semi-seamless", 0, True),
    ("destination-refuses", "destination-refuses", 0, False),
)


def migrations_of(name: str) -> list[Migration]:
    """The migrations of a specimen."""
    with open_capture(str(next((ROOT / "captures" / name).glob("capture.*")))) as source:
        return migrations_in(stream_events(source))


def make(folder: Path = IMAGES) -> None:
    """Write them.

    Args:
        folder: Is made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, capture, index, dark in PICTURES:
        migrations = migrations_of(capture)[index : index + 1]
        report = Report(migrations)
        size = draw(migrations[0], report)
        with tempfile.TemporaryDirectory() as scratch:
            page = Path(scratch, "picture.svg")
            page.write_text(render_svg(migrations, report=report), encoding="utf-8")
            picture = folder / f"{name}.png"
            screenshot(
                page, picture, Path(scratch), width=round(size.width), height=round(size.height), dark=dark
            )
        if picture.stat().st_size > MAX_BYTES and shutil.which("convert"):
            subprocess.run(
                ["convert", picture, "+dither", "-colors", "128", "-strip", f"PNG8:{picture}"],
                check=True,
                timeout=60,
            )


if __name__ == "__main__":
    make()
