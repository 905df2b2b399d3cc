"""What a route is: one row of the table that requests are found in and that the description is written from."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from spiceproxy.control.http import Answer, HttpError, Lines, Request

JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
TOML: Final = "application/toml"

Handler = Callable[[Request, Mapping[str, str]], Awaitable[Answer | Lines]]
"""Is given the request, and what stands in the places of its path."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query."""

    name: str
    type: type
    text: str


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked for.

    Attributes:
        method: In capitals.
        path: With places in braces.
        handler: Answers.
        summary: One line.
        gives: Of the answer: a type; for lines, those of all lines.
        status: Of an answer that is as asked.
        takes: Type of a body in JSON; None for none.
        toml: A body may be TOML too.
        parameters: Of the query.
        content_type: Of the answer.
        errors: Statuses beside 401, 421, 500 ..., which any route may answer.
        secured: Whether the token has to be shown.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    gives: tuple[type, ...]
    status: int = 200
    takes: type | None = None
    toml: bool = False
    parameters: tuple[Parameter, ...] = ()
    content_type: str = JSON
    errors: tuple[int, ...] = ()
    secured: bool = True


def find(routes: Iterable[Route], request: Request) -> tuple[Route, dict[str, str]]:
    """The route that a request means, and what stands in the places of its path.

    Raises:
        HttpError: There is none.
    """
    allowed = []
    for route in routes:
        places = _fits(route.path, request.segments)
        if places is None:
            continue
        if route.method == request.method:
            return route, places
        allowed.append(route.method)
    if allowed:
        told = ", ".join(sorted(allowed))
        raise HttpError(405, f"here there is {told}", {"allow": told})
    raise HttpError(404, "there is nothing here; /v1/openapi.json describes what there is")


def _fits(path: str, segments: tuple[str, ...]) -> dict[str, str] | None:
    parts = path.strip("/").split("/")
    if len(parts) != len(segments):
        return None
    places = {}
    for part, segment in zip(parts, segments, strict=True):
        if part.startswith("{"):
            places[part[1:-1]] = segment
        elif part != segment:
            return None
    return places


_ANY: Final = {400: "The request is wrong", 401: "The token is missing or wrong", 403: "Asked by a web page"}
_REASONS: Final = {
    404: "There is none of this name",
    408: "The body did not come in time",
    409: "There is one already, or too many",
    413: "The body is too long",
    415: "A body of this type is not read",
    421: "`Host` is not a name of this machine's loopback",
    500: "An error of spiceproxy",
    503: "Too many ask at once",
}


def description(
    routes: Iterable[Route], *, version: str, server: str | None, problem: type
) -> dict[str, Any]:
    """An OpenAPI 3.1 document.

    Args:
        routes: What there is.
        version: Of this program.
        server: The API's URL; None where it has none, on a unix socket.
        problem: Type of every answer that is not as asked.
    """
    routes = tuple(routes)
    types = list(
        dict.fromkeys(
            each
            for route in routes
            for each in (*route.gives, *([route.takes] if route.takes else []), problem)
        )
    )
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of, of[problem])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "spiceproxy",
            "version": version,
            "summary": "Control a running proxy",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        **({"servers": [{"url": server}]} if server is not None else {}),
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, of: Mapping[type, Any], problem: Any) -> dict[str, Any]:
    schema = of[route.gives[0]] if len(route.gives) == 1 else {"oneOf": [of[each] for each in route.gives]}
    good: dict[str, Any] = {
        "description": route.gives[0].__doc__,
        "content": {route.content_type: {"schema": schema}},
    }
    if route.content_type == LINES:
        good["description"] = "Each line is one of these, as JSON"
    reasons = _ANY | {status: _REASONS[status] for status in (*route.errors, 421, 500, 503)}
    if route.takes is not None:
        reasons |= {status: _REASONS[status] for status in (408, 413, 415)}
    if not route.secured:
        del reasons[401]
    answers = {
        str(status): {"description": text, "content": {JSON: {"schema": problem}}}
        for status, text in sorted(reasons.items())
    }
    made: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *route.path.strip("/").replace(".", "/").split("/")])
        .replace("{", "")
        .replace("}", ""),
        "summary": route.summary,
        "responses": {str(route.status): good, **answers},
        "security": [{"token": []}] if route.secured else [],
    }
    places = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in route.path.split("/")
        if part.startswith("{")
    ]
    queried = [
        {"name": each.name, "in": "query", "description": each.text, "schema": msgspec.json.schema(each.type)}
        for each in route.parameters
    ]
    if places or queried:
        made["parameters"] = places + queried
    if route.takes is not None:
        content = {JSON: {"schema": of[route.takes]}}
        if route.toml:
            content[TOML] = {"schema": {"type": "string", "description": "Faults as in docs/faults.md"}}
        made["requestBody"] = {"required": True, "content": content}
    return made
