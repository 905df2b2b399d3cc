"""What the proxy's events amount to."""

import pytest
import trio
from trio.testing import MockClock

from spiceproxy.eventlog import EventLog
from spiceproxy.lab.watch import EventWatch


def message(watch: EventWatch, who: str, name: str) -> None:
    EventLog([watch]).info("migration_message", channel="main:0", hop=0, name=name, **{"from": who})


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([], None),
        (["SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS"], None),
        (
            ["SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS", "SPICE_MSG_MIGRATE", "SPICE_MSG_MIGRATE_DATA"],
            "seamless",
        ),
        (["SPICE_MSG_MAIN_MIGRATE_BEGIN", "SPICE_MSG_MAIN_MIGRATE_END"], "semi-seamless"),
        (["SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS", "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST"], "switch-host"),
        (["SPICE_MSG_MAIN_MIGRATE_BEGIN", "SPICE_MSG_MAIN_MIGRATE_CANCEL"], "cancelled"),
    ],
)
def test_the_last_word_of_the_source_says_what_kind_it_was(names: list[str], kind: str | None) -> None:
    watch = EventWatch()
    for name in names:
        message(watch, "server", name)
    assert watch.kind(since=0) == kind


def test_the_clients_own_migrate_end_decides_nothing() -> None:
    watch = EventWatch()
    message(watch, "client", "SPICE_MSGC_MAIN_MIGRATE_END")
    assert watch.kind(since=0) is None


def test_an_earlier_migration_is_not_taken_for_this_one() -> None:
    watch = EventWatch()
    message(watch, "server", "SPICE_MSG_MAIN_MIGRATE_END")
    since = len(watch.events)
    assert watch.kind(since=since) is None
    message(watch, "server", "SPICE_MSG_MIGRATE")
    assert watch.kind(since=since) == "seamless"


@pytest.mark.parametrize("reply", ["CONNECTED", "CONNECTED_SEAMLESS", "CONNECT_ERROR"])
async def test_the_clients_reply_is_waited_for(autojump_clock: MockClock, reply: str) -> None:
    watch = EventWatch()
    message(watch, "client", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED")  # of the migration before

    async def later() -> None:
        await trio.sleep(2)
        message(watch, "server", "SPICE_MSG_MAIN_MIGRATE_BEGIN")
        await trio.sleep(2)
        message(watch, "client", f"SPICE_MSGC_MAIN_MIGRATE_{reply}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        assert await watch.client_reply(since=1, timeout_s=10) == reply
    assert trio.current_time() == 4


async def test_a_client_that_never_replies_costs_the_deadline(autojump_clock: MockClock) -> None:
    assert await EventWatch().client_reply(since=0, timeout_s=10) is None
    assert trio.current_time() == 10


def test_a_rewritten_message_shows_both_destinations() -> None:
    watch = EventWatch()
    EventLog([watch]).info(
        "message_rewritten",
        name="SPICE_MSG_MAIN_MIGRATE_BEGIN",
        before={"host": "10.0.0.2", "port": 5900, "sport": None},
        after={"host": "127.0.0.1", "port": 40000, "sport": None},
    )
    assert watch.rewritten(since=0) == [
        "SPICE_MSG_MAIN_MIGRATE_BEGIN: 10.0.0.2 port 5900 -> 127.0.0.1 port 40000"
    ]
