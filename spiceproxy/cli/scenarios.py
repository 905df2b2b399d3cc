"""`spiceproxy scenarios`: the catalog of faults."""

import sys
from collections.abc import Iterator
from typing import Any, Final, get_args

import click
import msgspec

from dissectors.channels import channel_name
from spiceproxy.faults.matching import many
from spiceproxy.faults.scenarios import Measured, Scenario, measured, scenario, scenarios
from spiceproxy.faults.tables import PhaseName
from spiceproxy.faults.toml import toml_of
from spiceproxy.reading.output import GoneError, Output

EPILOG = """\b
Examples:
  spiceproxy scenarios
  spiceproxy scenarios nack-synth
  spiceproxy scenarios --phase switching --channel display
  spiceproxy scenarios --json | jq -r '.[] | select(.kills_qemu) | .name'
  spiceproxy demo --scenario nack-synth
"""

_NAME_COLUMNS: Final = 40
_OUTCOME_COLUMNS: Final = 19  # destination-aborted


@click.command("scenarios", epilog=EPILOG)
@click.argument("name", required=False)
@click.option(
    "--phase", type=click.Choice(get_args(PhaseName)), help="Only those that name this phase of a migration."
)
@click.option("--channel", metavar="CHANNEL", help="Only those about this channel, as display.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an array, or one object for NAME.")
def scenarios_command(name: str | None, phase: str | None, channel: str | None, as_json: bool) -> None:
    """List the scenarios that `--scenario` takes, or say everything about one.

    What each does on the wire, what it imitates in the field, what the protocol says should happen, what servers and
    clients really did, whether it can kill a QEMU, and its faults as TOML.
    """
    if name is not None and (phase or channel):
        raise click.UsageError("--phase and --channel choose from the list, so they do not go with a name")
    found = [scenario(name)] if name is not None else [
        each
        for each in scenarios().values()
        if (phase is None or phase in phases(each)) and (channel is None or channel in channels(each))
    ]  # fmt: skip
    output = Output(sys.stdout.buffer)
    try:
        if as_json:
            objects = [object_of(each) for each in found]
            made = objects[0] if name is not None else objects
            output.line(msgspec.json.format(msgspec.json.encode(made), indent=2))
        else:
            for line in details(found[0]) if name is not None else listed(found):
                output.line(line.encode())
        output.flush()
    except GoneError:
        pass


def phases(each: Scenario) -> set[str]:
    """The phases that its faults name."""
    return {str(one) for fault in each.fault if fault.match.phase for one in many(fault.match.phase)}


def channels(each: Scenario) -> set[str]:
    """The channels that its faults are about, without ids; of messages that only one channel has, that."""
    found: set[str] = set()
    for rule in each.rules():
        match = rule.matcher.match
        if match.channel is not None:
            found |= {str(one).partition(":")[0] for one in many(match.channel)}
        elif rule.matcher.kinds and len({kind.channel_type for kind in rule.matcher.kinds}) == 1:
            kind = next(iter(rule.matcher.kinds))
            found.add(channel_name(kind.channel_type))
    return found


def listed(found: list[Scenario]) -> Iterator[str]:
    """A line each."""
    for each in found:
        danger = "!" if each.can_kill_qemu else " "
        real = measured().get(each.name)
        outcome = real.outcome if real is not None else ""
        yield f"{each.name:<{_NAME_COLUMNS}} {danger} {outcome:<{_OUTCOME_COLUMNS}} {each.wire}"
    yield ""
    known = sum(each.name in measured() for each in found)
    yield (
        f"{len(found)} scenarios; ! can kill a QEMU; then what it came to with real servers and a real client "
        f"({known} measured). `spiceproxy scenarios NAME` says more."
    )


def details(each: Scenario) -> Iterator[str]:
    """All of one."""
    yield f"{each.name}{f' ({each.number})' if each.number else ''}"
    yield ""
    real = measured().get(each.name)
    for label, text in (
        ("on the wire", each.wire),
        ("imitates", each.imitates),
        ("should", each.protocol),
        ("does", f"{each.reaction} ({each.basis})"),
        ("measured", _measured(real) if real is not None else "not yet"),
        ("ends as", _ends(each)),
        ("can kill", ", ".join(each.kills) or "nobody"),
        ("needs", _needs(each)),
    ):
        yield f"  {label:<12} {text}"
    yield ""
    yield toml_of(each).rstrip()


def _measured(real: Measured) -> str:
    others = f" (else {', '.join(real.others)})" if real.others else ""
    lost = ", guest lost" if real.guest_lost else ""
    runs = f"{real.runs} of {real.of}{others}{lost}"
    return f"{real.outcome}, {runs}, {real.server} with {real.client}, {real.date}: {real.detail}"


def _ends(each: Scenario) -> str:
    strict = f"; between simulated peers {' or '.join(each.simulated)}" if each.simulated else ""
    return f"{' or '.join(each.expect)}{strict}"


def _needs(each: Scenario) -> str:
    needs = each.needs
    words = [needs.migration if needs.migration != "none" else "no migration", *needs.channels]
    if needs.tls:
        words.append("TLS")
    if needs.heads > 1:
        words.append(f"{needs.heads} displays")
    if needs.other_server:
        words.append("another server")
    if needs.ticket:
        words.append("a password")
    return ", ".join(words)


def object_of(each: Scenario) -> dict[str, Any]:
    """One scenario for programs."""
    real = measured().get(each.name)
    return {
        "name": each.name,
        "number": each.number,
        "wire": each.wire,
        "imitates": each.imitates,
        "protocol": each.protocol,
        "reaction": each.reaction,
        "basis": each.basis,
        "measured": msgspec.to_builtins(real) if real is not None else None,
        "expect": list(each.expect),
        "simulated": list(each.simulated or each.expect),
        "kills": list(each.kills),
        "kills_qemu": each.can_kill_qemu,
        "needs": msgspec.to_builtins(each.needs),
        "lab": msgspec.to_builtins(each.lab),
        "phases": sorted(phases(each)),
        "channels": sorted(channels(each)),
        "seed": each.seed,
        "toml": toml_of(each),
    }
