"""remote-viewer, given a file as Proxmox VE makes it, and guests on two nodes behind the cluster's HTTP proxy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.lab.qemu import HOST, free_port
from spiceproxy.lab.secured import Certificates, subject_of
from tests.programs import require_programs
from tests.ways.proxmox import cluster_proxy, name_of, vv_of
from tests.ways.real import SPICY_CHANNELS, Place, Real, require_real_programs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

CHANNELS = [name for name in SPICY_CHANNELS if name != "webdav:0"]


@pytest.mark.parametrize(
    "mode",
    ["listen", pytest.param("connect", marks=pytest.mark.nightly)],
    ids=["given its file", "in its place"],
)
async def test_remote_viewer_is_followed_from_node_to_node(mode: str, tmp_path: Path) -> None:
    require_real_programs()
    require_programs("remote-viewer")
    certificates = Certificates(tmp_path)
    places = [Place(Address(HOST, free_port()), Address(HOST, free_port())) for _ in range(2)]
    given, ours, events = tmp_path / "pve.vv", tmp_path / "vm.vv", tmp_path / "events.jsonl"
    async with cluster_proxy() as cluster, trio.open_nursery() as nursery:
        real = Real(tmp_path, nursery, places, webdav=False, certificates=certificates)
        await real.start()
        # A name is good for 40 s.
        ca, first = certificates.ca.read_text(), places[0].address
        given.write_text(
            vv_of(name_of("pve1"), first.port, proxy=cluster.address, ca=ca, subject=subject_of("s1"))
        )
        command = [sys.executable, "-m", "spiceproxy", "run", "--json", "--server-vv", str(given)]
        command += ["--vv", str(ours), "--events", str(events), "--expect", "seamless"]
        if mode == "connect":
            command += ["--mode", "connect", "--allow", "pve1:*", "--allow", "pve2:*"]
        environment = os.environ | {"XDG_DATA_HOME": str(tmp_path)}
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, env=environment)
        try:
            assert process.stdout is not None
            with trio.fail_after(30):
                line = b""
                while not line.endswith(b"\n"):
                    line += await process.stdout.receive_some()
            await real.connect(["remote-viewer", str(ours)], CHANNELS)
            await real.see_the_guest_move()
            await real.migrate(CHANNELS, told=name_of("pve2"))
            await real.see_the_guest_move()
            await real.clients[0].stop()
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()
        nursery.cancel_scope.cancel()
    assert process.returncode == 0
    said = [json.loads(line) for line in events.read_text().splitlines()]
    hops = {event["channel"]: event["hop"] for event in said if event["event"] == "channel_linked"}
    assert hops == dict.fromkeys(CHANNELS, 1)
    assert cluster.refused == []
    assert {"pve1", "pve2"} == set(cluster.asked)
    assert cluster.asked.count("pve2") == len(CHANNELS)
    rewritten = [event for event in said if event["event"] == "message_rewritten"]
    assert len(rewritten) == (1 if mode == "listen" else 0)
