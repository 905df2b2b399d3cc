"""How much is read at once, and what it costs."""

from spiceproxy.relay.buffers import LARGE_BUFFER_BYTES
from spiceproxy.relay.fairness import COUNT_S, TURN_S, Fairness
from spiceproxy.relay.turns import FIRST_READ_BYTES, LEAST_READ_BYTES, LIGHT_BYTES, MESSAGE_S, Turns


def turns(now: list[float], *, tls: bool = False, apart: bool = False) -> tuple[Turns, Fairness]:
    fairness = Fairness(lambda: now[0])
    return Turns(fairness.share(), tls=tls, apart=apart), fairness


def witnessed(fairness: Fairness, now: list[float]) -> None:
    """Somebody else is there who sends little."""
    fairness.share().light()
    now[0] += 2 * COUNT_S


def test_who_sends_large_messages_is_given_more_and_more() -> None:
    it, _ = turns([0.0])
    assert it.read_bytes == FIRST_READ_BYTES
    for _ in range(10):
        it.read(it.read_bytes, 0, full=True)
    assert it.read_bytes == LARGE_BUFFER_BYTES


def test_who_sends_empty_messages_is_given_as_much_as_a_turn_is_enough_for() -> None:
    it, _ = turns([0.0])
    for _ in range(20):
        it.read(it.read_bytes, it.read_bytes // 6, full=True)
    assert TURN_S / 4 < it.read_bytes / 6 * MESSAGE_S <= TURN_S


def test_a_megabyte_of_empty_messages_behind_large_ones_is_the_last_of_that_length() -> None:
    it, _ = turns([0.0])
    for _ in range(10):
        it.read(it.read_bytes, 0, full=True)
    it.read(it.read_bytes, it.read_bytes // 6, full=True)
    assert it.read_bytes / 6 * MESSAGE_S <= TURN_S


def test_messages_that_are_looked_at_make_reads_short() -> None:
    it, _ = turns([0.0])
    for _ in range(FIRST_READ_BYTES // 6):
        it.unpaid_s, it.looked = 0.0003, True
        it.looked_at()
    it.read(FIRST_READ_BYTES, FIRST_READ_BYTES // 6, full=True)
    assert it.read_bytes == LEAST_READ_BYTES


def test_records_of_tls_begin_with_short_reads() -> None:
    it, _ = turns([0.0], tls=True, apart=True)
    assert it.read_bytes == LEAST_READ_BYTES


def test_small_reads_cost_nothing_and_say_that_somebody_is_there() -> None:
    now = [0.0]
    it, fairness = turns(now)
    witnessed(fairness, now)
    assert not any(it.read(LIGHT_BYTES - 1, 1, full=False) for _ in range(100_000))
    other = Turns(fairness.share(), tls=False, apart=False)
    now[0] += 2 * COUNT_S
    assert any(other.read(2**20, 100_000, full=True) for _ in range(100))


def test_small_reads_whose_messages_are_looked_at_are_paid_for_together() -> None:
    now = [0.0]
    it, fairness = turns(now)
    witnessed(fairness, now)
    waits = []
    for _ in range(1000):
        it.unpaid_s += 0.0001
        it.looked = True
        it.read(20, 1, full=False)
        if it.unpaid_s >= 0.0003:
            waits.append(it.looked_at())
    assert any(waits)


def test_a_hundred_sessions_that_migrate_at_once_do_not_wait_for_each_other() -> None:
    now = [0.0]
    _, fairness = turns(now)
    witnessed(fairness, now)
    sessions = [Turns(fairness.share(), tls=False, apart=False) for _ in range(100)]
    for _ in range(30):  # messages of each, 0.3 ms each
        for it in sessions:
            now[0] += 0.0003
            it.unpaid_s, it.looked = 0.0003, True
            assert it.looked_at() == 0
            assert it.read(200, 1, full=False) == 0


def test_what_walking_takes_in_small_reads_of_others_is_not_held_against_them() -> None:
    it, _ = turns([0.0])
    it.unpaid_s = 0.0001
    it.read(20, 1, full=False)
    assert it.unpaid_s == 0


def test_who_reads_as_much_as_was_asked_for_has_more_to_send_and_is_not_light() -> None:
    it, _ = turns([0.0], apart=True)
    it.read(LEAST_READ_BYTES, 0, full=True)
    assert it.read_bytes == 2 * LEAST_READ_BYTES
