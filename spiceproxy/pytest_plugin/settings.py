"""What a test wants: options of the command line, of the ini file, and its own markers, nearest first."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from spiceproxy.faults.scenarios import Lab
    from spiceproxy.injection import Faults

SIMULATED: Final = "simulated"
QEMU: Final = "qemu"
KINDS: Final = ("seamless", "semi-seamless", "switch-host")


@dataclass(frozen=True, slots=True)
class Settings:
    """What one test wants.

    Attributes:
        name: Of the test, as pytest has it.
        server: "simulated", "qemu", or the address of one that is there.
        kind: As which clients are to follow, where nobody says otherwise.
        channels: Of simulated servers, besides those of every session.
        ticket: The password that servers ask for.
        client_command: A client program; None: the simulated one.
        migrate_command: Makes a server that is there migrate.
        connect: Whether the client connects before the test begins.
        timeout_s: For everything that waits and is given no other time.
        faults: That are there from the beginning.
        scenarios: Names of the catalog that they are from.
        course: What happens besides in a migration.
        other_server: Have a server that has nothing to do with the migration.
    """

    name: str
    server: str
    kind: str
    channels: tuple[str, ...]
    ticket: str | None = field(repr=False)
    client_command: str | None
    migrate_command: str | None
    connect: bool
    timeout_s: float
    faults: "Faults"
    scenarios: tuple[str, ...]
    course: "Lab"
    other_server: bool


def settings_of(item: pytest.Item) -> Settings:
    """What this test wants.

    Raises:
        UsageError: It cannot be had: a scenario that there is not, a rule that is wrong.
    """
    import secrets

    from spiceproxy.faults.scenarios import Lab, scenario
    from spiceproxy.injection import Faults
    from spiceproxy.injection.loading import load_faults

    names = scenario_names(item)
    needs = [scenario(name).needs for name in names]
    courses = [each.lab for each in map(scenario, names) if each.lab != Lab()]
    texts, files, more = _faults(item)
    found = load_faults(files, names, texts, seed=more.get("seed"), variables=more.get("variables"))
    rules = found or Faults(seed=more.get("seed", 0), variables=more.get("variables", {}))
    servers, client = _marker(item, "spice_servers"), _marker(item, "spice_client")
    config = item.config
    needed = next((each.migration for each in needs if each.migration != "seamless"), "seamless")
    return Settings(
        name=item.nodeid,
        server=servers.get("server") or _option(config, "spice_server") or SIMULATED,
        kind=_kind(servers.get("kind") or ("seamless" if needed == "none" else needed)),
        channels=tuple(dict.fromkeys(each for need in needs for each in need.channels)),
        ticket=servers.get("ticket")
        or (secrets.token_hex(8) if any(need.ticket for need in needs) else None),
        client_command=client.get("command") or _option(config, "spice_client_command"),
        migrate_command=_option(config, "spice_migrate_command"),
        connect=client.get("connect", True),
        timeout_s=float(_option(config, "spice_timeout") or 30),
        # Rules may be added later, so what the ledger has to count is counted from the start.
        faults=Faults(rules.rules, rules.seed, rules.variables, live=True),
        scenarios=names,
        course=courses[0] if courses else Lab(),
        other_server=any(need.other_server for need in needs),
    )


def scenario_names(item: pytest.Item) -> tuple[str, ...]:
    """Those that a test is marked with, the outermost first."""
    markers = [*item.iter_markers("spice_scenario")]
    return tuple(dict.fromkeys(name for marker in reversed(markers) for name in marker.args))


def check_markers(item: pytest.Item) -> None:
    """Find what is wrong with the markers of a test, before any test runs.

    Raises:
        UsageError: In one line.
    """
    from spiceproxy.errors import UsageError
    from spiceproxy.faults.errors import unknown
    from spiceproxy.faults.scenarios import scenario

    for name in scenario_names(item):
        scenario(name)
    for each in item.own_markers:  # those of a module or class may be for its other tests
        if each.name in _NEEDS_PROXY and "spice_proxy" not in getattr(item, "fixturenames", ()):
            raise UsageError(f"{each.name} needs the fixture spice_proxy: without it nothing is broken")
    for marker, known in _KEYS.items():
        for each in item.iter_markers(marker):
            if wrong := [key for key in each.kwargs if key not in known]:
                raise UsageError(unknown("argument", wrong[0], known, where=f" of {marker}"))


_KEYS: Final = {
    "spice_scenario": ("seed", "variables"),
    "spice_faults": ("seed", "variables"),
    "spice_servers": ("server", "kind", "ticket"),
    "spice_client": ("command", "connect"),
}


_NEEDS_PROXY: Final = ("spice_scenario", "spice_faults")


def _kind(name: str) -> str:
    from spiceproxy.errors import UsageError
    from spiceproxy.faults.errors import unknown

    if name not in KINDS:
        raise UsageError(unknown("kind of migration", name, KINDS))
    return name


def _faults(item: pytest.Item) -> tuple[list[str], list[Path], dict[str, Any]]:
    """TOML, files of it, and what there is to them."""
    texts: list[str] = []
    files: list[Path] = []
    more: dict[str, Any] = {}
    for marker in reversed([*item.iter_markers("spice_scenario"), *item.iter_markers("spice_faults")]):
        more.update(marker.kwargs)
        for each in marker.args if marker.name == "spice_faults" else ():
            if isinstance(each, Path):
                files.append(each if each.is_absolute() else item.path.parent / each)
            else:
                texts.append(each)
    return texts, files, more


def _marker(item: pytest.Item, name: str) -> dict[str, Any]:
    """What the markers of this name say together; the nearest to the test comes last and wins."""
    found: dict[str, Any] = {}
    for marker in reversed([*item.iter_markers(name)]):
        found.update(zip(_KEYS[name], marker.args, strict=False))
        found.update(marker.kwargs)
    return found


def _option(config: pytest.Config, name: str) -> str | None:
    """From the command line, or else from the ini file."""
    found = config.getoption(name)
    return found if found is not None else (config.getini(name) or None)
