"""Many cells: chosen by names and globs, written as they come, gone on with after an interruption. Peers are simulated."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio

from spiceproxy.errors import UsageError
from spiceproxy.faults.scenarios import scenario, scenarios
from spiceproxy.lab.result import ClientKind
from spiceproxy.matrix import simulated
from spiceproxy.matrix.campaign import Options, choose, run_campaign
from spiceproxy.matrix.results import FILE, Cell, Column, Verdict, read_cells
from spiceproxy.matrix.setups import setup_of

NAMES = ["nack-synth", "nack-rewrite", "refuse-dst"]


def options(directory: Path, **changes: object) -> Options:
    plain = {"names": NAMES, "columns": [Column.SIMULATED], "artefacts": directory, "jobs": 2}
    return Options(**{**plain, **changes})  # type: ignore[arg-type]


async def play(chosen: Options, told: Callable[[Cell, int, int], None] = lambda *_: None) -> list[Cell]:
    cells: list[Cell] = []
    await run_campaign(chosen, told, cells)
    return cells


def test_all_a_glob_and_names_choose_in_the_order_of_the_catalog() -> None:
    assert choose(["all"]) == list(scenarios())
    assert choose(["nack-rewrite", "nack-synth"]) == [
        name for name in scenarios() if name in {"nack-rewrite", "nack-synth"}
    ]
    assert set(choose(["nack-*", "nack-synth"])) == {name for name in scenarios() if name.startswith("nack-")}


@pytest.mark.parametrize(
    ("pattern", "words"), [("nack-synt", "did you mean `nack-synth`"), ("zz*", "no scenario fits")]
)
def test_a_name_that_is_none_is_an_error(pattern: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose([pattern])


async def test_every_cell_is_a_line_and_a_folder(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    cells = await play(options(tmp_path), lambda cell, done, of: told.append((cell.scenario, done, of)))
    assert {each.scenario for each in cells} == set(NAMES)
    assert [(done, of) for _, done, of in told] == [(1, 3), (2, 3), (3, 3)]
    assert {each.scenario: (each.verdict, each.outcome) for each in cells} == {
        "nack-synth": (Verdict.EXPECTED, "semi-seamless"),
        "nack-rewrite": (Verdict.EXPECTED, "session-lost"),
        "refuse-dst": (Verdict.EXPECTED, "switch-host"),
    }
    assert read_cells(tmp_path) == cells
    for each in cells:
        for path in each.artefacts.values():
            assert msgspec.json.decode((tmp_path / path).read_bytes())["v"] == 1


async def test_repetitions_are_cells_of_their_own_and_come_after_the_first_of_each(tmp_path: Path) -> None:
    cells = await play(options(tmp_path, names=NAMES[:2], repeat=2, jobs=1))
    assert [(each.scenario, each.run) for each in cells] == [
        ("nack-synth", 1), ("nack-rewrite", 1), ("nack-synth", 2), ("nack-rewrite", 2),
    ]  # fmt: skip


async def test_what_is_there_is_not_played_again(tmp_path: Path) -> None:
    first = await play(options(tmp_path, names=NAMES[:2]))
    told: list[str] = []
    cells = await play(options(tmp_path, resume=True), lambda cell, *_: told.append(cell.scenario))
    assert told == ["refuse-dst"]
    assert cells[:2] == first
    assert [each.scenario for each in read_cells(tmp_path)] == [
        *(each.scenario for each in first),
        "refuse-dst",
    ]


async def test_an_interrupted_campaign_goes_on_where_it_was(tmp_path: Path) -> None:
    cells: list[Cell] = []
    with trio.CancelScope() as scope:
        await run_campaign(options(tmp_path, jobs=1), lambda *_: scope.cancel(), cells)
    assert scope.cancelled_caught
    assert len(cells) == len(read_cells(tmp_path)) == 1
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes() + b'{"scenario": "nack-rew')  # cut off by a power failure
    again = await play(options(tmp_path, resume=True))
    assert {each.scenario for each in again} == set(NAMES)
    assert again[0] == cells[0]
    assert len(file.read_bytes().splitlines()) == 3


async def test_what_could_not_be_played_is_tried_again(tmp_path: Path) -> None:
    (first,) = await play(options(tmp_path, names=["nack-synth"]))
    broken = msgspec.structs.replace(first, verdict=Verdict.BROKEN, outcome=None)
    (tmp_path / FILE).write_bytes(msgspec.json.encode(broken) + b"\n")
    (again,) = await play(options(tmp_path, names=["nack-synth"], resume=True))
    assert again.verdict is Verdict.EXPECTED


async def test_results_are_not_overwritten_unasked(tmp_path: Path) -> None:
    await play(options(tmp_path, names=["nack-synth"]))
    with pytest.raises(UsageError, match="--resume goes on with it"):
        await play(options(tmp_path, names=["nack-synth"]))


async def test_a_file_that_is_no_results_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"scenario": 7}\n')
    with pytest.raises(UsageError, match=r"results\.jsonl, line 1"):
        await play(options(tmp_path, resume=True))


async def test_what_peers_do_not_have_is_not_run_and_says_why(tmp_path: Path) -> None:
    (smartcard,) = await play(options(tmp_path, names=["lose-flush-mark-smartcard"]))
    assert (smartcard.verdict, smartcard.outcome) == (Verdict.NOT_RUN, None)
    assert smartcard.detail == "the simulated peers have no smartcard"


async def test_what_happens_only_in_an_old_session_is_not_run_between_peers_that_do_not_wait(
    tmp_path: Path,
) -> None:
    (cell,) = await play(options(tmp_path, names=["drop-acks-display"]))
    assert (cell.verdict, cell.detail) == (
        Verdict.NOT_RUN,
        "a session of simulated peers does not get 5 s old",
    )


def test_what_strict_peers_come_to_instead_is_expected_of_them_and_of_nobody_else() -> None:
    each = scenario("starve-motion")
    assert (each.expect, each.simulated) == (["seamless"], ["wedged"])
    assert simulated.judged(each, "wedged", fired=True, findings=[]).verdict is Verdict.EXPECTED
    assert simulated.judged(each, "seamless", fired=True, findings=[]).verdict is Verdict.UNEXPECTED


async def test_servers_ask_for_the_password_that_a_scenario_is_about(tmp_path: Path) -> None:
    (cell,) = await play(options(tmp_path, names=["wrong-ticket-dst"]))
    assert (cell.verdict, cell.outcome) == (Verdict.EXPECTED, "session-lost")
    assert "PERMISSION_DENIED" in cell.detail


def test_a_session_lost_between_strict_peers_fits_where_a_real_one_aborts() -> None:
    judged = simulated.judged(scenario("nack-rewrite"), "session-lost", fired=True, findings=[])
    assert judged.verdict is Verdict.EXPECTED
    assert (
        simulated.judged(scenario("nack-synth"), "wedged", fired=True, findings=[]).verdict
        is Verdict.UNEXPECTED
    )
    assert (
        simulated.judged(scenario("nack-synth"), "seamless", fired=False, findings=[]).verdict
        is Verdict.SILENT
    )


def test_a_setup_has_the_channels_and_the_patience_that_a_scenario_takes() -> None:
    plain = setup_of(scenario("nack-synth"))
    assert plain.why_not is None
    assert plain.patience_s == 0
    assert {"main", "display", "usbredir", "webdav", "port", "playback", "record"} <= plain.channels
    assert setup_of(scenario("late-end-source")).patience_s == 12
    assert setup_of(scenario("drop-acks-display")).quiet_s == 6
    assert setup_of(scenario("lose-flush-mark-smartcard")).guest.smartcard
    assert "smartcard" in setup_of(scenario("lose-flush-mark-smartcard")).channels
    viewer = setup_of(scenario("nack-synth"), ClientKind.REMOTE_VIEWER)
    assert plain.channels - viewer.channels == {"webdav", "port"}
    unopened = setup_of(scenario("lose-flush-mark-port"), ClientKind.REMOTE_VIEWER)
    assert unopened.why_not == "there is no port channel with remote-viewer"
    assert all(setup_of(scenario(name)).why_not is None for name in ("subject-mismatch", "tls-downgrade"))
    for each in scenarios().values():
        assert setup_of(each).guest.name.isprintable()
