"""One target under libFuzzer: `python -m tests.fuzz.worker TARGET [libFuzzer options and corpus folders]`.

Started by the runner, and by hand to see a crash again: `python -m tests.fuzz.worker framer crash-1234`.
"""

import importlib
import shlex
import sys
from types import CodeType
from typing import Any, Final

import atheris

WATCHED: Final = ["dissectors", "spiceproxy", "construct", "lark"]


def main() -> None:
    """Fuzz until libFuzzer has had enough; it decides on the exit status as well."""
    name = sys.argv.pop(1)
    # What is imported here is watched; construct and lark are, since they walk through what they are given.
    with atheris.instrument_imports(include=WATCHED, enable_loader_override=False):
        for late in (
            "spiceproxy.filter.compiler",
            "spiceproxy.filter.parser",
        ):  # else the first filter has them
            importlib.import_module(late)
        from dissectors import compiler
        from tests.fuzz.targets import TARGETS

        run = TARGETS[name].run

    def compile_watched(*arguments: Any) -> CodeType:
        code: CodeType = atheris.patch_code(compile(*arguments), trace_dataflow=True)
        return code

    vars(compiler)["compile"] = compile_watched  # what is made of schemas, too
    # To merge, libFuzzer starts itself again by what stands in front.
    again = f"{shlex.quote(sys.executable)} -m tests.fuzz.worker {name}"
    atheris.Setup([again, *sys.argv[1:]], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
