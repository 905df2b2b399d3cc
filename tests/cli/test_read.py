"""`spiceproxy read`, run as users run it."""

import json
import os
import pty
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dissectors.message_ids import Main, Msg
from spiceproxy.capture.events import Closed, Data, Opened
from spiceproxy.recording import pcapng
from spiceproxy.recording.conversation import Conversation
from tests.capture.wire import CLIENT, SERVER, Wire, announcement

PING = struct.pack("<IQ", 1, 2)


class Sink:
    """A recording in memory."""

    ended = False

    def __init__(self) -> None:
        self.data = bytearray(
            pcapng.section_header(hardware="test", operating_system="test", application="test")
            + pcapng.interface_description(name="test", description="test")
        )

    def lose(self, size: int) -> None:
        raise AssertionError(size)

    def packet(self, time_ns: int, header: bytes, payload: Any, comment: str | None) -> None:
        pcapng.append_packet(self.data, time_ns, header, payload, comment)


def recording(wire: Wire) -> bytes:
    """The packets of these events."""
    sink = Sink()
    made: dict[int, Conversation] = {}
    for event in wire.events:
        match event:
            case Opened():
                isn = event.connection * 1_000_000
                made[event.connection] = Conversation(
                    sink, event.client, event.server, client_isn=isn, server_isn=isn
                )
                made[event.connection].open(event.time_ns, event.comment)
            case Data():
                made[event.connection].data(event.side, event.time_ns, event.data, ends=[len(event.data)])
            case Closed():
                made[event.connection].close(event.side, event.time_ns, reset=event.reset)
    return bytes(sink.data)


def migration() -> Wire:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    wire.init(1, 77)
    wire.say(1, SERVER, Main.MIGRATE_BEGIN, announcement(Main.MIGRATE_BEGIN, "10.0.0.2", 5900))
    wire.open(2, server="10.0.0.2")
    wire.link(2, connection_id=77)
    wire.say(2, SERVER, Msg.PING, PING)
    wire.close(1, None)
    wire.close(2, None)
    return wire


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "session.pcapng"
    path.write_bytes(recording(migration()))
    return path


