"""The API: what can be asked of a running proxy."""

import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
import trio

from spiceproxy.control import faulting, shapes
from spiceproxy.control.http import Answer, HttpError, Lines, Request, Send, answer_of
from spiceproxy.control.routing import LINES, TOML, Parameter, Route, description
from spiceproxy.control.waiting import Following, History, Wait
from spiceproxy.eventlog import EVENT_NAMES, EventLog, render_json
from spiceproxy.filter import FilterError, compile_filter
from spiceproxy.injection import Injector
from spiceproxy.proxy import Proxy, SessionView
from spiceproxy.relay.connection import ConnectionView
from spiceproxy.report.jsonform import report_object

MAX_TIMEOUT_S: Final = 86400.0
MAX_OPEN: Final = 32
"""So many wait for conditions or follow events at once."""


class Routes:
    """Handlers of one proxy's API, and the table of them.

    Args:
        proxy: That is controlled.
        history: Of its events.
        server: The API's URL; None on a unix socket.

    Attributes:
        table: All routes. Whoever has something to add, as `/metrics`, appends a row.
    """

    def __init__(self, proxy: Proxy, history: History, server: str | None) -> None:
        assert proxy.injector is not None  # noqa: S101  a proxy that can be controlled has one
        self._proxy, self._history, self._server = proxy, history, server
        self._injector: Injector = proxy.injector
        self._log: EventLog = proxy.config.events
        self._open = 0
        events = (
            Parameter("filter", str, "Only the events that fit (docs/filter.md)"),
            Parameter(
                "since",
                float,
                "Those that are kept from then on first: seconds since 1970, or ago if negative",
            ),
            Parameter("follow", bool, "Whether to go on; else what is kept is all. True unless said"),
        )
        self.table: list[Route] = [
            Route("GET", "/healthz", self._health, "Whether the proxy runs", (shapes.Health,), secured=False),
            Route("GET", "/v1/openapi.json", self._openapi, "This description", (dict,), secured=False),
            Route("GET", "/v1/proxy", self._about, "What this proxy is", (shapes.Proxy,)),
            Route("GET", "/v1/faults", self._faults, "The rules, and how often each has fired", (shapes.Faults,)),
            Route(
                "POST", "/v1/faults", self._add, "Add rules, all or none", (shapes.Names,),
                status=201, takes=shapes.NewFaults, toml=True, errors=(409,),
            ),
            Route("DELETE", "/v1/faults", self._remove, "Remove all rules", (shapes.Names,)),
            Route("DELETE", "/v1/faults/{name}", self._remove, "Remove a rule", (shapes.Names,), errors=(404,)),
            Route("POST", "/v1/faults/reset", self._reset, "Let all rules count anew", (shapes.Names,)),
            Route("POST", "/v1/faults/{name}/reset", self._reset, "Let a rule count anew", (shapes.Names,), errors=(404,)),
            Route("GET", "/v1/sessions", self._sessions, "Sessions", (shapes.Sessions,)),
            Route("GET", "/v1/sessions/{id}", self._session, "A session", (shapes.Session,), errors=(404,)),
            Route("GET", "/v1/connections", self._connections, "Connections", (shapes.Connections,)),
            Route("GET", "/v1/migrations", self._migrations, "Migrations, as in reports", (shapes.Migrations,)),
            Route("GET", "/v1/recording", self._recording, "The recording", (shapes.Recording,)),
            Route(
                "GET", "/v1/events", self._events, "Events as they happen", (shapes.Event,),
                parameters=events, content_type=LINES,
            ),
            Route(
                "POST", "/v1/wait", self._wait, "Wait for a message or an event", (shapes.Waiting, shapes.Happened),
                takes=shapes.Condition, content_type=LINES,
            ),
        ]  # fmt: skip

    # What there is --------------------------------------------------------------------------------

    async def _health(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        return answer_of(shapes.Health())

    async def _openapi(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        made = description(
            self.table, version=version("spiceproxy"), server=self._server, problem=shapes.Problem
        )
        return answer_of(made)

    async def _about(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        proxy = self._proxy
        about = shapes.Proxy(
            version("spiceproxy"),
            os.getpid(),
            str(proxy.address),
            str(proxy.config.first_server),
            migrations=len(proxy.migrations) + proxy.migrations_forgotten,
            **proxy.totals,
        )
        return answer_of(about)

    async def _sessions(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        return answer_of(shapes.Sessions([_session(each) for each in self._proxy.sessions]))

    async def _session(self, _request: Request, places: Mapping[str, str]) -> Answer:
        for each in self._proxy.sessions:
            if each.id == places["id"]:
                return answer_of(_session(each))
        raise HttpError(404, f"there is no session {places['id'][:40]!r}")

    async def _connections(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        found = [_connection(each, view) for view in self._proxy.sessions for each in view.connections]
        return answer_of(shapes.Connections(found))

    async def _migrations(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        proxy = self._proxy
        migrations = report_object(proxy.report())["migrations"]
        return answer_of(shapes.Migrations(migrations, proxy.migrations_forgotten))

    async def _recording(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        recorder, path = self._proxy.recorder, self._proxy.config.record
        if recorder is None:
            return answer_of(shapes.Recording(False, None, None, 0))
        error = recorder.error
        told = None if error is None else error.strerror or str(error)
        return answer_of(shapes.Recording(not recorder.ended, str(path), told, recorder.lost_bytes))

    # Faults ---------------------------------------------------------------------------------------

    async def _faults(self, _request: Request, _places: Mapping[str, str]) -> Answer:
        return answer_of(faulting.listed(self._injector))

    async def _add(self, request: Request, _places: Mapping[str, str]) -> Answer:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == TOML:
            rules = faulting.from_toml(await request.body())
        elif kind == "application/json":
            rules = faulting.from_json(self._injector, await request.body())
        else:
            raise HttpError(415, f"faults come as {TOML} or application/json")
        names = faulting.add(self._injector, rules)
        for rule in self._injector.engine.rules[-len(names) :]:
            self._log.info("fault_added", fault=rule.name, actions=rule.text)
        return answer_of(shapes.Names(names), 201)

    async def _remove(self, _request: Request, places: Mapping[str, str]) -> Answer:
        names = faulting.remove(self._injector, places.get("name"))
        for name in names:
            self._log.info("fault_removed", fault=name)
        return answer_of(shapes.Names(names))

    async def _reset(self, _request: Request, places: Mapping[str, str]) -> Answer:
        return answer_of(shapes.Names(faulting.reset(self._injector, places.get("name"))))

    # What happens ---------------------------------------------------------------------------------

    async def _events(self, request: Request, _places: Mapping[str, str]) -> Lines:
        text = request.query.get("filter")
        try:
            matches = compile_filter(text, names=EVENT_NAMES).matches if text else lambda _event: True
        except FilterError as error:
            raise HttpError(400, str(error)) from None
        follow = request.query.get("follow", "true").lower()
        if follow not in {"true", "false"}:
            raise HttpError(400, "`follow` is true or false")
        since = _since_ns(_number(request.query.get("since")))
        self._check_room()

        async def run(send: Send) -> None:
            following = Following(matches)
            self._open += 1
            self._history.follow(following.event)
            try:
                for event in self._history.since(since):
                    if matches(event):
                        await send(render_json(event).encode(errors="backslashreplace"))
                while follow == "true":
                    await send(await following.next_line())
            finally:
                self._open -= 1
                self._history.leave(following.event)

        return Lines(run)

    async def _wait(self, request: Request, _places: Mapping[str, str]) -> Lines:
        try:
            asked = msgspec.json.decode(await request.body(), type=shapes.Condition)
            wait = Wait(asked.condition)
        except (msgspec.MsgspecError, FilterError, RecursionError) as error:
            raise HttpError(400, str(error) or type(error).__name__) from None
        if not 0 <= asked.timeout_s <= MAX_TIMEOUT_S:
            raise HttpError(400, f"`timeout_s` is from 0 to {MAX_TIMEOUT_S:g}")
        since = _since_ns(asked.since)
        self._check_room()

        async def run(send: Send) -> None:
            self._open += 1
            now = time.time()
            self._history.follow(wait.event)
            self._proxy.watching.add(wait)
            try:
                for event in self._history.since(since):
                    wait.event(event)
                complete = since >= self._history.kept_from_ns
                await send(msgspec.json.encode(shapes.Waiting(now, since / 1e9, complete)))
                what: dict[str, Any] | None = None
                with trio.move_on_after(asked.timeout_s):
                    what = await wait.happened()
                await send(msgspec.json.encode(shapes.Happened(what is not None, what)))
            finally:
                self._open -= 1
                self._proxy.watching.remove(wait)
                self._history.leave(wait.event)

        return Lines(run)

    def _check_room(self) -> None:
        if self._open >= MAX_OPEN:
            raise HttpError(503, f"{MAX_OPEN} are waiting or following already")


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise HttpError(400, "`since` is a number of seconds") from None


def _since_ns(since: float | None) -> int:
    """From when on things count. Without a word, from now on; a number below 0 is so many seconds ago."""
    now = time.time_ns()
    if since is None:
        return now
    if not -1e12 < since < 1e12:  # no infinity, and not what is no number
        raise HttpError(400, "`since` is seconds since 1970, or seconds ago if negative")
    return round(since * 1e9) + (now if since < 0 else 0)


def _session(view: SessionView) -> shapes.Session:
    connections = [_connection(each, view) for each in view.connections]
    return shapes.Session(view.id, view.client_host, view.ended, connections)


def _connection(view: ConnectionView, session: SessionView) -> shapes.Connection:
    return shapes.Connection(
        view.id,
        session.id,
        view.channel,
        view.hop,
        view.state,
        str(view.client),
        str(view.server),
        None if view.upstream is None else str(view.upstream),
        dict(view.messages),
    )
