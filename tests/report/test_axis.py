"""The time axis of charts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.report.axis import LONGEST_GAP, Axis, Mark

MARKS = st.lists(
    st.builds(
        Mark,
        st.integers(0, 10**12),
        st.sampled_from(["main", "a", "b"]),
        st.sampled_from([0.0, 14.0, 25.0]),
        st.sampled_from([0.0, 11.0]),
    ),
    max_size=60,
)
PHASES = st.lists(st.integers(0, 10**12), max_size=5).map(sorted)


@given(MARKS, PHASES)
def test_time_never_runs_backwards_and_marks_of_a_track_keep_apart(
    marks: list[Mark], phases: list[int]
) -> None:
    axis = Axis(marks, phases, 100.0)
    order = sorted(range(len(marks)), key=lambda index: marks[index].time_ns)
    places = [axis.places[index] for index in order]
    assert places == sorted(places)
    assert all(100.0 <= place <= axis.bottom for place in places)
    last: dict[str, float] = {}
    for index in order:
        mark, place = marks[index], axis.places[index]
        assert place - last.get(mark.track, place - mark.room) >= mark.room - 1e-6
        last[mark.track] = place


@given(MARKS, PHASES, st.lists(st.integers(-(10**12), 2 * 10**12), min_size=2, max_size=8).map(sorted))
def test_any_moment_has_a_place_in_order(marks: list[Mark], phases: list[int], moments: list[int]) -> None:
    axis = Axis(marks, phases, 0.0)
    for places in ([axis.y(each) for each in moments], [axis.y(each, after=True) for each in moments]):
        assert places == sorted(places)
        assert all(axis.top <= place <= axis.bottom for place in places)


def test_a_second_of_waiting_is_a_break_with_its_duration_and_milliseconds_after_it_have_room() -> None:
    second = 10**9
    marks = [Mark(at, "main", 20.0) for at in (0, second, second + 10**6, second + 3 * 10**6)]
    axis = Axis(marks, [0, second], 0.0)
    assert [each.duration_ns for each in axis.breaks] == [second, 2 * 10**6]
    assert axis.places[1] - axis.places[0] == LONGEST_GAP
    assert axis.places[2] - axis.places[1] > 30


def test_within_a_phase_distances_are_times() -> None:
    marks = [Mark(at, "main", 0.0) for at in (0, 100, 200, 400, 700, 1000)]
    places = Axis(marks, [0], 0.0).places
    assert places[3] - places[2] == pytest.approx(2 * (places[1] - places[0]))
    assert places[4] - places[3] == pytest.approx(3 * (places[1] - places[0]))


def test_an_axis_of_nothing_is_there() -> None:
    axis = Axis([], [], 5.0)
    assert (axis.y(7), axis.breaks, axis.places) == (5.0, [], [])
