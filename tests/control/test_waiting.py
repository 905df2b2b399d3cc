"""Waiting for messages that pass unread otherwise, and for events, over real sockets."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, InputsC, Main, Msg, MsgC
from dissectors.side import Side
from spiceproxy import clock
from spiceproxy.control.routes import MAX_OPEN
from spiceproxy.control.waiting import MAX_HISTORY, History, Wait
from spiceproxy.eventlog import EventLog
from spiceproxy.filter import FilterError
from spiceproxy.following.watching import Passing, Place, Watching
from spiceproxy.protocol.items import Want
from tests.control.controlled import Controlled, controlled
from tests.injection.faulty import expect, one
from tests.raw_peers import RawProxy, message

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")
PONG = message(MsgC.PONG, bytes(12))


class Waiter:
    """A wait whose answer is read line by line."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream, self._seen = stream, b""

    @classmethod
    async def asking(cls, it: Controlled, condition: str, **more: Any) -> "Waiter":
        """One that is registered."""
        stream = await it.stream()
        await stream.send_all(
            it.request("POST", "/v1/wait", {"condition": condition, "timeout_s": 10, **more})
        )
        waiter = cls(stream)
        await waiter.line()
        return waiter

    async def line(self) -> dict[str, Any]:
        """The next object. Chunks of the answer are objects."""
        with trio.fail_after(15):
            while True:
                start = self._seen.find(b"{")
                end = self._seen.find(b"\n", start)
                if start >= 0 and end >= 0:
                    line, self._seen = self._seen[start:end], self._seen[end + 1 :]
                    found: dict[str, Any] = json.loads(line)
                    return found
                data = await self._stream.receive_some()
                if not data:
                    raise EOFError
                self._seen += data

    async def close(self) -> None:
        await self._stream.aclose()


def wanted(raw: RawProxy) -> list[Any]:
    """What the framers of all connections are asked for because of waits."""
    return [
        table
        for connection in raw.proxy.watching.connections
        for table in connection._interest._watched.values()
        if table != ({}, None)
    ]


async def nothing_wanted(raw: RawProxy) -> None:
    with trio.fail_after(5):
        while wanted(raw) or raw.proxy.watching.watchers:  # noqa: ASYNC110  nobody tells
            await trio.sleep(0.01)


async def test_a_message_that_passes_unread_is_seen_while_somebody_waits_for_it(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked()
        waiter = await Waiter.asking(it, 'name == "SPICE_MSGC_PONG" and channel == "display"')
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)
        await client.send_all(PONG)
        await expect(server, PONG)
        result = await waiter.line()
        assert result["happened"] is True
        what = result["what"]
        assert (what["name"], what["from"], what["size"]) == ("SPICE_MSGC_PONG", "client", 12)
        assert (what["session"], what["connection"], what["channel"]) == ("s1", "c1", "display:0")
        assert "fields" not in what
        await nothing_wanted(it.raw)


async def test_a_wait_looks_only_at_messages_that_it_may_be_about_and_stops_when_it_is_over(
    tmp_path: Path,
) -> None:
    async with controlled(tmp_path) as it:
        await it.raw.linked(ChannelType.DISPLAY)
        await it.raw.linked(ChannelType.MAIN)
        assert wanted(it.raw) == []
        waiter = await Waiter.asking(it, 'channel == "main" and name == "MIGRATE_END" and from == "server"')
        assert wanted(it.raw) == [({Main.MIGRATE_END: Want.NOTE}, None)]
        await it.raw.linked(ChannelType.MAIN, connection_id=9)  # a connection that comes meanwhile
        await it.raw.events.wait_for("channel_linked", count=3)
        assert len(wanted(it.raw)) == 2
        await waiter.close()
        await nothing_wanted(it.raw)


