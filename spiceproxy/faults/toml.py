"""The faults of a scenario as a file of its own."""

import msgspec
import tomli_w

from spiceproxy.faults.scenarios import Scenario


def toml_of(scenario: Scenario) -> str:
    """The text of a file that does what the scenario does."""
    faults = msgspec.to_builtins(scenario.fault, enc_hook=str)
    head = {"comment": scenario.wire} | ({"seed": scenario.seed} if scenario.seed else {})
    return tomli_w.dumps({**head, "fault": faults})
