"""The plugin as test suites of clients and servers use it."""

import sys
from itertools import takewhile
from pathlib import Path

import pytest

from spiceproxy.pytest_plugin.background import Background
from spiceproxy.simulate import ServerOptions, open_server
from tests.pytest_plugin.suites import run

pytest_plugins = ["pytester"]

CLIENT = """
import sys, trio
from spiceproxy.simulate import open_client

async def main():
    async with open_client() as client:
        with trio.fail_after(20):
            await client.connect(sys.argv[1], int(sys.argv[2]))
        await trio.sleep(60)

trio.run(main)
"""


def test_a_plain_test_sees_a_seamless_migration(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        def test_migration(spice_proxy, spice_servers, spice_client):
            assert spice_client.channels == spice_proxy.wait_for_client()
            move = spice_servers.migrate()
            assert (move.source, move.destination, move.told, move.problems) == ("s1", "s2", "MIGRATE", [])
            migration = spice_proxy.expect("seamless")
            assert migration.performed == migration.agreed == "seamless"
            assert migration.outcome == "completed"
            assert not migration.violations and not migration.diagnoses
            assert migration.channels["display:0"].data_equal
            assert spice_client.works()
            assert not spice_servers.findings + spice_client.findings
            assert not spice_proxy.faults.fired
        """,
        passed=1,
    )


def test_one_test_may_migrate_in_every_way(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        def test_chain(spice_proxy, spice_servers, spice_client):
            for kind in ("semi-seamless", "seamless", "switch-host", "seamless", "semi-seamless", "switch-host"):
                assert not spice_servers.migrate(kind).problems
                spice_proxy.expect(kind)
                assert spice_client.works()
            assert len(spice_proxy.migrations) == 6
        """,
        passed=1,
    )


def test_markers_and_options_say_as_what_a_migration_is_made(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import pytest

        pytestmark = pytest.mark.spice_servers(kind="semi-seamless")

        def test_module(spice_proxy, spice_servers, spice_client):
            spice_servers.migrate()
            spice_proxy.expect("semi-seamless")

        @pytest.mark.spice_servers("simulated", "switch-host")
        def test_nearer(spice_proxy, spice_servers, spice_client):
            spice_servers.migrate()
            spice_proxy.expect("switch-host")
        """,
        passed=2,
    )


def test_a_failing_test_shows_the_report_and_its_recording_is_kept(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        def test_kind(spice_proxy, spice_servers, spice_client):
            spice_servers.migrate("semi-seamless")
            migration = spice_proxy.wait_for_migration()
            assert migration.performed == "seamless"

        def test_good(spice_proxy, spice_servers, spice_client):
            pass
        """,
        "--spice-artifacts=kept",
        failed=1,
        passed=1,
    )
    result.stdout.fnmatch_lines(
        [
            "*- spiceproxy -*",
            "*semi-seamless as offered, completed*",
            "Channels *",
            "recording: *session.pcapng",
        ]
    )
    kept = [path for path in (suite.path / "kept").rglob("*") if path.is_file()]
    assert {path.name for path in kept} == {"session.pcapng", "events.jsonl"}
    assert {path.parent.name for path in kept} == {
        "test_a_failing_test_shows_the_report_and_its_recording_is_kept.py-test_kind"
    }
    recording = next(path for path in kept if path.name == "session.pcapng")
    result.stdout.fnmatch_lines([f"recording: {recording}"])
    from spiceproxy.capture.reports import read_report

    (migration,) = read_report(str(recording)).migrations
    assert (migration.outcome, migration.performed) == ("completed", "semi-seamless")


