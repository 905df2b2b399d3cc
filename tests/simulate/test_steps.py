"""The tables: every state meets every step."""

from enum import Enum
from typing import Any

import pytest

from dissectors.side import Side
from spiceproxy.simulate import RULES, RuleBroken, steps
from spiceproxy.simulate.steps import (
    ARRIVAL,
    LEAVING,
    OUTCOMES,
    PHASE,
    SOURCE,
    SWITCH,
    Arrival,
    ClientStep,
    Leaving,
    Machine,
    MainStep,
    Order,
    Outcome,
    Phase,
    Reply,
    ServerStep,
    Source,
    Switch,
)

TABLES: list[tuple[dict[Any, Any], type[Enum], type[Enum], str]] = [
    (SOURCE, Source, Reply, "R7"),
    (LEAVING, Leaving, ClientStep, "R29"),
    (ARRIVAL, Arrival, MainStep, "R16"),
    (SWITCH, Switch, ServerStep, "R23"),
    (PHASE, Phase, Order, "R19"),
]


@pytest.mark.parametrize(("table", "states", "inputs", "otherwise"), TABLES)
def test_every_state_meets_every_step(
    table: Any, states: type[Enum], inputs: type[Enum], otherwise: str
) -> None:
    for state in states:
        for step in inputs:
            machine: Machine[Any, Any] = Machine(
                state, table, otherwise=otherwise, by=Side.CLIENT, channel="main:0"
            )
            row = table.get((state, step), otherwise)
            if isinstance(row, str):
                with pytest.raises(RuleBroken, match="it happened") as caught:
                    machine.step(step, "it happened")
                assert caught.value.rule == row
                assert machine.state is state
            else:
                assert machine.step(step, "it happened") is machine.state is row
                assert isinstance(row, states)


@pytest.mark.parametrize(("table", "states", "inputs", "otherwise"), TABLES)
def test_every_state_can_be_reached(
    table: Any, states: type[Enum], inputs: type[Enum], otherwise: str
) -> None:
    starts = {Source.IDLE, Leaving.STAYING, Arrival.ORDINARY, Arrival.PARKED, Switch.STAYING, Phase.NONE}
    # Set by what came of BEGIN or MIGRATE, not by a step.
    starts |= {Phase.CONNECTED, Phase.SEAMLESS, Phase.REFUSED, Leaving.FLUSHING, Leaving.RELEASED}
    reached = {following for following in table.values() if not isinstance(following, str)} | starts
    assert set(states) <= reached


def test_every_rule_named_in_a_table_exists() -> None:
    for table, *_ in TABLES:
        assert {row for row in table.values() if isinstance(row, str)} <= RULES.keys()


def test_every_end_of_a_migration_has_an_outcome_that_fits() -> None:
    for state in Source:
        completed, failed = (OUTCOMES.get((done, state), Outcome.NOTHING) for done in (True, False))
        assert failed in {Outcome.CANCEL, Outcome.NOTHING}
        assert (failed is Outcome.CANCEL) == (state in {Source.CONNECTED, Source.SEAMLESS})
        assert completed is not Outcome.CANCEL


def test_a_machine_says_where_a_step_went_wrong() -> None:
    machine: Machine[Leaving, ClientStep] = Machine(
        Leaving.FLUSHED, LEAVING, otherwise="R29", by=Side.CLIENT, channel="inputs:0"
    )
    with pytest.raises(RuleBroken) as caught:
        machine.step(ClientStep.OTHER, "a key")
    assert (caught.value.rule, caught.value.by, caught.value.channel) == ("R29", Side.CLIENT, "inputs:0")
    with pytest.raises(RuleBroken, match=r"display:0: a key"):
        machine.step(ClientStep.OTHER, "a key", channel="display:0")
    assert steps.Leaving.FLUSHED is machine.state
