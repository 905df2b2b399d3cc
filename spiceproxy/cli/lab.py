"""`spiceproxy lab`: a real migration, with real QEMUs and a real client, on this machine."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import trio
from rich.console import Console
from rich.markup import escape

from spiceproxy.cli.control_options import control_of, control_options
from spiceproxy.cli.fault_options import fault_options, faults_of
from spiceproxy.cli.lab_text import print_runs
from spiceproxy.cli.matrix import matrix_options, play_scenarios
from spiceproxy.cli.options import (
    FILE,
    check_events_filter,
    events_filter_option,
    events_option,
    record_option,
)
from spiceproxy.cli.reporting import (
    FILES,
    STATUS_HELP,
    check_writable,
    expected_kind,
    finish,
    live_report_options,
)
from spiceproxy.lab import client_traffic, courses
from spiceproxy.lab.errors import single_error
from spiceproxy.lab.result import (
    ClientKind,
    Course,
    LabOptions,
    LabResult,
    MigrationKind,
    Traffic,
)
from spiceproxy.report.jsonform import report_object

EPILOG = f"""\b
Examples:
  spiceproxy lab
  spiceproxy lab --migration semi-seamless --hops 2 --repeat 5
  spiceproxy lab --migration switch-host --client remote-viewer --screenshot after.png
  spiceproxy lab --record session.pcapng --events session.jsonl --keep-logs logs/
  spiceproxy lab --direct --json        # the same without the proxy, to compare
  spiceproxy lab --traffic drawing --traffic input --image-compression glz --record drawing.pcapng
  spiceproxy lab --traffic video --streaming-video all --heads 2 --seconds 3 --record video.pcapng
  spiceproxy lab --traffic clipboard --traffic usb --hops 0 --direct --record plain.pcapng
  spiceproxy lab --course cancel --hops 2         # cancelled once, then migrated
  spiceproxy lab --course too-early --record early.pcapng; spiceproxy report early.pcapng
  spiceproxy lab --scenario nack-synth            # a fault of the catalog, and whether it ends as it should
  spiceproxy lab --scenario all --jobs 4 --artefacts out --html out/matrix.html

\b
Kinds of traffic, beside the picture that always moves:
  drawing    every drawing operation, images of every format, surfaces, pointer shapes
  video      a photograph that moves, for --streaming-video
  sound      the guest plays a tone and records
  input      keys, mouse buttons, motion and the wheel, from the client
  clipboard  a made-up text from the guest to the client, and another back
  port       the guest writes lines to a port channel
  webdav     the guest asks for a directory that the client shares
  usb        the client redirects a CD drive, and the BIOS reads from it

\b
Courses, what happens to the first migration; those that follow are plain:
  plain                nothing
  cancel               migrate_cancel while the guest moves
  twice                client_migrate_info again when the client has replied to the first
  too-early            `migrate` at once after client_migrate_info
  unreachable          the client is sent to a port where nobody listens
  silent               the client is sent to where nobody answers, not even with a refusal
  hanging              the destination stands still while the client connects
  wrong-ticket, expired-ticket
                       the destination does not take the client's password
  kill-before, kill-during, kill-after
                       the destination dies before `migrate`, while the guest moves, or when it has moved
  kill-source-before, kill-source, kill-source-after
                       the source dies at these moments
  kill-client-before, kill-client-during, kill-client-after
                       the client does
  more-on-source, more-on-destination
                       one of them has a port channel that the other has not
  unopened-webdav      for remote-viewer: a webdav channel that the client leaves closed; a wedge
  idle-head            for spicy: a second head that the guest leaves dark; a wedge
docs/lab.md says what each comes to.

\b
Exit status: 0 if every migration ended as asked, or as its course should, and every channel that the client had is
where it then has to be (mostly on the last server, through the proxy), with the guest's picture moving on its screen;
1 if not; 2 for wrong options. With --scenario: 0 if every scenario ended as it should, 3 if some could not be run and the
others did, 1 if not; docs/matrix.md.

