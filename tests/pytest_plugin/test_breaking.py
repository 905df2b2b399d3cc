"""Scenarios and faults in test suites."""

from pathlib import Path

import pytest

from tests.pytest_plugin.suites import run

pytest_plugins = ["pytester"]


def test_a_scenario_that_does_no_harm(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import pytest

        @pytest.mark.spice_scenario("nack-synth")
        def test_nack(spice_proxy, spice_servers, spice_client):
            spice_servers.migrate()
            migration = spice_proxy.expect("semi-seamless")
            assert migration.handshake.verdict == "nack"
            assert [fault.fault for fault in spice_proxy.faults.fired] == list(spice_proxy.faults.names)
            assert spice_client.works()
        """,
        passed=1,
    )


def test_a_scenario_that_wedges_ends_by_its_deadline_and_says_who_waits(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import pytest

        @pytest.mark.spice_scenario("lose-data-in-display")
        def test_wedge(spice_proxy, spice_servers, spice_client):
            move = spice_servers.migrate(timeout=1)
            assert move.problems == ["not done within 1 s"]
            migration = spice_proxy.expect("wedged", timeout=3)
            assert migration.blocking == ["display:0"]
            assert not spice_client.works(0.5)

        @pytest.mark.spice_scenario("lose-data-in-display")
        def test_expectation(spice_proxy, spice_servers, spice_client):
            spice_servers.migrate(timeout=1)
            spice_proxy.expect("seamless", timeout=3)
        """,
        passed=1,
        failed=1,
    )
    result.stdout.fnmatch_lines(["E *expected seamless, but *wedged: *", "E *Who waits"])


def test_what_else_a_scenario_needs_is_seen_to(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import pytest

        @pytest.mark.spice_scenario("cancel-then-late")
        def test_cancelled(spice_proxy, spice_servers, spice_client):
            assert spice_servers.migrate().told == "CANCEL"
            spice_proxy.expect("cancelled")
        """.replace("cancel-then-late", cancelling_scenario()),
        passed=1,
    )


def cancelling_scenario() -> str:
    """One in which the hypervisor cancels, and nothing worse happens between simulated peers."""
    from spiceproxy.faults.scenarios import scenarios
    from tests.injection.trials import outcomes

    known = outcomes()
    return next(
        name for name, each in scenarios().items() if each.lab.cancel and known[name] == ({"cancelled"}, True)
    )


def test_an_unknown_scenario_is_one_line_and_no_test_runs(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.spice_scenario("nack-rewrit")
        def test_it(spice_proxy):
            pass

        def test_other():
            pass
        """
    )
    result = suite.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = (
        f"ERROR: {Path(suite.path).name[:-1]}.py::test_it: there is no scenario `nack-rewrit`; did you mean "
        "`nack-rewrite`? (`spiceproxy scenarios` lists them all)"
    )
    assert [line for line in result.errlines if line] == [said]


def test_a_scenario_of_a_test_that_is_not_selected_is_not_looked_at(suite: pytest.Pytester) -> None:
    text = "import pytest\n@pytest.mark.spice_scenario('nowhere')\ndef test_a(): pass\ndef test_b(): pass"
    run(suite, text, "-k", "test_b", passed=1, deselected=1)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (
            "spice_servers(knid='seamless')",
            "*there is no argument `knid` of spice_servers; did you mean `kind`?",
        ),
        (
            "spice_client(comand='x')",
            "*there is no argument `comand` of spice_client; did you mean `command`?",
        ),
        ("spice_faults('do = \"drp\"')", "*--fault, line 1: *did you mean `drop`?"),
        (
            "spice_servers(kind='seemless')",
            "*there is no kind of migration `seemless`; did you mean `seamless`?",
        ),
        ("spice_servers('kvm:x')", "*a server may also be `simulated` or `qemu`"),
    ],
)
def test_what_is_wrong_with_a_marker_is_said_in_one_line(
    suite: pytest.Pytester, marker: str, said: str
) -> None:
    suite.makepyfile(f"import pytest\n@pytest.mark.{marker}\ndef test_it(spice_proxy): pass")
    result = suite.runpytest_inprocess()
    assert result.ret != 0
    output = [*result.outlines, *result.errlines]
    pytest.LineMatcher(output).fnmatch_lines([said])
    assert not any("Traceback" in line or "site-packages" in line for line in output)


def test_a_scenario_of_a_test_without_a_proxy_is_an_error(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "import pytest\n@pytest.mark.spice_scenario('nack-synth')\ndef test_it(spice_servers): pass"
    )
    result = suite.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *::test_it: spice_scenario needs the fixture spice_proxy: *"])
    text = """
    import pytest

    pytestmark = pytest.mark.spice_scenario("nack-synth")

    def test_other():
        pass
    """
    run(suite, text, passed=1)


def test_faults_are_added_and_removed_while_the_session_goes_on(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import pytest
        from spiceproxy.errors import UsageError

        def test_faults(spice_proxy, spice_servers, spice_client):
            faults = spice_proxy.faults
            keys = 'match = { message = "INPUTS_KEY_DOWN" }\\ndo = "drop"'
            (name,) = faults.add(keys)
            assert not spice_client.works(0.5)
            (other,) = faults.add({"match": {"message": "PING"}, "do": "log"})
            assert len({name, other, *faults.add(keys)}) == 3
            for each in faults.names:
                faults.remove(each)
            assert spice_client.works()
            assert {fault.fault for fault in faults.fired} >= {name}
            faults.add_scenario("nack-synth")
            assert faults.names == ("nack-synth",) == tuple(faults.never_fired)
            spice_servers.migrate()
            spice_proxy.expect("semi-seamless")
            for wrong in ({"do": "drp"}, {"match": {"mesage": "PING"}, "do": "drop"}, "do ="):
                with pytest.raises(UsageError):
                    faults.add(wrong)
            with pytest.raises(UsageError, match="did you mean `nack-synth`"):
                faults.remove("nack-sinth")
        """,
        passed=1,
    )


def test_faults_of_markers_are_toml_or_files(suite: pytest.Pytester) -> None:
    suite.makefile(".toml", nack="[[fault]]\nmatch = { message = 'MIGRATE_DST_SEAMLESS_ACK' }\ndo = { replace = { message = 'MIGRATE_DST_SEAMLESS_NACK' } }")  # fmt: skip
    run(
        suite,
        """
        from pathlib import Path
        import pytest

        @pytest.mark.spice_faults(Path("nack.toml"), '{ match = { message = "PING" }, do = "log" }', seed=3)
        def test_it(spice_proxy, spice_client):
            assert spice_proxy.faults.fired
            assert len(spice_proxy.faults.names) == 2
        """,
        passed=1,
    )


def test_a_client_that_faults_keep_out_is_no_error_of_the_set_up(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import pytest

        @pytest.mark.spice_faults('{ match = { moment = "connect" }, do = "refuse" }')
        def test_it(spice_proxy, spice_client):
            assert spice_client.error and not spice_client.channels
            assert 0

        def test_given_nobody(spice_proxy, spice_client):
            pass
        """,
        "--spice-server=127.0.0.1:1",
        failed=1,
        errors=1,
    )
    result.stdout.fnmatch_lines(["The client has no session: *"])
    result.stdout.fnmatch_lines(["no session: *"])
