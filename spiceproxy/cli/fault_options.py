"""Options for faults that `run`, `demo` and `lab` have in common."""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from spiceproxy.cli.together import with_options
from spiceproxy.errors import OptionError, UsageError

if TYPE_CHECKING:
    from spiceproxy.faults.rules import Rule
    from spiceproxy.injection import Faults

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Variable(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """NAME=VALUE; a value that is a number is one."""

    name = "variable"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split it."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, int(text) if text.isdecimal() else text


_OPTIONS: Final = (
    click.option(
        "--faults",
        metavar="FILE.toml",
        type=click.Path(path_type=Path, dir_okay=False),
        multiple=True,
        help="Break sessions as this file says (docs/faults.md); may be given again.",
    ),
    click.option(
        "--scenario",
        metavar="NAME",
        multiple=True,
        help="Break sessions as this scenario does; `spiceproxy scenarios` lists them. May be given again.",
    ),
    click.option(
        "--fault",
        metavar="TOML",
        multiple=True,
        help='Break sessions as this fault says: \'{ match = { message = "PING" }, do = "drop" }\'. May be given again.',
    ),
    click.option(
        "--script",
        metavar="FILE.py",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Ask the functions in this file what to do with messages (docs/hooks.md); read again when it changes.",
    ),
    click.option(
        "--seed",
        type=int,
        help="For what faults leave to chance.  [default: what files and scenarios say, or 0]",
    ),
    click.option(
        "--fault-variable",
        metavar="NAME=VALUE",
        type=Variable(),
        multiple=True,
        help="What ${NAME} in a fault stands for; may be given again.",
    ),
)


def fault_options(command: _Command) -> _Command:
    """The options."""
    return with_options(command, _OPTIONS)


def faults_of(arguments: Mapping[str, Any], *, all_known: bool = False) -> "Faults | None":
    """The faults that a command was given; None for none.

    Args:
        arguments: Of the command.
        all_known: The command itself adds no variables: all that faults need have to be given.

    Raises:
        OptionError: Something is wrong with them, in one line.
    """
    if not any(arguments[name] for name in ("faults", "scenario", "fault", "script")):
        return None
    from spiceproxy.injection.loading import load_faults

    variables = dict(arguments["fault_variable"])
    try:
        found = load_faults(
            arguments["faults"],
            arguments["scenario"],
            arguments["fault"],
            script=arguments["script"],
            seed=arguments["seed"],
            variables=variables,
        )
    except UsageError as error:
        raise OptionError(str(error)) from error
    if all_known and found is not None:
        check_variables(found.rules, variables)
    return found


def check_variables(rules: "Iterable[Rule]", known: Collection[str]) -> None:
    """See that everything that faults need is known.

    Raises:
        OptionError: It is not; the fault would fail each time that it fires.
    """
    from spiceproxy.faults.rules import variables_of

    for rule in rules:
        for name in sorted(variables_of(rule) - set(known)):
            raise OptionError(
                f"fault `{rule.name}`: nobody has said what ${{{name}}} is: --fault-variable {name}=VALUE"
            )
