"""Peers that never stop cost themselves, in bounded memory, and a witness hardly notices."""

from pathlib import Path

import pytest
import trio

from tests.hostile.abuse import MEMORY_LIMIT_BYTES, Abuse
from tests.hostile.endless import ENDLESS, ENDLESS_AT_DOORS
from tests.hostile.endless_suite import play
from tests.hostile.stage import DOORS

ALL = [
    *((abuse, ()) for abuse in ENDLESS),
    *((abuse, DOORS) for abuse in ENDLESS_AT_DOORS),
]
# One of each kind is played always: messages that pass, that are read, that are held; many sessions; connections.
ALWAYS = {
    "client: empty messages on a display",
    "server: empty messages on displays of twenty sessions",
    "client: DO_SEAMLESSes in ten sessions",
    "server: BEGINs to three thousand servers",
    "connections that speak HTTP",
    "links whose client leaves",
}


def check(abuse: Abuse, options: tuple[str, ...], directory: Path) -> None:
    def once(name: str, rounds: int, *, elsewhere: bool) -> bool:
        (directory / name).mkdir()
        (it,) = trio.run(
            lambda: play(directory / name, (abuse,), *options, rounds=rounds, elsewhere=elsewhere)
        )
        assert it.heard, it.happened
        assert it.left_over <= 0
        assert it.grown_bytes < MEMORY_LIMIT_BYTES
        return it.unnoticed

    # What is noticed may be the machine's doing: then it is so too where another proxy is flooded.
    assert (
        once("first", 1, elsewhere=False)
        or once("second", 2, elsewhere=True)
        or once("third", 4, elsewhere=True)
    )


def test_the_names_are_those_of_abuses() -> None:
    names = [abuse.name for abuse, _ in ALL]
    assert len(set(names)) == len(names)
    assert set(names) > ALWAYS


@pytest.mark.parametrize(
    ("abuse", "options"),
    [
        pytest.param(*each, id=each[0].name, marks=() if each[0].name in ALWAYS else (pytest.mark.nightly,))
        for each in ALL
    ],
)
def test_it_costs_bounded_memory_and_the_witness_hardly_notices(
    abuse: Abuse, options: tuple[str, ...], tmp_path: Path
) -> None:
    check(abuse, options, tmp_path)
