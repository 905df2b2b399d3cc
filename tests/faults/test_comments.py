"""What recordings say of faults is read again as it was meant."""

from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.faults.comments import FAILED, LEDGER, PUT_IN, Firing, Place, before, fired, firings

SENT = "; the server sent SPICE_MSG_PING, 12 bytes: 00ff"


def test_each_fault_of_a_comment_is_read() -> None:
    line = f"{fired('a', 1, 'set id, drop')}; {fired('b: c', 22, 'delay 2 s')}{SENT}"
    assert list(firings(line)) == [
        Firing("a", 1, "set id, drop", "SPICE_MSG_PING", before=False, made=False),
        Firing("b: c", 22, "delay 2 s", "SPICE_MSG_PING", before=False, made=False),
    ]


def test_what_is_put_in_is_nobodys() -> None:
    (found,) = firings(fired("a", 1, "drop, inject SPICE_MSG_NOTIFY") + PUT_IN)
    assert found == Firing("a", 1, "drop, inject SPICE_MSG_NOTIFY", "", before=False, made=True)


def test_what_no_byte_shows_is_told_with_its_place() -> None:
    place = Place("c5", "display:0", 1)
    comment = f"{before(fired('a', 1, 'stall'))}\n{before(fired('b', 1, 'refuse'), place)}\nredirected"
    here, there = firings(comment)
    assert (here.before, here.elsewhere) == (True, None)
    assert (there.before, there.elsewhere) == (True, place)


def test_a_fault_that_only_logs_or_failed_touches_nothing() -> None:
    touches = [
        next(iter(firings(fired("a", 1, text)))).touches
        for text in ("log", "drop", "log, drop", f"set id{FAILED}")
    ]
    assert touches == [False, True, True, False]


def test_other_comments_say_nothing() -> None:
    for text in (
        "",
        LEDGER,
        "main:0 hop 1",
        "fault `a",
        "fault ``, firing 1: drop",
        "fault `a`, firing x: drop",
    ):
        assert list(firings(text)) == []


@given(st.text(min_size=1, max_size=60), st.integers(1, 10**6))
def test_any_name_is_read_again_on_one_line(name: str, number: int) -> None:
    comment = fired(name, number, "drop")
    assert "\n" not in comment
    found = list(firings(comment))
    plain = " ".join(name.replace("`", "'").split())
    assert [(each.fault, each.number, each.actions) for each in found] == [(plain, number, "drop")] * bool(
        plain
    )


@given(st.text(max_size=300))
def test_no_comment_is_too_strange(text: str) -> None:
    for each in firings(text):
        assert each.fault in text