def test_the_message_of_a_failed_expectation_is_the_report(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        def test_kind(spice_proxy, spice_servers, spice_client):
            spice_servers.migrate("switch-host")
            spice_proxy.expect("seamless")
        """,
        failed=1,
    )
    result.stdout.fnmatch_lines(
        [
            ">*spice_proxy.expect(*",
            "E *NotAsExpected: expected seamless, but *migration 1: *performed switch-host, completed*",
            "E *offered   seamless version 1*",
            "E *Channels *",
            "*- spiceproxy -*",
            "recording: *",
        ]
    )
    # Under CI pytest repeats whole messages in its summary.
    told = list(takewhile(lambda line: "short test summary" not in line, result.outlines))
    assert sum("migration 1, 127.0.0.1" in line for line in told) == 1, "the report is there twice"


def test_waiting_has_deadlines_and_says_what_it_waited_for(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import pytest
        from spiceproxy.errors import UsageError

        @pytest.mark.spice_client(connect=False)
        def test_it(spice_proxy, spice_client):
            with pytest.raises(AssertionError, match=r"no client has linked its main channel within 0.1 s"):
                spice_proxy.wait_for_client(0.1)
            with pytest.raises(AssertionError, match=r"no migration has begun within 0.1 s"):
                spice_proxy.wait_for_migration(0.1)
            with pytest.raises(AssertionError, match=r"no event within 0.1 s that fits event =="):
                spice_proxy.wait_for_event('event == "session_started"', 0.1)
            with pytest.raises(UsageError, match="no ending `seamles`; did you mean `seamless`"):
                spice_proxy.expect("seamles")
            spice_client.connect()
            assert spice_proxy.wait_for_event('event == "channel_linked" and channel == "main:0"')["hop"] == 0
            assert spice_proxy.events[0]["event"] == "proxy_started"
        """,
        passed=1,
    )


def test_a_ticket_is_asked_for_and_is_in_the_file_for_remote_viewer(suite: pytest.Pytester) -> None:
    run(
        suite,
        """
        import pytest

        @pytest.mark.spice_servers(ticket="open sesame")
        def test_it(spice_proxy, spice_servers, spice_client):
            assert spice_client.works()
            text = spice_proxy.vv.read_text()
            assert "password=open sesame" in text and f"port={spice_proxy.address.port}" in text
            assert b"open sesame" not in spice_proxy.events_file.read_bytes()
        """,
        passed=1,
    )


def test_a_program_is_the_client(suite: pytest.Pytester) -> None:
    script = suite.path / "client.py"
    script.write_text(CLIENT)
    run(
        suite,
        """
        def test_it(spice_proxy, spice_servers, spice_client):
            assert "display:0" in spice_client.channels
            spice_servers.draw()
            assert not spice_servers.migrate().problems
            spice_proxy.expect("seamless")
        """,
        f"--spice-client-command={sys.executable} {script} {{host}} {{port}}",
        passed=1,
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("false {uri}", "no session: no client has linked its main channel within 1 s"),
        ("there-is-no-such-program {vv}", "cannot start there-is-no-such-program: *"),
        ("viewer {address}", "client command 'viewer {address}': it may have {uri}, {host}, {port}, {vv}"),
    ],
)
def test_a_program_that_does_not_come_is_said_in_one_line(
    suite: pytest.Pytester, command: str, said: str
) -> None:
    text = "def test_it(spice_proxy, spice_client): pass"
    result = run(suite, text, f"--spice-client-command={command}", "--spice-timeout=1", errors=1)
    result.stdout.fnmatch_lines([said])


def test_a_server_that_is_there_is_migrated_by_a_command(suite: pytest.Pytester) -> None:
    background = Background()
    try:
        server = background.enter(open_server(ServerOptions()), timeout_s=10).value
        (suite.path / "migrate.py").write_text("import sys; print('migrating', *sys.argv[1:]); sys.exit(3)")
        run(
            suite,
            """
            import pytest
            from spiceproxy.errors import UsageError

            def test_it(spice_proxy, spice_servers, spice_client):
                assert spice_servers.kind == "given"
                assert "main:0" in spice_client.channels
                (problem,) = spice_servers.migrate().problems
                assert f"status 3: migrating {spice_servers.address}" in problem
                with pytest.raises(UsageError, match="not simulated"):
                    spice_servers.draw()
            """,
            f"--spice-server={server.address}",
            f"--spice-migrate-command={sys.executable} migrate.py {{server}}",
            passed=1,
        )
        text = """
        def test_it(spice_servers):
            spice_servers.migrate()
        """
        result = run(suite, text, f"--spice-server={server.address}", failed=1)
        result.stdout.fnmatch_lines(["E *is not the plugin's to migrate*--spice-migrate-command"])
    finally:
        background.close()


