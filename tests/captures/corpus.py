"""The specimens in captures/, and what their notes say to a program."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CAPTURES: Final = Path(__file__).parents[2] / "captures"
HEADINGS: Final = ("Peers", "How it was made", "What it shows", "Secrets")
_KEYS: Final = {"read", "damaged"}
_FRONT_MATTER: Final = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Specimen:
    """One folder."""

    folder: Path

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name

    @property
    def capture(self) -> Path:
        """The one file that begins with "capture."."""
        (file,) = self.folder.glob("capture.*")
        return file

    @property
    def expected(self) -> Path:
        """The expected dissection."""
        return self.folder / "expected.txt"

    @property
    def note(self) -> str:
        """The whole note."""
        return (self.folder / "README.md").read_text()

    def front_matter(self) -> dict[str, str]:
        """What the note says between its first two lines of dashes.

        Raises:
            ValueError: There is none, or it has a key that nobody knows.
        """
        found = _FRONT_MATTER.match(self.note)
        if found is None:
            raise ValueError(f"{self.name}/README.md has no front matter")
        pairs = [line.partition(":") for line in found[1].splitlines()]
        values = {key.strip(): value.strip() for key, _, value in pairs}
        if unknown := values.keys() - _KEYS:
            raise ValueError(f"{self.name}/README.md has {', '.join(sorted(unknown))} in its front matter")
        return values

    @property
    def damaged(self) -> bool:
        """Whether something is missing in it on purpose."""
        return self.front_matter().get("damaged") == "yes"

    def read_options(self) -> list[str]:
        """Options of `spiceproxy read` for the expected dissection."""
        return shlex.split(self.front_matter().get("read", ""))

    def read_command(self) -> list[str]:
        """What prints the expected dissection."""
        options = ["--color", "never", *self.read_options()]
        return [sys.executable, "-m", "spiceproxy", "read", *options, str(self.capture)]

    def dissect(self) -> str:
        """Run that; the exit status of a capture that is damaged says so, and is none of ours."""
        done = subprocess.run(self.read_command(), capture_output=True, text=True, check=False, timeout=100)
        if done.returncode not in {0, 1, 5} or "Traceback" in done.stderr:
            raise RuntimeError(f"{shlex.join(self.read_command())}: {done.stderr}")
        return done.stdout


def specimens() -> list[Specimen]:
    """All of them, by name."""
    return [Specimen(folder) for folder in sorted(CAPTURES.iterdir()) if folder.is_dir()]