def read(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spiceproxy", "read", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_a_recording_is_shown_line_by_line(capture: Path) -> None:
    result = read(capture)
    assert (result.returncode, result.stderr) == (0, "")
    said = [line.split()[1:6] for line in result.stdout.splitlines()]
    assert said == [
        ["s1/c1", "source", "main:0", "*", "channel_linked"],
        ["s1/c1", "source", "main:0", "s→c", "INIT"],
        ["s1/c1", "source", "main:0", "s→c", "MIGRATE_BEGIN"],
        ["s1/c2", "destination", "main:0", "*", "channel_linked"],
        ["s1/c2", "destination", "main:0", "s→c", "PING"],
        ["s1/c1", "source", "main:0", "*", "connection_closed"],
        ["s1/c2", "destination", "main:0", "*", "connection_closed"],
    ]


def test_standard_input_is_read_too(capture: Path) -> None:
    with capture.open("rb") as stream:
        result = read("-", "--json", stdin=stream)
    assert (result.returncode, result.stderr) == (0, "")
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == [
        "SPICE_MSG_MAIN_INIT", "SPICE_MSG_MAIN_MIGRATE_BEGIN", "SPICE_MSG_PING",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--filter", 'leg == "destination"'], ["SPICE_MSG_PING"]),
        (["--filter", "fields.id == 1"], ["SPICE_MSG_PING"]),
        (["--channel", "display"], []),
        (["--channel", "main:0", "--session", "s1", "--filter", "id == 103"], ["SPICE_MSG_MAIN_INIT"]),
        (["--session", "s2"], []),
    ],
)
def test_filters_and_their_short_forms_choose(arguments: list[str], names: list[str], capture: Path) -> None:
    result = read(capture, "--json", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert [json.loads(line)["name"] for line in result.stdout.splitlines()] == names


@pytest.mark.parametrize(
    "arguments",
    [
        ["--filter", "naem == 1"],
        ["--filter", "size >"],
        ["--session", 'a"b'],
        ["--events"],
        ["--port", "0"],
        ["--follow", "--stats"],
    ],
)
def test_wrong_options_are_status_2(arguments: list[str], capture: Path) -> None:
    result = read(capture, *arguments)
    assert result.returncode == 2
    assert "Error" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_filter_that_is_wrong_says_where(capture: Path) -> None:
    result = read(capture, "--filter", 'channel == "main:0" and naem == 1')
    assert "column 25" in result.stderr
    assert "did you mean `name`?" in result.stderr


def test_a_file_that_is_not_there_or_no_capture_is_status_2(tmp_path: Path) -> None:
    assert read(tmp_path / "none").returncode == 2
    other = tmp_path / "text"
    other.write_text("this is no capture, whatever its name says\n")
    result = read(other)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_capture_without_spice_is_status_1_and_says_what_is_there(tmp_path: Path) -> None:
    wire = Wire()
    wire.open(1)
    wire.data(1, CLIENT, b"GET / HTTP/1.0\r\n\r\n")
    wire.close(1, None)
    path = tmp_path / "web.pcapng"
    path.write_bytes(recording(wire))
    result = read(path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "no SPICE" in result.stderr
    assert "1 TCP connection" in result.stderr
    assert "--port" in result.stderr


def test_a_damaged_capture_is_status_5_and_shown_as_far_as_it_goes(capture: Path) -> None:
    data = capture.read_bytes()
    capture.write_bytes(data[: len(data) // 2 + 5])
    result = read(capture)
    assert result.returncode == 5
    assert "INIT" in result.stdout
    assert result.stderr.startswith("spiceproxy: ")


def test_the_middle_of_a_connection_is_read_only_on_request_and_says_what_is_missing(tmp_path: Path) -> None:
    wire = migration()
    data = recording(wire)
    starts = [at for at, _ in pcapng.blocks(data)]
    path = tmp_path / "late.pcapng"
    path.write_bytes(data[: starts[2]] + data[starts[9] :])
    assert "s1/c2" not in read(path, "--filter", 'connection == "c2"').stdout
    result = read(path, "--port", "5900")
    assert result.returncode == 0
    assert "link_missing" in result.stdout
    assert "cannot be known" in result.stderr


def test_problems_are_summed_up_on_standard_error(tmp_path: Path) -> None:
    wire = migration()
    wire.events = wire.events[:-2]
    for _ in range(13):
        wire.say(2, SERVER, Msg.SET_ACK, b"?")
    path = tmp_path / "bad.pcapng"
    path.write_bytes(recording(wire))
    result = read(path, "--json")
    lines = result.stderr.splitlines()
    assert result.returncode == 0
    assert len(lines) == 11
    assert lines[0].startswith("spiceproxy: s1/c2 main:0: SPICE_MSG_SET_ACK, 1 bytes: ")
    assert lines[-1] == "spiceproxy: and 3 more"


def test_a_pipe_that_nobody_reads_any_more_ends_it_quietly(tmp_path: Path) -> None:
    wire = migration()
    wire.events = wire.events[:-2]
    for _ in range(20_000):
        wire.say(2, SERVER, Msg.PING, PING)
    path = tmp_path / "long.pcapng"
    path.write_bytes(recording(wire))
    command = [sys.executable, "-m", "spiceproxy", "read", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(timeout=30)) == (b"", 0)


def test_a_recording_that_grows_is_followed_until_ctrl_c(tmp_path: Path) -> None:
    data = recording(migration())
    starts = [at for at, _ in pcapng.blocks(data)]
    path = tmp_path / "growing.pcapng"
    path.write_bytes(data[: starts[12] + 7])  # in the middle of a block
    command = [sys.executable, "-m", "spiceproxy", "read", "--follow", "--json", "--events", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        names = []
        while "SPICE_MSG_MAIN_INIT" not in names:
            found = json.loads(process.stdout.readline())
            names.append(found.get("name", found.get("event")))
        with path.open("ab") as file:
            file.write(data[starts[12] + 7 :])
        while names[-1] != "connection_closed":
            found = json.loads(process.stdout.readline())
            names.append(found.get("name", found.get("event")))
        assert "SPICE_MSG_PING" in names
        process.send_signal(signal.SIGINT)
        assert (process.stderr.read(), process.wait(timeout=30)) == ("", 0)


def run_on_a_terminal(*arguments: str, columns: int, **environment: str) -> str:
    """What is shown on a terminal of that width."""
    main, other = pty.openpty()
    import fcntl
    import termios

    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    base = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "COLUMNS"}}
    command = [sys.executable, "-m", "spiceproxy", "read", *arguments]
    with subprocess.Popen(
        command, stdout=other, stderr=other, env={**base, "TERM": "xterm", **environment}
    ) as process:
        os.close(other)
        shown = b""
        try:
            while piece := os.read(main, 65536):
                shown += piece
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(main)
        assert process.wait(timeout=30) == 0
    return shown.decode()


def test_a_terminal_gets_colours_and_lines_that_fit(capture: Path) -> None:
    shown = run_on_a_terminal(str(capture), columns=80)
    assert "\x1b[32m" in shown
    plain = run_on_a_terminal(str(capture), columns=80, NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80


def test_help_needs_nothing_but_click() -> None:
    """`spiceproxy read --help` is quick, and reading imports neither trio nor structlog nor rich."""
    program = (
        "import sys\nfrom spiceproxy.cli import cli\n"
        "try:\n    cli(['read', sys.argv[1]])\nexcept SystemExit: pass\n"
        "print(*{'trio', 'structlog', 'rich', 'cryptography'} & set(sys.modules), file=sys.stderr)"
    )
    path = "/dev/null"
    result = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr.splitlines()[-1] == ""
