"""Every route over real sockets, and the description of them."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Msg
from spiceproxy.control.routes import MAX_OPEN
from tests.control.controlled import Controlled, Reply, controlled, reply_on
from tests.injection.faulty import expect
from tests.raw_peers import message

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")
DROP = {"fault": [{"match": {"message": "PING"}, "do": "drop"}]}
DROP_TOML = b'[[fault]]\nname = "away"\nmatch = { message = "PING" }\ndo = "drop"\n'

# What to send so that a route answers as asked; each route of the description has to be here.
GOOD: dict[tuple[str, str], tuple[str, Any]] = {
    ("get", "/healthz"): ("/healthz", None),
    ("get", "/v1/openapi.json"): ("/v1/openapi.json", None),
    ("get", "/v1/proxy"): ("/v1/proxy", None),
    ("get", "/v1/faults"): ("/v1/faults", None),
    ("post", "/v1/faults"): ("/v1/faults", DROP),
    ("post", "/v1/faults/reset"): ("/v1/faults/reset", None),
    ("post", "/v1/faults/{name}/reset"): ("/v1/faults/fault%201/reset", None),
    ("delete", "/v1/faults/{name}"): ("/v1/faults/fault%201", None),
    ("delete", "/v1/faults"): ("/v1/faults", None),
    ("get", "/v1/sessions"): ("/v1/sessions", None),
    ("get", "/v1/sessions/{id}"): ("/v1/sessions/s1", None),
    ("get", "/v1/connections"): ("/v1/connections", None),
    ("get", "/v1/migrations"): ("/v1/migrations", None),
    ("get", "/v1/recording"): ("/v1/recording", None),
    ("get", "/v1/events"): ("/v1/events?follow=false&since=0", None),
    ("post", "/v1/wait"): (
        "/v1/wait",
        {"condition": 'event == "channel_linked"', "since": -100, "timeout_s": 5},
    ),
}


async def description(it: Controlled) -> dict[str, Any]:
    document: dict[str, Any] = (await it.ask("GET", "/v1/openapi.json", token=None)).json
    return document


async def test_the_description_is_valid_openapi_3_1(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        document = await description(it)
    assert document["openapi"].startswith("3.1")
    validate(document, cls=OpenAPIV31SpecValidator)


async def test_every_route_is_described_and_answers_by_its_schema(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        await it.raw.linked()
        document = await description(it)
        described = {(method, path) for path, methods in document["paths"].items() for method in methods}
        assert described == set(GOOD)
        for (method, path), (target, body) in GOOD.items():
            operation = document["paths"][path][method]
            reply = await it.ask(method.upper(), target, body)
            good = min(operation["responses"])
            assert (str(reply.status), path) == (good, path)
            ((kind, content),) = operation["responses"][good]["content"].items()
            assert reply.headers["content-type"] == kind
            for each in reply.lines if "ndjson" in kind else [reply.json]:
                jsonschema.validate(each, {**content["schema"], "components": document["components"]})
            assert reply.body


async def test_what_is_not_as_it_should_be_is_answered_by_the_schema_of_problems(tmp_path: Path) -> None:
    wrong: list[tuple[str, str, Any, int]] = [
        ("GET", "/v1/nothing", None, 404),
        ("GET", "/", None, 404),
        ("GET", "/v1/sessions/s9", None, 404),
        ("PUT", "/v1/faults", None, 405),
        ("HEAD", "/v1/faults", None, 405),
        ("DELETE", "/v1/faults/none", None, 404),
        ("POST", "/v1/faults/none/reset", None, 404),
        ("POST", "/v1/faults", {"fault": [{"match": {"message": "PINK"}, "do": "drop"}]}, 400),
        ("POST", "/v1/faults", {"fault": []}, 400),
        ("POST", "/v1/faults", {"faults": []}, 400),
        ("POST", "/v1/faults", {"scenario": "none-such"}, 400),
        ("POST", "/v1/faults", b"[" * 100_000, 400),
        ("POST", "/v1/faults", b"\xff", 400),
        ("POST", "/v1/wait", {"condition": "name ="}, 400),
        ("POST", "/v1/wait", {"condition": "nam == 3"}, 400),
        ("POST", "/v1/wait", {"condition": "(" * 4000}, 400),
        ("POST", "/v1/wait", {"condition": "id == 1", "timeout_s": -1}, 400),
        ("POST", "/v1/wait", {"condition": "id == 1", "timeout_s": 1e300}, 400),
        ("POST", "/v1/wait", {"condition": "id == 1", "since": 1e300}, 400),
        ("GET", "/v1/events?filter=id+%3D", None, 400),
        ("GET", "/v1/events?since=nan", None, 400),
        ("GET", "/v1/events?since=x", None, 400),
        ("GET", "/v1/events?follow=perhaps", None, 400),
        ("GET", "/v1/events?" + "a=1&" * 50, None, 400),
    ]
    async with controlled(tmp_path) as it:
        for method, target, body, status in wrong:
            stream = await it.stream()
            await stream.send_all(it.request(method, target, body))
            reply = await reply_on(stream, method=method)
            assert (reply.status, target) == (status, target)
            if method != "HEAD":
                assert list(reply.json) == ["error"]
                assert "\n" not in reply.json["error"] or "filter" in reply.json["error"]
        assert (await it.ask("PUT", "/v1/faults")).headers["allow"] == "DELETE, GET, POST"
        assert not it.raw.events.named("control_failed")


async def test_faults_that_are_added_meet_the_next_message_of_open_connections(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)
        assert (await it.ask("POST", "/v1/faults", DROP)).json == {"faults": ["fault 1"]}
        await server.send_all(PING + MARK)
        await expect(client, MARK)
        (fault,) = (await it.ask("GET", "/v1/faults")).json["faults"]
        assert (fault["name"], fault["fired"], fault["actions"]) == ("fault 1", 1, "drop")
        assert (await it.ask("POST", "/v1/faults/reset")).json == {"faults": ["fault 1"]}
        assert (await it.ask("GET", "/v1/faults")).json["faults"][0]["fired"] == 0
        assert (await it.ask("DELETE", "/v1/faults/fault%201")).json == {"faults": ["fault 1"]}
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)
        told = [(event["event"], event["fault"]) for event in it.raw.events if "fault" in event]
        assert told == [("fault_added", "fault 1"), ("fault_fired", "fault 1"), ("fault_removed", "fault 1")]


async def test_faults_come_as_toml_as_json_and_by_the_name_of_a_scenario_all_or_none(tmp_path: Path) -> None:
    async def add(body: Any, content_type: str = "application/json") -> Reply:
        return await it.ask("POST", "/v1/faults", body, content_type=content_type)

    async with controlled(tmp_path) as it:
        assert (await add(DROP_TOML, "application/toml; charset=utf-8")).json == {"faults": ["away"]}
        inline = b'{ match = { message = "PONG" }, do = "drop" }'
        assert (await add(inline, "application/toml")).json == {"faults": ["fault 1"]}
        assert (await add({"scenario": "nack-synth"})).json == {"faults": ["nack-synth"]}
        assert (await add({**DROP, "variables": {"other_port": 7}})).json == {"faults": ["fault 2"]}
        before = (await it.ask("GET", "/v1/faults")).body
        assert (await add(DROP_TOML, "text/plain")).status == 415
        assert (await add(b"\xff", "application/toml")).json == {"error": "not UTF-8"}
        two = DROP_TOML.replace(b"away", b"new") + DROP_TOML
        assert (await add(two, "application/toml")).status == 409
        assert (
            (await add(b"[[fault]]\nmatch = 3", "application/toml"))
            .json["error"]
            .startswith("faults, line 2")
        )
        assert (await add({"fault": [{"do": "drop"}] * 1001})).status in {400, 409}
        assert (await it.ask("GET", "/v1/faults")).body == before


async def test_a_fault_that_was_there_from_the_start_can_be_removed(tmp_path: Path) -> None:
    from spiceproxy.faults import parse
    from spiceproxy.injection import Faults

    async with controlled(tmp_path, faults=Faults(parse(DROP_TOML.decode()).rules, seed=7)) as it:
        client, server = await it.raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, MARK)
        listed = (await it.ask("GET", "/v1/faults")).json
        assert (listed["seed"], listed["faults"][0]["fired"]) == (7, 1)
        assert (await it.ask("DELETE", "/v1/faults")).json == {"faults": ["away"]}
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)


async def test_sessions_and_connections_are_told_as_they_are(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        client, server = await it.raw.linked(ChannelType.MAIN, connection_id=5)
        await server.send_all(PING)
        await expect(client, PING)
        (session,) = (await it.ask("GET", "/v1/sessions")).json["sessions"]
        (connection,) = (await it.ask("GET", "/v1/connections")).json["connections"]
        assert session["connections"] == [connection]
        assert connection["channel"] == "main:0"
        assert connection["messages"] == {"client": 0, "server": 1}
        assert (connection["state"], connection["hop"], session["ended"]) == ("open", 0, False)
        assert connection["server"] == str(it.raw.proxy.config.server)
        await client.aclose()
        await server.aclose()
        await it.raw.events.wait_for("session_ended")
        assert (await it.ask("GET", "/v1/sessions/s1")).json["ended"] is True
        assert (await it.ask("GET", "/v1/proxy")).json["connections"] == 1


async def test_the_recording_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with controlled(tmp_path, record=path) as it:
        told = (await it.ask("GET", "/v1/recording")).json
        assert told == {"recording": True, "file": str(path), "error": None, "lost_bytes": 0}
    async with controlled(tmp_path) as it:
        assert (await it.ask("GET", "/v1/recording")).json["recording"] is False


async def test_events_are_kept_filtered_and_followed_until_the_client_goes(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        await it.raw.linked()
        kept = (await it.ask("GET", "/v1/events?follow=false&since=0")).lines
        assert [event["event"] for event in kept][:2] == ["proxy_started", "control_started"]
        assert (await it.ask("GET", "/v1/events?follow=false")).lines == []
        stream = await it.stream()
        target = "/v1/events?since=-60&filter=event+%3D%3D+%22channel_linked%22"
        await stream.send_all(it.request("GET", target))
        seen = b""
        while seen.count(b"channel_linked") < 1:
            seen += await stream.receive_some()
        await it.raw.linked(connection_id=8)
        while seen.count(b"channel_linked") < 2:
            seen += await stream.receive_some()
        assert b"session_started" not in seen
        await stream.aclose()
        for _ in range(2 * MAX_OPEN):  # none of those that have gone is in the way
            gone = await it.stream()
            await gone.send_all(it.request("GET", "/v1/events"))
            await gone.receive_some()
            await gone.aclose()
        assert (await it.ask("GET", "/v1/events?follow=false&since=0")).status == 200


@pytest.mark.parametrize("target", ["/healthz", "/v1/openapi.json"])
async def test_nothing_else_can_be_asked_without_the_token(target: str, tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        assert (await it.ask("GET", target, token=None)).status == 200
        for method, path in GOOD:
            secret = path not in {"/healthz", "/v1/openapi.json"}
            for token in (None, "wrong", it.token[:-1], it.token + "x"):
                reply = await it.ask(
                    method.upper(), GOOD[method, path][0], GOOD[method, path][1], token=token
                )
                assert (reply.status == 401) is secret
                assert it.token not in reply.body.decode()
        reply = await it.ask("GET", "/v1/faults", token=None, authorization=f"Basic {it.token}")
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert not any(it.token in str(event) for event in it.raw.events)
