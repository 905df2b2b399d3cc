"""What waits, for how long, and what may overtake it."""

from dissectors.link import (
    build_link_error,
)
from spiceproxy.faults import Context, Moment
from spiceproxy.faults.effects import (
    Send,
    Wait,
    Wake,
)
from tests.faults.doing import DISPLAY, INPUTS, MAIN, MIGRATE, SECOND, C, S, does, migrate, on
from tests.faults.relaying import engine, sent, unwire, wire


def test_delay_holds_the_direction_until_the_time_is_over() -> None:
    faults = does("{ delay = 2 }")
    *_, wait = migrate(faults)
    assert isinstance(wait, Wait)
    assert wait == Wait(wait.token, 2 * SECOND, S)
    assert faults.resume(on(INPUTS), wait.token) == [Send(C, MIGRATE, "fault `fault 1`, firing 1: delay 2 s")]
    assert faults.resume(on(INPUTS), wait.token) == []


def test_jitter_is_between_nothing_and_its_seconds_and_the_same_for_a_seed() -> None:
    delays = []
    for seed in (1, 1, 2):
        *_, wait = migrate(does("{ delay = { seconds = 1, jitter = 2, overtake = true } }", seed=seed))
        assert isinstance(wait, Wait)
        assert wait.blocks is None
        delays.append(wait.delay_ns or 0)
    assert delays[0] == delays[1] != delays[2]
    assert all(SECOND <= delay < 3 * SECOND for delay in delays)


def test_hold_waits_for_another_message_of_the_session_on_any_connection() -> None:
    faults = does('{ hold = { until = { message = "MIGRATE_CANCEL", nth = 2 }, seconds = 9 } }')
    *_, wait = migrate(faults)
    assert isinstance(wait, Wait)
    assert (wait.delay_ns, wait.blocks) == (9 * SECOND, S)
    cancel = unwire(S, wire(102))
    other = Context("s2", "c9", MAIN, 0)
    main = Context("s1", "c2", MAIN, 0)
    assert faults.message(other, cancel) == [Send(C, wire(102))]  # another session
    assert faults.message(main, cancel) == [Send(C, wire(102))]  # the first
    assert faults.message(main, cancel) == [Send(C, wire(102)), Wake(wait.token)]
    assert faults.message(main, cancel) == [Send(C, wire(102))]  # woken once
    assert sent(faults.resume(on(INPUTS), wait.token)) == [MIGRATE]


def test_hold_may_wait_for_a_moment_and_the_wake_stands_before_a_pause() -> None:
    faults = engine(
        """
        [[fault]]
        match = { message = "SPICE_MSG_MIGRATE" }
        do = { hold = { until = { moment = "phase", phase = "over" } } }
        [[fault]]
        match = { moment = "link-reply" }
        do = { delay = 1 }
        [[fault]]
        match = { message = "MIGRATE_CANCEL" }
        do = { hold = { until = { moment = "link-reply" } } }
        """
    )
    *_, first = migrate(faults)
    *_, second = faults.message(on(), unwire(S, wire(102)))
    assert isinstance(first, Wait)
    assert first.delay_ns is None
    assert faults.moment(on(), Moment.CLOSED) == []  # of c1: nothing of it waits any more
    *_, first = migrate(faults)
    *_, second = faults.message(on(), unwire(S, wire(102)))
    from spiceproxy.protocol.migration.model import Phase

    assert isinstance(first, Wait)
    assert faults.moment(on(phase=Phase.OVER), Moment.PHASE) == [Wake(first.token)]
    reply = build_link_error(1)
    effects = faults.moment(on(), Moment.LINK_REPLY, reply, S)
    assert isinstance(second, Wait)
    assert effects[-2] == Wake(second.token)
    assert isinstance(effects[-1], Wait)
    assert effects[-1].blocks is S


def test_reorder_lets_the_next_messages_pass_first() -> None:
    faults = does("{ reorder = 2 }")
    *_, wait = migrate(faults)
    assert isinstance(wait, Wait)
    assert (wait.delay_ns, wait.blocks) == (5 * SECOND, None)
    ping = wire(4, bytes(12))
    assert sent(faults.message(on(INPUTS), unwire(S, ping, number=2))) == [ping]
    assert sent(faults.message(on(INPUTS), unwire(C, wire(2), number=1))) == [wire(2)]  # the other direction
    assert sent(faults.message(Context("s1", "c2", INPUTS, 1), unwire(S, ping))) == [
        ping
    ]  # another connection
    assert sent(faults.message(on(INPUTS), unwire(S, ping, number=3))) == [ping, MIGRATE]
    assert faults.resume(on(INPUTS), wait.token) == []


def test_a_reordered_message_goes_out_in_the_end_though_nothing_follows() -> None:
    faults = does('"reorder"')
    *_, wait = migrate(faults)
    assert isinstance(wait, Wait)
    assert sent(faults.resume(on(INPUTS), wait.token)) == [MIGRATE]
    assert sent(faults.message(on(INPUTS), unwire(S, wire(102), number=2))) == [wire(102)]


def test_what_was_overtaken_waits_where_what_overtakes_it_is_held() -> None:
    faults = engine(
        """
        [[fault]]
        match = { message = "SPICE_MSG_MIGRATE" }
        do = "reorder"
        [[fault]]
        match = { message = "NOTIFY" }
        do = { delay = 1 }
        """
    )
    migrate(faults)
    notify = wire(7, bytes(24))
    *_, wait = faults.message(on(INPUTS), unwire(S, notify, number=2))
    assert isinstance(wait, Wait)
    assert sent(faults.resume(on(INPUTS), wait.token)) == [notify, MIGRATE]


def test_swap_exchanges_the_bodies_of_two_messages() -> None:
    faults = does('"swap"', 'message = "SPICE_MSGC_MIGRATE_DATA"')
    one, other = Context("s1", "c1", INPUTS, 0, 1), Context("s1", "c2", DISPLAY, 0, 1)
    *_, wait = faults.message(one, unwire(C, wire(5, b"ICMD")))
    assert isinstance(wait, Wait)
    assert (wait.delay_ns, wait.blocks) == (5 * SECOND, C)
    effects = faults.message(other, unwire(C, wire(5, b"DCMD...")))
    assert sent(effects) == [wire(5, b"ICMD")]
    assert effects[-1] == Wake(wait.token)
    assert sent(faults.resume(one, wait.token)) == [wire(5, b"DCMD...")]
    *_, wait = faults.message(one, unwire(C, wire(5, b"third")))  # and begins anew
    assert isinstance(wait, Wait)


def test_a_message_that_found_no_partner_in_time_goes_out_as_it_is() -> None:
    faults = does("{ swap = 1 }", 'message = "SPICE_MSGC_MIGRATE_DATA"')
    *_, wait = faults.message(on(INPUTS), unwire(C, wire(5, b"ICMD")))
    assert isinstance(wait, Wait)
    assert sent(faults.resume(on(INPUTS), wait.token)) == [wire(5, b"ICMD")]
    *_, wait = faults.message(on(DISPLAY), unwire(C, wire(5, b"DCMD")))
    assert isinstance(wait, Wait)
    assert sent(faults.resume(on(DISPLAY), wait.token)) == [wire(5, b"DCMD")]
