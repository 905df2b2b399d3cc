"""Faults as users give them to commands, and the catalog that they can look at."""

import json
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from spiceproxy.cli.demo import demo_command
from spiceproxy.cli.lab import lab_command
from spiceproxy.cli.run import run_command
from spiceproxy.cli.scenarios import scenarios_command
from spiceproxy.errors import OptionError, UsageError
from spiceproxy.faults import parse
from spiceproxy.faults.scenarios import scenarios
from spiceproxy.injection.loading import load_faults

COMMAND = [sys.executable, "-m", "spiceproxy"]
DROP = '{ match = { message = "PING" }, do = "drop" }'


def listed(*arguments: str) -> Result:
    return CliRunner().invoke(scenarios_command, arguments)


def objects(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(listed("--json", *arguments).output)
    return found


# The catalog ------------------------------------------------------------------------------------


def test_the_list_has_every_scenario_and_marks_those_that_can_kill_a_qemu() -> None:
    lines = listed().output.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == list(scenarios())
    marked = {line.split()[0] for line in lines[:-2] if " ! " in line}
    assert marked == {each.name for each in scenarios().values() if each.can_kill_qemu}


def test_the_list_can_be_narrowed_to_a_phase_and_a_channel() -> None:
    found = {each["name"] for each in objects("--phase", "switching", "--channel", "display")}
    assert found == {"stall-display"}
    by_message = {each["name"] for each in objects("--channel", "main")}
    assert "nack-synth" in by_message  # its message is one of main, though it does not say so
    assert "stall-display" not in by_message
    assert listed("--phase", "sleeping").exit_code == 2


def test_the_details_of_one_say_all_of_it_and_its_toml_does_the_same() -> None:
    text = listed("nack-synth").output
    for part in (
        "nack-synth (F2)",
        "on the wire",
        "imitates",
        "should",
        "does",
        "measured",
        "ends as",
        "can kill",
        "needs",
    ):
        assert part in text
    (rule,) = parse(text[text.index("comment =") :]).rules
    assert rule.text == "drop, inject MIGRATE_DST_SEAMLESS_NACK"


def test_what_one_is_for_programs() -> None:
    found = json.loads(listed("refuse-dst", "--json").output)
    assert found["expect"] == ["switch-host"]
    assert found["kills_qemu"] is False
    assert found["phases"] == ["connecting"]
    assert found["channels"] == ["main"]
    assert tomllib.loads(found["toml"])["fault"][0]["do"] == "refuse"


@pytest.mark.parametrize(
    "name", ["hold-early-s2", "switch-inject", "lossy-display", "data-main-magic-ones", "wild-pointer"]
)
def test_printed_faults_are_those_of_the_scenario(name: str) -> None:
    made = parse(json.loads(listed(name, "--json").output)["toml"])
    each = scenarios()[name]
    assert [rule.text for rule in made.rules] == [rule.text for rule in each.rules()]
    assert [rule.matcher.match for rule in made.rules] == [rule.matcher.match for rule in each.rules()]
    assert made.seed == each.seed


def test_a_name_that_is_none_and_options_that_do_not_go_together() -> None:
    assert isinstance(listed("nack-sinth").exception, UsageError)
    assert "did you mean `nack-synth`" in str(listed("nack-sinth").exception)
    assert listed("nack-synth", "--phase", "over").exit_code == 2


# Loading ----------------------------------------------------------------------------------------


def test_nothing_given_is_no_faults() -> None:
    assert load_faults([], [], []) is None


@pytest.mark.parametrize(
    "text", [DROP, f"fault = [{DROP}]", '[[fault]]\nmatch = { message = "PING" }\ndo = "drop"', 'match.message = "PING"\ndo = "drop"']
)  # fmt: skip
def test_a_fault_may_be_written_on_the_command_line_in_several_ways(text: str) -> None:
    found = load_faults([], [], [text])
    assert found is not None
    assert [rule.text for rule in found.rules] == ["drop"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            '{ match = { message = "PIN" }, do = "drop" }',
            "--fault, line 1: there is no message `PIN`; did you mean `PING`?",
        ),
        (
            'match.message = "PING"\ndo = "drp"',
            "--fault, line 2: there is no action `drp`; did you mean `drop`?",
        ),
        ("{ match", "--fault, line 1: no TOML"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_in_one_line(text: str, error: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_faults([], [], [text])
    assert str(caught.value).startswith(error)


def test_faults_of_several_sources_have_names_that_tell_them_apart(tmp_path: Path) -> None:
    file = tmp_path / "one.toml"
    file.write_text(f"seed = 4\nfault = [{DROP}, {DROP}]")
    found = load_faults([file], ["nack-synth"], [DROP], variables={"a": 1})
    assert found is not None
    assert [rule.name for rule in found.rules] == ["fault 1", "fault 2", "nack-synth", "fault 1 of inline"]
    assert (found.seed, found.variables) == (4, {"a": 1})
    with_seed = load_faults([file], [], [], seed=0)
    assert with_seed is not None
    assert with_seed.seed == 0
    with pytest.raises(UsageError, match="two faults are called `nack-synth of nack-synth`"):
        load_faults([], ["nack-synth"] * 3, [])


# Commands ---------------------------------------------------------------------------------------


def test_a_demo_with_a_scenario_says_what_came_of_it() -> None:
    done = CliRunner().invoke(demo_command, ["--scenario", "nack-synth", "--json"])
    assert done.exit_code == 0
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["outcome"] == "semi-seamless"
    (fault,) = result["report"]["faults"]
    assert (fault["fault"], fault["name"], fault["migration"]) == (
        "nack-synth",
        "SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS",
        1,
    )


def test_a_demo_that_fails_because_of_a_fault_is_no_error_and_says_why() -> None:
    fault = '{ match = { message = "SPICE_MSG_MIGRATE", channel = "inputs" }, do = "drop" }'
    done = CliRunner().invoke(demo_command, ["--fault", fault, "--time-limit", "2"])
    assert done.exit_code == 0
    assert "Faults that were injected" in done.output
    assert "fault 1: drop at MIGRATE" in done.output
    assert "with faults:" in done.output


def test_a_demo_whose_faults_never_fire_says_so() -> None:
    done = CliRunner().invoke(
        demo_command, ["--fault", '{ match = { message = 4711, channel = "main" }, do = "drop" }']
    )
    assert done.exit_code == 0
    assert "none of them fired" in done.output
    assert "Faults that never fired: fault 1" in done.output


def test_the_lab_takes_faults_through_the_proxy_only() -> None:
    done = CliRunner().invoke(lab_command, ["--direct", "--fault", '{ do = "drop" }'])
    assert done.exit_code == 2
    assert "faults need the proxy" in done.output


def test_wrong_faults_are_one_line_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('[[fault]]\nmatch = { mesage = "PING" }\ndo = "drop"')
    done = subprocess.run(
        [*COMMAND, "run", "--server", "127.0.0.1:1", "--faults", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"spiceproxy: {file}, line 2: there is no key `mesage`; did you mean `message`?\n"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--scenario", "nack-rewrit"), "there is no scenario `nack-rewrit`; did you mean `nack-rewrite`?"),
        (("--fault", '{ do = "dorp" }'), "--fault, line 1: there is no action `dorp`; did you mean `drop`?"),
        (("--script", "/nowhere/a.py"), "cannot read /nowhere/a.py"),
        (("--scenario", "switch-inject"), "nobody has said what ${other_host} is"),
    ],
)
def test_options_for_faults_that_are_wrong_are_no_start(options: tuple[str, ...], reason: str) -> None:
    done = CliRunner().invoke(run_command, ["--server", "127.0.0.1:1", *options])
    assert isinstance(done.exception, OptionError)
    assert reason in str(done.exception)
    assert done.exception.status == 2


def test_a_variable_is_a_name_and_a_value() -> None:
    done = CliRunner().invoke(demo_command, ["--fault", DROP, "--fault-variable", "other_port"])
    assert done.exit_code == 2
    assert "is not NAME=VALUE" in done.output


async def test_run_names_faults_that_never_fired_and_has_them_in_its_report(tmp_path: Path) -> None:
    events = tmp_path / "e.jsonl"
    run = partial(trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    command = [
        *COMMAND,
        "run",
        "--json",
        "--server",
        "127.0.0.1:1",
        "--events",
        str(events),
        "--fault",
        DROP,
        "--seed",
        "3",
    ]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(run, command)
        assert process.stdout is not None
        with trio.fail_after(20):
            assert json.loads(await process.stdout.receive_some())["event"] == "proxy_started"
            process.terminate()
            stopped = json.loads(b"".join([part async for part in process.stdout]))
            assert await process.wait() == 0
    assert stopped["report"]["faults_never_fired"] == ["fault 1"]
    names = [json.loads(line)["event"] for line in events.read_text().splitlines()]
    assert names[-2:] == ["fault_never_fired", "proxy_stopped"]
