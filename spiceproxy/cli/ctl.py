"""`spiceproxy ctl`: control a proxy that runs, through its control API."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from spiceproxy.cli.options import FilterText
from spiceproxy.control.client import Client
from spiceproxy.errors import UsageError

NOT_HAPPENED: Final = 3
"""Exit status of a wait that was in vain."""

INTERRUPTED: Final = 128 + signal.SIGINT
# What a proxy takes to answer, beside the time that it was given.
_MORE_S: Final = 20.0
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|h)?$")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
# Left out where a line is for people: it begins with them, or they are of no use there.
_IN_FRONT: Final = ("time", "time_ns", "event", "level", "session", "connection", "leg", "hop", "channel")

EPILOG: Final = f"""\b
Examples:
  spiceproxy run --listen 127.0.0.1:5901 --server kvm1:5900 --control 127.0.0.1:0 &
  spiceproxy ctl faults add --scenario nack-synth
  spiceproxy ctl faults add --fault '{{ match = {{ message = "PING" }}, do = "drop" }}'
  spiceproxy ctl faults; spiceproxy ctl faults remove "fault 1"
  spiceproxy ctl sessions; spiceproxy ctl migrations --json
  spiceproxy ctl events 'level != "info"'
  spiceproxy ctl wait 'name == "SPICE_MSG_MAIN_MIGRATE_END"' --timeout 10 && echo migrated
  before=$(date +%s.%N); ./migrate-vm; spiceproxy ctl wait 'event == "migration_ended"' --since "$before"

\b
It finds the proxy by itself if only one with --control runs for this user.

\b
Exit status: 0; 1 if it could not do what was asked; 2 for wrong options; of `wait` {NOT_HAPPENED} if it has not happened.
"""


@click.group("ctl", epilog=EPILOG)
@click.option(
    "--control",
    metavar="ADDRESS",
    envvar="SPICEPROXY_CONTROL",
    help="Where the proxy is controlled, if several run: 127.0.0.1:PORT or unix:/PATH; also SPICEPROXY_CONTROL.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SPICEPROXY_CONTROL_TOKEN_FILE",
    help="With the token that it wants to see, if it is another user's; also SPICEPROXY_CONTROL_TOKEN_FILE.",
)
@click.pass_context
def ctl_command(context: click.Context, /, control: str | None, token_file: Path | None) -> None:
    """Control a proxy while it runs: faults, sessions, migrations, events; wait for something to happen."""
    context.obj = lambda: Client.found(control, token_file)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# Faults -------------------------------------------------------------------------------------------


@ctl_command.group("faults", invoke_without_command=True)
@_json_option
@click.pass_context
def _faults(context: click.Context, /, as_json: bool) -> None:
    """List the rules and how often each has fired; add, remove and reset them."""
    if context.invoked_subcommand is None:
        _list_faults(context, as_json)


@_faults.command("list")
@_json_option
@click.pass_context
def _list(context: click.Context, /, as_json: bool) -> None:
    """List the rules and how often each has fired."""
    _list_faults(context, as_json)


def _list_faults(context: click.Context, as_json: bool) -> None:
    found = context.obj().ask("GET", ["v1", "faults"])
    _show(
        found,
        found["faults"],
        as_json,
        lambda fault: f"{fault['fired']:6}  {fault['name']}: {fault['actions']}",
    )


@_faults.command("add")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), required=False)
@click.option(
    "--fault", metavar="TOML", help='This fault: \'{ match = { message = "PING" }, do = "drop" }\'.'
)
@click.option("--scenario", metavar="NAME", help="Those of this scenario; `spiceproxy scenarios` lists them.")
@_json_option
@click.pass_context
def _add(
    context: click.Context, /, file: Path | None, fault: str | None, scenario: str | None, as_json: bool
) -> None:
    """Add the rules of FILE, all or none; - reads standard input. The next message of every connection meets them."""
    if sum(each is not None for each in (file, fault, scenario)) != 1:
        raise click.UsageError("give one of FILE, --fault and --scenario")
    if scenario is not None:
        body, kind = msgspec.json.encode({"scenario": scenario}), "application/json"
    else:
        body, kind = fault.encode() if fault is not None else _read(file or Path("-")), "application/toml"
    added = context.obj().ask("POST", ["v1", "faults"], body=body, content_type=kind)
    _show(added, added["faults"], as_json, str)


def _read(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


@_faults.command("remove")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@_json_option
@click.pass_context
def _remove(context: click.Context, /, name: str | None, everything: bool, as_json: bool) -> None:
    """Remove the rule NAME. What waits because of it goes on as it would have."""
    if (name is None) is not everything:
        raise click.UsageError("give NAME or --all")
    removed = context.obj().ask("DELETE", ["v1", "faults", *([name] if name is not None else [])])
    _show(removed, removed["faults"], as_json, str)


@_faults.command("reset")
@click.argument("name", required=False)
@_json_option
@click.pass_context
def _reset(context: click.Context, /, name: str | None, as_json: bool) -> None:
    """Let the rule NAME, or all of them, count from the beginning."""
    place = [name] if name is not None else []
    done = context.obj().ask("POST", ["v1", "faults", *place, "reset"])
    _show(done, done["faults"], as_json, str)


# What there is ------------------------------------------------------------------------------------


@ctl_command.command("sessions")
@_json_option
@click.pass_context
def _sessions(context: click.Context, /, as_json: bool) -> None:
    """List sessions and their connections."""
    found = context.obj().ask("GET", ["v1", "sessions"])
    lines = []
    for session in found["sessions"]:
        lines.append(f"{session['id']} of {session['client_host']}{', ended' if session['ended'] else ''}")
        lines += [
            f"  {each['id']:5} {each['channel']:12} hop {each['hop']}  {each['server']}  {each['state']}"
            for each in session["connections"]
        ]
    _show(found, lines, as_json, str)


@ctl_command.command("migrations")
@_json_option
@click.pass_context
def _migrations(context: click.Context, /, as_json: bool) -> None:
    """List migrations; --json has all that reports have (docs/report.md)."""
    found = context.obj().ask("GET", ["v1", "migrations"])
    _show(
        found,
        found["migrations"],
        as_json,
        lambda each: f"{each['session']} migration {each['number']}: {each['verdict'] or each['phase']}",
    )


# What happens -------------------------------------------------------------------------------------


def _since(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Seconds since 1970; 0 for the beginning."""
    if text is None:
        return None
    if text == "start":
        return 0.0
    found = _AGO.fullmatch(text)
    if found is None:
        raise click.BadParameter("a time as `date +%s.%N` prints it, or so long ago (10s, 5min), or start")
    number, unit = float(found.group(1)), found.group(2)
    return number if unit is None else time.time() - number * _UNITS[unit]