async def test_what_is_in_a_message_can_be_waited_for_and_is_not_told(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked(ChannelType.INPUTS)
        waiter = await Waiter.asking(it, 'name == "INPUTS_KEY_DOWN" and fields.code == 30')
        for code in (31, 30):
            pressed = message(InputsC.KEY_DOWN, code.to_bytes(4, "little"))
            await client.send_all(pressed)
            await expect(server, pressed)
        result = await waiter.line()
        assert result["what"]["name"] == "SPICE_MSGC_INPUTS_KEY_DOWN"
        assert not {"fields", "code"} & result["what"].keys()


async def test_a_message_without_a_name_can_be_waited_for_by_its_number(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked()
        waiter = await Waiter.asking(it, "id == 999")
        await server.send_all(message(999, b"abc") + MARK)
        await expect(client, message(999, b"abc") + MARK)
        assert (await waiter.line())["what"]["name"] == "unknown_999"


async def test_a_message_of_which_a_part_has_passed_counts_when_it_is_the_next_one(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked()
        await server.send_all(PING[:9])
        await expect(client, PING[:9])
        waiter = await Waiter.asking(it, 'name == "PING"')
        await server.send_all(PING[9:] + MARK + message(Msg.PING, bytes(16)))
        await expect(client, PING[9:] + MARK + message(Msg.PING, bytes(16)))
        assert (await waiter.line())["what"]["size"] == 16


async def test_messages_that_faults_hold_are_seen_too(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked()
        drop = one('"drop"').encode()
        assert (await it.ask("POST", "/v1/faults", drop, content_type="application/toml")).status == 201
        waiter = await Waiter.asking(it, 'name == "PING" and size == 12')
        await server.send_all(PING + MARK)
        await expect(client, MARK)
        assert (await waiter.line())["happened"] is True


async def test_a_destination_that_is_announced_is_seen_though_it_is_held(tmp_path: Path) -> None:
    from dissectors.registry import build
    from tests.injection.test_rules_at_run_time import destination

    async with controlled(tmp_path) as it:
        _, server = await it.raw.linked(ChannelType.MAIN)
        condition = 'name == "MIGRATE_BEGIN" and fields.dst_info.port == 4 and event == null'
        waiter = await Waiter.asking(it, condition)
        body = build(ChannelType.MAIN, Side.SERVER, Main.MIGRATE_BEGIN, {"dst_info": destination(4)})
        await server.send_all(message(Main.MIGRATE_BEGIN, body))
        assert (await waiter.line())["what"]["name"] == "SPICE_MSG_MAIN_MIGRATE_BEGIN"


async def test_a_wait_in_vain_ends_after_its_time_and_says_so(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        waiter = await Waiter.asking(it, 'name == "PING"', timeout_s=0.05)
        assert await waiter.line() == {"happened": False, "what": None}
        await nothing_wanted(it.raw)


async def test_events_count_from_the_time_that_was_asked_for(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        await it.raw.linked()
        linked = await it.raw.events.wait_for("channel_linked")
        condition = 'event == "channel_linked"'
        waiter = await Waiter.asking(it, condition, since=linked["time"] - 0.001)
        assert (await waiter.line())["what"]["connection"] == "c1"
        assert (await (await Waiter.asking(it, condition, since=-3600)).line())["happened"] is True
        later = await Waiter.asking(it, condition, timeout_s=0.05)
        assert (await later.line())["happened"] is False


async def test_so_many_may_wait_at_once_and_those_who_have_gone_are_not_among_them(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        waiters = [await Waiter.asking(it, "id == 999") for _ in range(MAX_OPEN)]
        assert (await it.ask("POST", "/v1/wait", {"condition": "id == 1"})).status == 503
        assert (await it.ask("GET", "/v1/events")).status == 503
        for waiter in waiters:
            await waiter.close()
        await nothing_wanted(it.raw)
        assert (await it.ask("POST", "/v1/wait", {"condition": "id == 1", "timeout_s": 0})).status == 200


async def test_an_error_in_a_wait_ends_the_wait_and_not_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked()
        waiter = await Waiter.asking(it, 'name == "PING"')

        def broken(self: Wait, seen: Passing) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(Wait, "message", broken)
        await server.send_all(PING)
        await expect(client, PING)
        assert (await waiter.line())["what"]["event"] == "control_failed"
        await server.send_all(MARK)
        await expect(client, MARK)


def test_the_history_is_bounded_and_knows_from_when_on_it_is_complete() -> None:
    now, history = 0, History()
    log = EventLog([history], clock_ns=lambda: now)
    for _ in range(MAX_HISTORY):
        now += 1
        log.info("signal_received", signal="x")
    assert history.kept_from_ns == 0
    now += 1
    log.info("signal_received", signal="x")
    assert history.kept_from_ns == 2
    assert len(list(history.since(0))) == MAX_HISTORY
    assert [event["time_ns"] for event in history.since(now)] == [now]


@pytest.mark.parametrize("set_by_s", [3600, -3600])
def test_who_asks_for_what_comes_from_now_on_is_told_nothing_old_when_the_clock_has_been_set(
    set_by_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, history = 10**12, History()
    log = EventLog([history], clock_ns=lambda: now)
    log.info("signal_received", signal="old")
    monkeypatch.setattr(clock, "wall_ahead_ns", lambda: set_by_s * 10**9)
    now += set_by_s * 10**9 + 1
    asked = now
    log.info("signal_received", signal="new")
    assert [event["signal"] for event in history.since(asked)] == ["new"]
    assert [event["signal"] for event in history.since(asked - 10**9)] == ["old", "new"]


def test_a_message_that_is_not_kept_whole_says_why_it_has_no_fields() -> None:
    place = Place("s1", "c1", ChannelType.DISPLAY, 0, 1)
    assert Passing(place, Side.SERVER, Msg.PING, 12).get("error") is None
    assert "too many" in Passing(place, Side.SERVER, Msg.PING, 12, b"short").get("error")
    assert Passing(place, Side.SERVER, Msg.PING, 1, b"s").get("error")
    assert Passing(place, Side.SERVER, Msg.PING, 12, bytes(12)).get("fields")["id"] == 0
    assert Passing(place, Side.SERVER, Msg.PING, 12).get("leg") == "destination"
    assert Passing(place, Side.SERVER, Msg.PING, 12).get("event") is None


def test_a_watcher_may_be_removed_twice() -> None:
    watching, wait = Watching(), Wait("id == 3")
    watching.add(wait)
    watching.remove(wait)
    watching.remove(wait)
    assert watching.watchers == []


def test_the_conditions_that_are_documented_are_filters() -> None:
    text = (Path(__file__).parents[2] / "docs/control.md").read_text()
    conditions = re.findall(r"ctl wait '([^']*)'", text)
    assert len(conditions) >= 5
    for condition in conditions:
        Wait(condition)


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ('name == "SPICE_MSG_MAIN_MIGRATE_ENT"', "message `SPICE_MSG_MAIN_MIGRATE_ENT`; did you mean `SPICE_MSG_MAIN_MIGRATE_END`?"),
        ('size > 3 and not name != "MIGRATE_EN"', "message `MIGRATE_EN`; did you mean `MIGRATE_END`?"),
        ('name in ["PING", "PNOG"]', "message `PNOG`; did you mean `PONG`?"),
        ('"PNOG" == name', "message `PNOG`; did you mean `PONG`?"),
        ('event == "migration_end"', "event `migration_end`; did you mean `migration_ended`?"),
        ('channel == "dispaly"', "channel `dispaly`; did you mean `display`?"),
        ('from == "sever"', "side `sever`; did you mean `server`?"),
        ('leg == "sorce"', "leg `sorce`; did you mean `source`?"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_not_waited_for(condition: str, reason: str) -> None:
    with pytest.raises(FilterError) as caught:
        Wait(condition)
    assert caught.value.message == f"there is no {reason}"
    assert caught.value.text[caught.value.position :].startswith('"')


@pytest.mark.parametrize("condition", ['name =~ "MIGRAET*"', 'event !~ "migraton_*"'])
def test_a_pattern_that_nothing_fits_is_not_waited_for(condition: str) -> None:
    with pytest.raises(FilterError, match=r"no \w+ fits `migra"):
        Wait(condition.lower())


@pytest.mark.parametrize(
    "condition",
    [
        'name == "unknown_4711" or name =~ "unknown_*" or name =~ "*migrate*"',
        'name == "link-reply" and event == "fault_fired"',
        'channel == "channel_42:1" or channel in ["display", "main:0"]',
        'from == "client" and leg == "destination" and event =~ "migration_*"',
        'fields.name == "whatever" and reason == "anything" and session == "s1" and name == 7',
    ],
)
def test_what_may_come_can_be_waited_for(condition: str) -> None:
    Wait(condition)


async def test_a_condition_that_names_what_does_not_exist_is_refused_with_the_nearest_name(
    tmp_path: Path,
) -> None:
    async with controlled(tmp_path) as it:
        asked = {"condition": 'name == "SPICE_MSG_MAIN_NO_SUCH"', "timeout_s": 5}
        reply = await it.ask("POST", "/v1/wait", asked)
        assert reply.status == 400
        assert "there is no message `SPICE_MSG_MAIN_NO_SUCH`; did you mean" in reply.json["error"]
