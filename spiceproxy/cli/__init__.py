"""The command line: one module per command."""

import os
import sys

import click

from spiceproxy.cli.groups import CONTEXT, LazyGroup
from spiceproxy.errors import UsageError

EPILOG = """\b
Examples:
  spiceproxy demo
  spiceproxy run --listen 127.0.0.1:5901 --server 127.0.0.1:5900 --record session.pcapng
  spiceproxy ctl wait 'event == "migration_ended"' --timeout 30
  spiceproxy read session.pcapng --filter 'name =~ "*MIGRATE*"'
  spiceproxy report session.pcapng --expect seamless
  spiceproxy redact session.pcapng vendor.pcapng
  spiceproxy lab --migration seamless --hops 2
"""


@click.group(
    cls=LazyGroup,
    commands_from={
        "run": "run_command",
        "ctl": "ctl_command",
        "read": "read_command",
        "report": "report_command",
        "rules": "rules_command",
        "scenarios": "scenarios_command",
        "redact": "redact_command",
        "repair": "repair_command",
        "demo": "demo_command",
        "lab": "lab_command",
        "ca": "ca_command",
        "nft": "nft_command",
    },
    context_settings=CONTEXT,
    epilog=EPILOG,
)
@click.version_option(package_name="spiceproxy")
def cli() -> None:
    """Follow, explain and record SPICE sessions through live migrations."""


def main() -> None:
    """Entry point of the `spiceproxy` command. What the user can mend is one line and the error's exit status."""
    # Closed by whoever started this. Opened again they also take the lowest descriptors, before a socket does.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    try:
        cli(standalone_mode=True)
    except (UsageError, BaseExceptionGroup) as raised:
        error = _usage_error(raised)
        click.echo(f"spiceproxy: {error}", err=True)
        sys.exit(error.status)


def _usage_error(error: BaseException) -> UsageError:
    """The usage error in what a nursery may have wrapped; anything else goes on as it is."""
    if isinstance(error, UsageError):
        return error
    if isinstance(error, BaseExceptionGroup) and error.split(UsageError)[1] is None:
        return _usage_error(error.exceptions[0])
    raise error
