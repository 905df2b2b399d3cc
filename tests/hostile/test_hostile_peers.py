"""Whatever a peer does costs its own connection, in time and in bounded memory, and the others notice nothing."""

from pathlib import Path

import pytest
import trio

from tests.hostile.abuse import MEMORY_LIMIT_BYTES
from tests.hostile.stage import stage
from tests.hostile.suite import ABUSES, Run, play, play_one


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


async def test_an_abuse_that_goes_to_the_same_server_again_finds_the_new_listener(tmp_path: Path) -> None:
    """The witness may have an abuse played again; what was opened for it before is closed by then."""
    name = "server: a destination that is not there"
    abuse = dict(ABUSES)[name]
    async with stage(tmp_path) as it:
        await trio.sleep(0.5)
        base = it.descriptors()
        for _ in range(2):
            result = await play_one(it, name, abuse, base)
            assert result.documented, result.happened