_since_option = click.option(
    "--since",
    metavar="TIME",
    callback=_since,
    help="Count what has been logged since then: a time as `date +%s.%N` prints it, so long ago (10s, 5min), or start.",
)


@ctl_command.command("events")
@click.argument("expression", metavar="[EXPR]", required=False, type=FilterText())
@_since_option
@click.option(
    "--no-follow",
    is_flag=True,
    help="End when all that has been logged was shown; from the start unless --since says else.",
)
@_json_option
@click.pass_context
def _events(
    context: click.Context, /, expression: Any, since: float | None, no_follow: bool, as_json: bool
) -> None:
    """Show events as they happen, those that fit EXPR (docs/filter.md), until it is interrupted."""
    query = {"follow": "false"} if no_follow else {}
    if expression is not None:
        query["filter"] = expression.text
    if since is not None or no_follow:
        query["since"] = f"{since or 0.0:.9f}"
    try:
        for event in context.obj().lines("GET", ["v1", "events"], query=query):
            _write(msgspec.json.encode(event).decode() if as_json else _line(event))
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)


@ctl_command.command("wait")
@click.argument("expression", metavar="EXPR")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(0, 86400),
    default=60.0,
    show_default=True,
    help="How long to wait.",
)
@_since_option
@_json_option
@click.pass_context
def _wait(
    context: click.Context, /, expression: str, timeout_s: float, since: float | None, as_json: bool
) -> None:
    """Wait until a message passes or an event is logged that fits EXPR (docs/filter.md), and print it.

    Events count from the moment when this command was started, or from --since; those of a migration's steps are among
    them. Other messages pass unread and leave nothing behind: they count from the moment that is told on standard error.
    """
    begun = _started() if since is None else since
    body = msgspec.json.encode({"condition": expression, "timeout_s": timeout_s, "since": begun})
    try:
        result = _result(
            context.obj().lines("POST", ["v1", "wait"], body=body, silence_s=timeout_s + _MORE_S)
        )
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)
    if result["happened"]:
        _write(msgspec.json.encode(result["what"]).decode() if as_json else _line(result["what"]))
        return
    click.echo(f"spiceproxy: it has not happened within {timeout_s:g} s: {expression}", err=True)
    context.exit(NOT_HAPPENED)


def _result(lines: Iterable[Any]) -> Mapping[str, Any]:
    """What came of a wait; what comes first is told."""
    for line in lines:
        if "messages_from" in line:
            stamp = time.strftime("%H:%M:%S", time.localtime(line["messages_from"]))
            click.echo(
                f"waiting; messages count from {stamp}.{int(line['messages_from'] % 1 * 1000):03}", err=True
            )
            if not line["complete"]:
                click.echo("spiceproxy: earlier events of that time are not kept any more", err=True)
        else:
            return dict(line)
    raise UsageError("the proxy has ended")


def _started() -> float:
    """When this process was started: what happens from then on is not to be missed. To 10 ms, and not later."""
    # proc(5), /proc/pid/stat: starttime is field 22, in clock ticks after boot; the second field ends with the last ")".
    try:
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        age_s = 0.0
    return time.time() - max(age_s, 0.0)


# Output -------------------------------------------------------------------------------------------


def _show(whole: Any, items: Iterable[Any], as_json: bool, line: Any) -> None:
    if as_json:
        _write(msgspec.json.encode(whole).decode())
        return
    for item in items:
        _write(line(item))


def _line(event: Mapping[str, Any]) -> str:
    """An event or a message for people."""
    stamp = time.strftime("%H:%M:%S", time.localtime(event["time"])) + f".{int(event['time'] % 1 * 1000):03}"
    place = "/".join(str(event[key]) for key in ("session", "connection") if key in event)
    where = " ".join(filter(None, [place, str(event.get("channel", ""))]))
    rest = " ".join(
        f"{key}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for key, value in event.items()
        if key not in _IN_FRONT
    )
    return " ".join(filter(None, [stamp, str(event.get("event", "message")), where, rest]))


def _write(text: str) -> None:
    """Write a line at once; nobody may be reading any more."""
    try:
        click.echo(text if text.isprintable() else text.encode("unicode_escape").decode())
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        sys.exit(0)