{STATUS_HELP}"""

# Values of QEMU's -spice, and lz4: spice-server knows it, but QEMU 7.2 has no word for it.
_COMPRESSIONS: Final = ("off", "quic", "glz", "lz", "lz4", "auto_glz", "auto_lz")
_WAN: Final = ("auto", "never", "always")
_STREAMING: Final = ("off", "all", "filter")
_SPICE_OPTIONS: Final = (
    "image_compression",
    "streaming_video",
    "jpeg_wan_compression",
    "zlib_glz_wan_compression",
)
_MAX_HEADS: Final = 4

_ACCELERATORS: Final = {"auto": ("kvm", "tcg"), "kvm": ("kvm",), "tcg": ("tcg",)}


@click.command("lab", epilog=EPILOG)
@click.option(
    "--migration",
    type=click.Choice([kind.value for kind in MigrationKind]),
    default="seamless",
    show_default=True,
    help="How the client is to follow the guest.",
)
@click.option(
    "--course",
    type=click.Choice([course.value for course in Course]),
    default="plain",
    show_default=True,
    help="What happens to the first migration; the courses are explained below.",
)
@click.option(
    "--hops",
    type=click.IntRange(0, 50),
    default=1,
    show_default=True,
    help="Migrations in a row, each to a new QEMU; 0: none.",
)
@click.option(
    "--back", is_flag=True, help="Let every second migration lead back to the address of the first server."
)
@click.option("--ticket", is_flag=True, help="Have the servers ask for a password (made up).")
@click.option(
    "--sasl",
    metavar="MECHANISM",
    help="Have the servers ask for a user and password by SASL, for remote-viewer: SCRAM-SHA-256 with --tls, DIGEST-MD5 without.",
)
@click.option(
    "--tls", is_flag=True, help="Have the servers speak TLS only, each with a certificate of its own."
)
@click.option(
    "--client",
    type=click.Choice([kind.value for kind in ClientKind]),
    default="spicy",
    show_default=True,
    help="The client program.",
)
@click.option(
    "--traffic",
    type=click.Choice([kind.value for kind in Traffic]),
    multiple=True,
    help="What else is to happen in the session; may be given again. The kinds are explained below.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    help="Let traffic flow for so long before the first migration and after each.  [default: 2 with --traffic, else 0]",
)
@click.option(
    "--heads",
    type=click.IntRange(1, _MAX_HEADS),
    default=1,
    show_default=True,
    help="Screens of the guest, each on a graphics adapter and a display channel of its own.",
)
@click.option(
    "--one-adapter",
    is_flag=True,
    help="Put all heads on one adapter and one display channel, as Linux guests do.",
)
@click.option(
    "--image-compression",
    type=click.Choice(_COMPRESSIONS),
    help="QEMU's choice for images; lz4 is asked for by the client instead.  [default: auto_glz]",
)
@click.option(
    "--streaming-video", type=click.Choice(_STREAMING), help="What QEMU sends as video.  [default: off]"
)
@click.option(
    "--jpeg-wan-compression", type=click.Choice(_WAN), help="Lossy images on slow links.  [default: auto]"
)
@click.option(
    "--zlib-glz-wan-compression",
    type=click.Choice(_WAN),
    help="Images compressed once more on slow links.  [default: auto]",
)
@record_option
@events_option
@events_filter_option
@fault_options
@control_options
@live_report_options
@click.option(
    "--screenshot",
    metavar="FILE.png",
    type=FILE,
    help="Write what the client's screen shows after the last migration.",
)
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Run that many times; files are numbered: FILE-1.png ...",
)
@click.option("--direct", is_flag=True, help="Connect the client to QEMU without the proxy.")
@click.option(
    "--accel",
    type=click.Choice(list(_ACCELERATORS)),
    default="auto",
    show_default=True,
    help="QEMU's accelerator; auto is KVM where it works, else TCG.",
)
@click.option(
    "--keep-logs",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep what the programs wrote, with the client's debug log and QMP.",
)
@matrix_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")  # fmt: skip
@click.pass_context
def lab_command(context: click.Context, /, **arguments: Any) -> None:
    """Migrate a guest between real QEMUs while a real SPICE client looks at it through the proxy.

    Needs QEMU, the client, Xvfb and ImageMagick, for some options also xdotool, xclip or dumpcap; takes about 10 seconds. Everything runs on 127.0.0.1 and is gone
    afterwards.
    """
    check_events_filter(arguments)
    check_writable(arguments)
    if arguments["scenario"]:
        context.exit(play_scenarios(context, arguments, _ACCELERATORS[arguments["accel"]]))
    traffic = frozenset(Traffic(kind) for kind in arguments["traffic"])
    seconds = arguments["seconds"]
    options = LabOptions(
        migration=MigrationKind(arguments["migration"]),
        course=Course(arguments["course"]),
        hops=arguments["hops"],
        back=arguments["back"],
        ticket=arguments["ticket"],
        tls=arguments["tls"],
        sasl=arguments["sasl"],
        client=ClientKind(arguments["client"]),
        traffic=traffic,
        seconds=(2 if traffic else 0) if seconds is None else seconds,
        heads=arguments["heads"],
        one_adapter=arguments["one_adapter"],
        spice=_spice_options(arguments),
        preferred_compression="lz4" if arguments["image_compression"] == "lz4" else None,
        direct=arguments["direct"],
        accelerators=_ACCELERATORS[arguments["accel"]],
        record=arguments["record"],
        events=arguments["events"],
        events_filter=arguments["events_filter"],
        screenshot=arguments["screenshot"],
        keep_logs=arguments["keep_logs"],
        faults=faults_of(arguments),
        control=control_of(arguments),
    )
    if options.tls and options.client is ClientKind.SIMULATED:
        raise click.UsageError("the simulated client speaks no TLS in the lab, so --tls does not go with it")
    if options.sasl and (options.client is not ClientKind.REMOTE_VIEWER or options.ticket):
        raise click.UsageError("--sasl goes with --client remote-viewer, and not with --ticket")
    if options.direct and options.faults is not None:
        raise click.UsageError("faults need the proxy, so they do not go with --direct")
    if options.direct and options.control is not None:
        raise click.UsageError("--control is about the proxy, so it does not go with --direct")
    if options.direct and options.events:
        raise click.UsageError("--events needs the proxy, so it does not go with --direct")
    if (
        options.direct
        and not options.record
        and any(arguments[name] for name in ("report", "expect", *FILES))
    ):
        raise click.UsageError("a report needs the proxy, or with --direct a capture: --record")
    if reason := client_traffic.conflict(options) or courses.conflict(options):
        raise click.UsageError(reason)
    if options.client is ClientKind.SIMULATED and options.screenshot:
        raise click.UsageError("the simulated client has no screen, so --screenshot does not go with it")
    results: list[LabResult] = []
    with single_error():
        received = trio.run(_run, options, arguments["repeat"], results)
    expected, repeat = expected_kind(arguments), arguments["repeat"]
    for result in results:
        if result.report is not None:
            result.report = replace(result.report, expected=expected)
    passed = sum(result.ok for result in results)
    ok = passed == repeat
    if arguments["as_json"]:
        runs = [_plain(result) for result in results]
        click.echo(msgspec.json.encode({"ok": ok, "passed": passed, "runs": runs}))
    else:
        print_runs(results, repeat)
    found = [
        finish(result.report, _own_files(arguments, number) if repeat > 1 else arguments, 0)
        for number, result in enumerate(results, start=1)
        if result.report is not None
    ]
    if received is not None:
        click.echo(f"spiceproxy: lab interrupted by {received.name}; everything is stopped", err=True)
        context.exit(128 + received)
    context.exit(min(filter(None, found), default=0 if ok else 1))


def _plain(result: LabResult) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(replace(result, report=None))
    if result.report is not None:
        plain["report"] = report_object(result.report)
    return plain


def _own_files(arguments: dict[str, Any], number: int) -> dict[str, Any]:
    """The same with files of a report of its own for each run."""
    return arguments | {name: _own(arguments[name], number) for name in ("report", *FILES)}


def _own(path: Path | None, number: int) -> Path | None:
    return path and path.with_stem(f"{path.stem}-{number}")


def _spice_options(arguments: dict[str, Any]) -> dict[str, str]:
    """Further options of QEMU's -spice."""
    chosen = {name.replace("_", "-"): arguments[name] for name in _SPICE_OPTIONS if arguments[name]}
    return {name: value for name, value in chosen.items() if value != "lz4"}


async def _run(options: LabOptions, repeat: int, results: list[LabResult]) -> signal.Signals | None:
    """Fill `results`; return the signal that ended this early, if one did."""
    from spiceproxy.lab.run import run_lab

    received: signal.Signals | None = None
    console = Console(stderr=True, highlight=False)

    async def watch_signals(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal received
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                received = signal.Signals(number)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals)
        for number in range(1, repeat + 1):
            if repeat > 1:
                console.print(f"[bold]run {number} of {repeat}[/bold]")
            begin = trio.current_time()

            def progress(text: str, begin: float = begin) -> None:
                console.print(
                    f"[dim]{trio.current_time() - begin:6.2f} s[/dim]  {escape(text)}", soft_wrap=True
                )

            results.append(await run_lab(_numbered(options, number) if repeat > 1 else options, progress))
        nursery.cancel_scope.cancel()
    return received


def _numbered(options: LabOptions, number: int) -> LabOptions:
    """The same with files of its own for each run."""
    return replace(
        options,
        record=_own(options.record, number),
        events=_own(options.events, number),
        screenshot=_own(options.screenshot, number),
        keep_logs=options.keep_logs and options.keep_logs / f"run-{number}",
    )
