"""Whatever a peer does costs its own connection, in time and in bounded memory, and the others notice nothing."""

from pathlib import Path

import pytest
import trio

from tests.hostile.abuse import MEMORY_LIMIT_BYTES
from tests.hostile.suite import ABUSES, Run, play


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory: Path = tmp_path_factory.mktemp("hostile")
    return trio.run(play, directory)


def test_there_are_as_many_as_were_promised_and_no_two_are_the_same() -> None:
    assert len({name for name, _ in ABUSES}) == len(ABUSES) >= 100


@pytest.mark.parametrize("number", range(len(ABUSES)), ids=[name for name, _ in ABUSES])
def test_it_ends_its_own_connection_with_the_documented_event_in_bounded_time_and_memory(
    number: int, run: Run
) -> None:
    it = run.results[number]
    assert it.heard, it.happened
    assert it.left_over <= 0
    assert it.grown_bytes < MEMORY_LIMIT_BYTES
    assert it.ratio < 2


def test_the_witness_s_round_trips_stay_under_twice_their_normal_median_in_all(run: Run) -> None:
    assert run.during_s < 2 * run.normal_s


def test_all_of_them_together_leave_little_in_memory(run: Run) -> None:
    assert run.last_bytes - run.first_bytes < MEMORY_LIMIT_BYTES
