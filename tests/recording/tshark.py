"""What tshark and capinfos say about a file."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.programs import require_programs


def run(program: str, *arguments: str) -> str:
    """Run it and return what it prints; fail if it fails."""
    require_programs(program)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fields(
    path: Path, *names: str, only: str = "", decode_as: str = "", preferences: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """One row per packet with the named fields; several values of one field are joined by a bar."""
    arguments = ["-r", str(path), "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Tfields"]
    arguments += ["-E", "aggregator=|", "-E", "separator=/t"]
    if only:
        arguments += ["-Y", only]
    if decode_as:
        arguments += ["-d", decode_as]
    for preference in preferences:
        arguments += ["-o", preference]
    for name in names:
        arguments += ["-e", name]
    return [tuple(line.split("\t")) for line in run("tshark", *arguments).splitlines()]


def streams(path: Path, stream: int) -> tuple[bytes, bytes]:
    """What the client and the server of a conversation sent, as `Follow TCP stream` puts it together."""
    text = run("tshark", "-r", str(path), "-q", "-z", f"follow,tcp,raw,{stream}")
    _, _, body = text.partition("Node 1: ")
    lines = body.splitlines()[1:]
    lines = lines[: lines.index("=" * 67)]
    client = "".join(line for line in lines if not line.startswith("\t"))
    server = "".join(line.strip() for line in lines if line.startswith("\t"))
    return bytes.fromhex(client), bytes.fromhex(server)


def assert_flawless(path: Path, *, reused_ports: int = 0) -> None:
    """Neither program finds anything to complain of.

    Args:
        path: The recording.
        reused_ports: So many connections have the addresses and ports of an earlier one, which tshark remarks.
    """
    report = run("capinfos", str(path))
    assert "Strict time order:   True" in report
    assert "File encapsulation:  Raw IP" in report
    assert "nanoseconds (9)" in report
    wrong = ("_ws.malformed", "tcp.analysis.flags", "tcp.analysis.reused_ports")
    rows = fields(path, "frame.number", "tcp.checksum.status", "ip.checksum.status", *wrong)
    assert rows
    remarks = 0
    for number, tcp_checksum, ip_checksum, malformed, flags, reused in rows:
        remarks += bool(reused)
        assert (tcp_checksum, malformed, flags) == ("1", "", reused and "1"), f"packet {number}"
        assert ip_checksum in ("1", ""), f"packet {number}"  # IPv6 has none
    assert remarks == reused_ports
