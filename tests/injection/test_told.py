"""Every fault that fires is an event, a comment in the recording, and a row in both reports."""

from pathlib import Path

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Msg
from spiceproxy.capture.reports import read_report
from spiceproxy.faults.actions import ACTIONS
from spiceproxy.reading.style import Look
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.page import render_html
from spiceproxy.report.text import report_lines
from spiceproxy.tickets import TicketKey
from tests.injection.faulty import faulty, one
from tests.raw_peers import AUTH_SPICE, TICKET, RawProxy, link_mess, link_reply, message, read_link_block

# Of a server; a ticket is written with it.
KEY = TicketKey()
PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")

# An action, and when, where it is not at a message.
DONE = {
    "drop": '"drop"',
    "delay": "{ delay = 0.01 }",
    "hold": "{ hold = 0.01 }",
    "reorder": '"reorder"',
    "duplicate": '"duplicate"',
    "set": "{ set = { id = 9 } }",
    "replace": '{ replace = "SPICE_MSG_DISPLAY_MARK" }',
    "inject": '{ inject = "SPICE_MSG_DISPLAY_MARK" }',
    "corrupt": "{ corrupt = 1 }",
    "truncate": "{ truncate = 4 }",
    "pad": "{ pad = 4 }",
    "header": "{ header = { id = 105 } }",
    "split": '"split"',
    "swap": "{ swap = 0.01 }",
    "copy": '"copy"',
    "capabilities": '{ capabilities = { clear = "MINI_HEADER" } }',
    "link": "{ link = { minor_version = 1 } }",
    "link_error": '{ link_error = "ERROR" }',
    "ticket": '{ ticket = "another" }',
    "auth_fail": '"auth_fail"',
    "refuse": '"refuse"',
    "reset": '"reset"',
    "close": '"close"',
    "stall": '"stall"',
    "throttle": "{ throttle = { rate = 1000 } }",
    "latency": "{ latency = 0.01 }",
    "blackhole": '"blackhole"',
    "log": '"log"',
    "abort_session": '"abort_session"',
    "second_client": "{ second_client = 0.01 }",
}
MOMENTS = {
    "capabilities": ["link-message", "link-reply"],
    "link": ["link-message"],
    "link_error": ["connect", "link-reply"],
    "ticket": ["ticket"],
    "auth_fail": ["auth"],
    "refuse": ["connect"],
    "log": ["session", "connect", "linked"],
    **{each: ["connect", "link-reply", "linked"] for each in ("close", "reset", "abort_session")},
    **{each: ["connect", "ticket", "linked"] for each in ("stall", "throttle", "latency")},
    "blackhole": ["ticket", "linked"],  # before that there is nothing of the connection to read
}
CASES = [(name, f'moment = "{moment}"') for name, moments in MOMENTS.items() for moment in moments]
CASES += [(name, 'message = "PING"') for name in DONE if name not in {"capabilities", "link", "link_error", "ticket", "auth_fail", "refuse"}]  # fmt: skip


def test_no_action_is_forgotten() -> None:
    assert DONE.keys() == ACTIONS.keys()


async def live_a_little(raw: RawProxy, kind: int) -> None:
    """A connection of a client and a server that go as far as the proxy lets them."""
    with trio.move_on_after(0.5):
        try:
            client = await raw.connect()
            await client.send_all(link_mess(kind, connection_id=5))
            server = await raw.accept()
            await read_link_block(server)
            await server.send_all(link_reply(pub_key=KEY.public_der))
            await read_link_block(client)
            await client.send_all(AUTH_SPICE + TICKET)
            await server.send_all(bytes(4) + PING + MARK + MARK)
            await client.receive_some()
        except (trio.BrokenResourceError, EOFError):
            pass


@pytest.mark.parametrize(("action", "when"), CASES)
async def test_what_fires_is_an_event_a_comment_and_a_row(action: str, when: str, tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    kind = ChannelType.MAIN if '"session"' in when else ChannelType.DISPLAY
    where = "main" if kind is ChannelType.MAIN else "display"
    rules = one(DONE[action], f'{when}, channel = "{where}"', name='"it"')
    async with faulty(rules, record=path) as raw:
        if kind is ChannelType.DISPLAY:
            await raw.linked(ChannelType.INPUTS, connection_id=5)  # the session has another connection
        await live_a_little(raw, kind)
        fired = await raw.events.wait_for("fault_fired")
        assert (fired["fault"], fired["channel"]) == ("it", f"{where}:0")
        assert not raw.events.named("fault_failed") or action == "second_client"
        assert raw.proxy.injector is not None
        firings = raw.proxy.injector.engine.fired("it")
        live = [(each.fault, each.actions, each.channel, each.firing) for each in raw.proxy.report().faults]
    read = [(each.fault, each.actions, each.channel, each.firing) for each in read_report(str(path)).faults]
    assert len(live) == firings
    assert sorted(read) == sorted(live)


async def test_a_rule_that_never_fired_is_said_in_every_form_of_the_report() -> None:
    async with faulty(one('"drop"', name='"idle <one>"')) as raw:
        await raw.linked()
        report = raw.proxy.report()
    assert report_object(report)["faults_never_fired"] == ["idle <one>"]
    assert "Faults that never fired: idle <one>" in list(report_lines(report, Look(False, 100)))
    assert "idle &lt;one&gt; never fired" in render_html(report.migrations, report=report)
    assert [event["fault"] for event in raw.events.named("fault_never_fired")] == ["idle <one>"]
