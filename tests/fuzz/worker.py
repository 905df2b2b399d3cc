"""One target under libFuzzer: `python -m tests.fuzz.worker TARGET [libFuzzer options and corpus folders]`.

Started by the runner, and by hand to see a crash again: `python -m tests.fuzz.worker framer crash-1234`.
"""

import sys

import atheris


def main() -> None:
    """Fuzz until libFuzzer has had enough; it decides on the exit status as well."""
    # What is imported here is watched; construct is, since schemas are read by it too.
    with atheris.instrument_imports(
        include=["dissectors", "spiceproxy", "construct"], enable_loader_override=False
    ):
        from tests.fuzz.targets import TARGETS
    name = sys.argv.pop(1)
    atheris.Setup([f"{sys.argv[0]} {name}", *sys.argv[1:]], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
