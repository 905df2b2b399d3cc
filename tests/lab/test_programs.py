"""What the user is told when programs are missing."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from spiceproxy.cli.lab import lab_command
from spiceproxy.errors import UsageError
from spiceproxy.lab.programs import QEMU, require_programs
from spiceproxy.lab.result import ClientKind, LabOptions, Traffic
from spiceproxy.lab.run import run_lab


def test_what_is_there_is_not_complained_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("spicy", "Xvfb"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    require_programs(["spicy", "Xvfb"])
    with pytest.raises(UsageError, match=r"^the lab needs import; on Debian: apt-get install imagemagick$"):
        require_programs(["spicy", "import", "Xvfb"])


async def test_a_machine_without_anything_gets_one_line_that_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        await run_lab(LabOptions(client=ClientKind.REMOTE_VIEWER))
    text = str(caught.value)
    assert "\n" not in text
    for package in ("qemu-system-x86", "virt-viewer", "xvfb", "imagemagick"):
        assert package in text.split()
    assert "spice-client-gtk" not in text


async def test_traffic_without_its_programs_gets_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (QEMU, "spicy", "Xvfb", "import"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    traffic = frozenset({Traffic.INPUT, Traffic.CLIPBOARD})
    with pytest.raises(UsageError, match=r"^the lab needs xdotool, xclip, dumpcap; on Debian: .*wireshark"):
        await run_lab(LabOptions(traffic=traffic, direct=True, record=tmp_path / "x.pcapng"))


def test_the_command_passes_that_line_on_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = CliRunner().invoke(lab_command, [])
    assert isinstance(result.exception, UsageError)
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--direct", "--events", "x.jsonl"],
        ["--client", "simulated", "--traffic", "input"],
        ["--client", "remote-viewer", "--traffic", "webdav"],
        ["--traffic", "smoke"],
        ["--image-compression", "zip"],
        ["--heads", "5"],
        ["--client", "simulated", "--screenshot", "x.png"],
        ["--hops", "-1"],
        ["--migration", "sideways"],
        ["--client", "telnet"],
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(arguments: list[str]) -> None:
    assert CliRunner().invoke(lab_command, arguments).exit_code == 2


def test_help_has_examples() -> None:
    result = CliRunner().invoke(lab_command, ["--help"])
    assert result.exit_code == 0
    assert "spiceproxy lab --migration semi-seamless --hops 2 --repeat 5" in result.output
