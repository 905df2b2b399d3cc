"""The catalog: named faults, what they do on the wire, what they imitate, and what comes of them.

Files in `catalog/` hold those that somebody wrote; `families.py` makes those that are the same thing done to every
message or every field. What was measured is in `catalog/measured.json`, written by a script from runs in the lab, and read
here: {"name": {"outcome": ..., "detail": ..., "server": ..., "client": ..., "date": "2026-11-25", "runs": 5, "of": 5}}.
"""

from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, field

from spiceproxy.errors import UsageError
from spiceproxy.faults import convert, families
from spiceproxy.faults.errors import FaultFileError, RuleError, unknown
from spiceproxy.faults.lines import Lines
from spiceproxy.faults.model import Fault
from spiceproxy.faults.rules import Rule, compile_faults, parse_toml
from spiceproxy.faults.tables import Positive, Seconds, Table

Outcome = Literal[
    "unchanged",
    "seamless",
    "semi-seamless",
    "switch-host",
    "cancelled",
    "wedged",
    "session-lost",
    "client-crashed",
    "source-aborted",
    "destination-aborted",
]
"""How a scenario ends. Unchanged: there was no migration, and the session goes on."""

Party = Literal["source", "destination", "client"]
Name = Annotated[str, Meta(pattern="^[a-z0-9]+([-_.][a-z0-9]+)*$")]


class Needs(Table, frozen=True):
    """What has to be there for a scenario to mean anything.

    Attributes:
        migration: The kind that is tried.
        tls: Whether the servers have a TLS port.
        channels: That have to be open, beside those of every session; "agent" for the guest's agent.
        heads: Displays.
        other_server: A server that has nothing to do with the migration: ${other_host} and ${other_port}.
        ticket: Servers ask for a password, and the client knows it.
    """

    migration: Literal["seamless", "semi-seamless", "switch-host", "none"] = "seamless"
    tls: bool = False
    channels: list[str] = field(default_factory=list)
    heads: Positive = 1
    other_server: bool = False
    ticket: bool = False


class Lab(Table, frozen=True):
    """What the lab does besides a plain migration.

    Attributes:
        migrate_after_s: Seconds from telling the client of the destination to moving the guest; None: when the client
            has replied.
        cancel: Cancel the migration once the client has replied.
        migrations: How many, one after the other.
        kill: Which QEMU is killed.
        kill_when: Before the client is told, while the guest moves, or when all is done.
        traffic: What the session is busy with: a name of `spiceproxy lab --traffic`.
        image_compression: QEMU's choice for images; None: as it is by itself.
    """

    migrate_after_s: Seconds | None = None
    cancel: bool = False
    migrations: Positive = 1
    kill: Literal["source", "destination"] | None = None
    kill_when: Literal["before", "during", "after"] = "during"
    traffic: str | None = None
    image_compression: Literal["off", "quic", "glz", "lz", "auto_glz", "auto_lz"] | None = None


class Scenario(Table, frozen=True, kw_only=True):
    """A named fault, or a few that belong together.

    Attributes:
        name: Lower case, with hyphens.
        wire: What it does on the wire.
        imitates: What it looks like in the field.
        protocol: What the protocol says should happen.
        reaction: What spice-server 0.15.1 and spice-gtk 0.42 do: seen, or read from their code.
        fault: The rules.
        number: "F1" and so on, of the list that the catalog began with.
        basis: Whether the reaction was seen or follows from the code.
        kills: Who may crash or abort. A server that aborts takes its QEMU and the guest with it.
        expect: Outcomes that fit the reaction; where there are several, which one depends on timing or set-up.
        simulated: Outcomes between simulated peers, where they differ: those are strict, never look at pictures, and use
            what the lab does not, such as the pointer.
        needs: What has to be there.
        lab: What the lab does besides.
        seed: For what is left to chance.
    """

    name: Name
    wire: str
    imitates: str
    protocol: str
    reaction: str
    fault: list[Fault]
    expect: Annotated[list[Outcome], Meta(min_length=1)]
    simulated: list[Outcome] = field(default_factory=list)
    number: Annotated[str, Meta(pattern="^F[0-9]+$")] | None = None
    basis: Literal["observed", "predicted"] = "predicted"
    kills: list[Party] = field(default_factory=list)
    needs: Needs = Needs()
    lab: Lab = Lab()
    seed: int = 0

    @property
    def can_kill_qemu(self) -> bool:
        """Whether a server, and so a guest, may die: not for labs that others use as well."""
        return "source" in self.kills or "destination" in self.kills

    def rules(self) -> tuple[Rule, ...]:
        """The rules, compiled; named after the scenario where they have no name.

        Raises:
            RuleError: One is wrong; no scenario of the catalog has such a one.
        """
        return compile_faults(self.fault, prefix=self.name)


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a scenario did in the lab.

    Attributes:
        outcome: How it ended.
        detail: What was printed or seen, in a sentence.
        server: As "spice-server 0.15.1, QEMU 7.2.22".
        client: As "spice-gtk 0.42".
        date: As "2026-11-25".
        runs: How many runs ended so.
        of: How many there were.
        others: How other runs ended.
        guest_lost: No server ran the guest in the end.
    """

    outcome: Outcome
    detail: str
    server: str
    client: str
    date: str
    runs: int
    of: int
    others: list[Outcome] = field(default_factory=list)
    guest_lost: bool = False


class _File(Table, frozen=True, kw_only=True):
    scenario: list[Scenario]


_CATALOG: Final = "catalog"


@cache
def scenarios() -> dict[str, Scenario]:
    """Every scenario by name: those that somebody wrote by file, then the families.

    Raises:
        FaultFileError: A file of the catalog is wrong.
    """
    found: dict[str, Scenario] = {}
    for each in (*_written(), *families.made()):
        table = each if isinstance(each, Scenario) else convert.convert(each, Scenario)
        if table.name in found:
            raise FaultFileError(_CATALOG, 1, f"two scenarios are called `{table.name}`")
        found[table.name] = table
    return found


def scenario(name: str) -> Scenario:
    """One scenario.

    Raises:
        UsageError: There is none of this name.
    """
    known = scenarios()
    if name not in known:
        raise UsageError(f"{unknown('scenario', name, known)} (`spiceproxy scenarios` lists them all)")
    return known[name]


@cache
def measured() -> dict[str, Measured]:
    """What was measured, by the scenario's name."""
    text = resources.files("spiceproxy.faults").joinpath(_CATALOG, "measured.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Measured])


def _written() -> Iterator[Scenario]:
    folder = resources.files("spiceproxy.faults").joinpath(_CATALOG)
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".toml"):
            yield from read(file.read_text(encoding="utf-8"), file=file.name)


def read(text: str, *, file: str) -> list[Scenario]:
    """Read scenarios, as the files of the catalog have them.

    Raises:
        FaultFileError: Something is wrong, in a scenario or in its rules.
    """
    table: dict[str, Any] = parse_toml(text, file=file)
    try:
        found = convert.convert(table, _File).scenario
        for position, each in enumerate(found):
            try:
                each.rules()
            except RuleError as error:
                raise error.under("scenario", position, "fault") from None
    except RuleError as error:
        raise FaultFileError(file, Lines(text).line_of(error.path), error.reason) from None
    return found