def test_trio_tests_await_what_waits(suite: pytest.Pytester) -> None:
    suite.makeini("[pytest]\nfilterwarnings = error\ntrio_mode = true")
    run(
        suite,
        """
        import trio
        from spiceproxy.pytest_plugin.background import awaited
        from spiceproxy.simulate import open_client

        async def test_own_client(spice_proxy, spice_servers, nursery):
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    await trio.sleep(0.001)
                    ticks += 1

            nursery.start_soon(tick)
            async with open_client() as client:
                await client.connect(*spice_proxy.address)
                await awaited(spice_proxy.wait_for_client)
                await awaited(spice_servers.migrate, "seamless")
                assert (await client.wait_migrated()).kind == "seamless"
                migration = await awaited(spice_proxy.expect, "seamless", timeout=5)
            assert migration.outcome == "completed"
            assert ticks > 3
            nursery.cancel_scope.cancel()

        def test_plain(spice_proxy, spice_client):
            assert spice_client.works()
        """,
        passed=2,
    )


def test_workers_of_xdist_have_ports_of_their_own(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("kind", ["seamless", "semi-seamless", "switch-host"])
        def test_it(spice_proxy, spice_servers, spice_client, kind):
            spice_servers.migrate(kind)
            spice_proxy.expect(kind)

        @pytest.mark.spice_scenario("nack-synt")
        def test_misspelt(spice_proxy):
            pass
        """
    )
    result = suite.runpytest_subprocess("-n2")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["there is no scenario `nack-synt`; did you mean `nack-synth`?*"])


def test_a_time_limit_of_the_test_run_ends_a_test_that_waits(suite: pytest.Pytester) -> None:
    result = run(
        suite,
        """
        import pytest

        @pytest.mark.timeout(1, method="signal", func_only=True)
        def test_it(spice_proxy):
            spice_proxy.wait_for_migration(60)
        """,
        failed=1,
    )
    result.stdout.fnmatch_lines(["*Timeout*"])


def test_a_test_run_that_asks_for_nothing_pays_for_nothing(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_imports(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("spiceproxy")
            heavy = ("trio", "construct", "msgspec", "structlog", "dissectors", "spiceproxy.proxy", "click", "rich")
            assert [name for name in heavy if name in sys.modules] == []
            mine = [name for name in sys.modules if name.startswith("spiceproxy")]
            assert sorted(mine) == ["spiceproxy", "spiceproxy.pytest_plugin", "spiceproxy.pytest_plugin.plugin"]
        """
    )
    others = [f"-pno:{name}" for name in ("trio", "hypothesispytest", "xdist", "xdist.looponfail")]
    suite.runpytest_subprocess(*others).assert_outcomes(passed=1)


def test_markers_and_fixtures_are_listed(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.spice_scenario(*): *", "@pytest.mark.spice_client(*): *"])
    result = suite.runpytest_inprocess("--fixtures")
    result.stdout.fnmatch_lines(
        ["spice_servers*", "*SPICE servers with a guest*", "spice_proxy*", "spice_client*"]
    )


def test_qemu_that_is_not_installed_is_said_in_one_line(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(suite, "def test_it(spice_servers): pass", "--spice-server=qemu", errors=1)
    result.stdout.fnmatch_lines(
        ["the lab needs qemu-system-x86_64; on Debian: apt-get install qemu-system-x86"]
    )
