"""The units under a real systemd, as docs/service.md says to install them: tests.service.machine boots one."""

import time
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.service.machine import Machine, machine

pytestmark = pytest.mark.lab

# A client that is migrated once. It comes to the port given, and prints what became of it.
PLAY = """
import json, sys, trio
from spiceproxy.simulate import ServerOptions, open_client, open_server
async def main(host, port, s1_port):
    with trio.fail_after(40):
        async with open_server(ServerOptions(port=s1_port)) as s1, open_server(ServerOptions(incoming=True)) as s2:
            async with open_client() as client:
                await client.connect(host, port)
                await s1.wait_client_arrived()
                s1.draw(20)
                s1.migrate_connect(*s2.address)
                await s1.wait_client_connected()
                s1.hand_over_to(s2)
                outcome = await s1.migrate_end()
                report = await client.wait_migrated()
                await s2.wait_client_arrived()
                s2.draw(20)
    print(json.dumps([outcome.name, report.kind, report.destination.host]))
trio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""
MOVED = ("MIGRATE", "seamless")  # and where it was told to go
GET = """
import json, sys, urllib.request
print(json.dumps(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}{sys.argv[2]}", timeout=10).read().decode()))
"""
RECORDING = "/var/lib/spiceproxy"


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine")) as it:
        yield it


def install(it: Machine, name: str, port: int, server: int, options: str, service: str = "") -> str:
    """A proxy of its own; `service` goes into its unit. The name of that."""
    it.write(f"/etc/spiceproxy/{name}.conf", f"SERVER=127.0.0.1:{server}\nOPTIONS={options}\n")
    socket = f"[Socket]\nListenStream=\nListenStream={port}\n"
    it.write(f"/etc/systemd/system/spiceproxy@{name}.socket.d/override.conf", socket)
    it.write(f"/etc/systemd/system/spiceproxy@{name}.service.d/override.conf", f"[Service]\n{service}\n")
    it.run("systemctl", "daemon-reload")
    return f"spiceproxy@{name}.service"


def wait_for(it: Machine, unit: str, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in it.journal(unit):
        assert time.monotonic() < deadline, it.journal(unit)[-2000:]
        time.sleep(0.05)


def values_of(text: str) -> dict[str, float]:
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}


def test_a_client_starts_the_proxy_which_follows_it_and_has_few_rights(booted: Machine) -> None:
    options = f"--record-ring 60 --record {RECORDING}/vm1.pcapng --metrics 9471"
    unit = install(booted, "vm1", 5901, 5801, options)
    booted.run("systemctl", "enable", "--now", "spiceproxy@vm1.socket")
    assert booted.show(unit, "ActiveState") == {"ActiveState": "inactive"}
    assert booted.python(PLAY, "127.0.0.1", "5901", "5801") == [*MOVED, "127.0.0.1"]
    state = booted.show(unit, "ActiveState", "StatusText", "MainPID", "NRestarts")
    assert state["ActiveState"] == "active"
    assert state["StatusText"].startswith("listening on ")
    assert state["NRestarts"] == "0"
    status = booted.run("cat", f"/proc/{state['MainPID']}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(facts["Uid"].split()).isdisjoint({"0"})
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")

    values = values_of(booted.python(GET, "9471", "/metrics"))
    assert values["spiceproxy_sessions_total"] == 1
    assert values["process_open_fds"] > 5  # what of /proc it may see is enough for these
    assert booted.python(GET, "9471", "/healthz") == '{"status":"ok"}'

    booted.run("systemctl", "kill", "--signal=USR1", unit)
    wait_for(booted, unit, "recording_dumped")
    files = booted.run("sh", "-c", f"stat -c '%a %U %n' {RECORDING}/vm1-*").splitlines()
    assert len(files) == 1
    assert files[0].startswith("600 spiceproxy ")
    booted.run("systemctl", "reload", unit)
    wait_for(booted, unit, "reloaded")
    booted.run("systemctl", "stop", unit)
    assert booted.show(unit, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert "migration_ended" in booted.journal(unit)


def test_another_machine_has_another_port_for_clients_of_ipv4_and_of_ipv6(booted: Machine) -> None:
    first = install(booted, "vm2", 5902, 5802, "")
    unit = install(booted, "vm3", 5903, 5803, f"--record {RECORDING}/vm3.pcapng")
    booted.run("systemctl", "start", first, unit)  # and with them their sockets
    assert booted.show(first, "StatusText") == {"StatusText": "listening on [::]:5902"}
    for host in ("127.0.0.1", "::1"):
        assert booted.python(PLAY, host, "5903", "5803") == [*MOVED, host]
    booted.run("systemctl", "stop", first, unit)
    assert int(booted.run("stat", "-c", "%s", f"{RECORDING}/vm3.pcapng")) > 10_000


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("signal", "limits", "said"),
    [
        pytest.param("KILL", "", "status=9/KILL", id="dies"),
        pytest.param("STOP", "WatchdogSec=2\nTimeoutAbortSec=1", "Watchdog timeout", id="hangs"),
    ],
)
def test_a_proxy_that_dies_or_hangs_is_started_anew_and_its_clients_wait(
    booted: Machine, signal: str, limits: str, said: str
) -> None:
    unit = install(booted, f"vm4{signal}", 5904, 5804, "", f"RestartSec=100ms\n{limits}")
    booted.run("systemctl", "start", unit)
    before = booted.show(unit, "MainPID")["MainPID"]
    booted.run("kill", f"-{signal}", before)
    assert booted.python(PLAY, "127.0.0.1", "5904", "5804") == [*MOVED, "127.0.0.1"]
    state = booted.show(unit, "MainPID", "NRestarts", "ActiveState")
    assert state == {"MainPID": state["MainPID"], "NRestarts": "1", "ActiveState": "active"}
    assert state["MainPID"] != before
    assert said in booted.journal(unit)
    booted.run("systemctl", "stop", unit, f"spiceproxy@vm4{signal}.socket")


def test_a_configuration_that_is_wrong_says_so_in_the_journal(booted: Machine) -> None:
    unit = install(booted, "vm5", 5905, 5805, "--record-keep 3")
    booted.run("systemctl", "start", unit, check=False)
    assert "needs --record, the file that it is about" in booted.journal(unit)
    booted.run("systemctl", "stop", unit, "spiceproxy@vm5.socket")
