"""Traffic of every kind from real QEMU and real clients, recorded, and read to the last byte."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from spiceproxy.lab.programs import QEMU
from spiceproxy.lab.result import ClientKind, LabOptions, LabResult, MigrationKind, Picture, Traffic
from spiceproxy.lab.run import run_lab
from spiceproxy.lab.viewer import needed_programs
from tests.programs import require_programs
from tests.whole_capture import WholeCapture, read_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

BASE = LabOptions(accelerators=("tcg",))


@dataclass(frozen=True)
class Case:
    """One run, and what has to be in its recording."""

    name: str
    options: LabOptions
    images: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    inside: frozenset[tuple[str, str]] = frozenset()
    heads: int = 1


def options(*traffic: Traffic, **more: str) -> LabOptions:
    return replace(BASE, traffic=frozenset(traffic), spice={k.replace("_", "-"): v for k, v in more.items()})


# A round of drawing takes 1.8 s, of which some have passed before the client looks.
CASES = (
    Case(
        "uncompressed images, clipboard and input, across a migration",
        options(Traffic.DRAWING, Traffic.CLIPBOARD, Traffic.INPUT, image_compression="off"),
        images=frozenset({"BITMAP", "FROM_CACHE", "SURFACE"}),
        names=(
            "SPICE_MSGC_INPUTS_KEY_DOWN",
            "SPICE_MSGC_INPUTS_MOUSE_POSITION",
            "SPICE_MSGC_INPUTS_MOUSE_PRESS",
            "SPICE_MSG_MIGRATE_DATA",
        ),
        inside=frozenset({("vd_agent", "VD_AGENT_CLIPBOARD"), ("vd_agent", "VD_AGENT_CLIPBOARD_REQUEST")}),
    ),
    Case(
        "GLZ images and a redirected USB drive",
        replace(
            options(Traffic.DRAWING, Traffic.USB, image_compression="glz", zlib_glz_wan_compression="always"),
            hops=0,
            seconds=2,
        ),
        images=frozenset({"GLZ_RGB", "ZLIB_GLZ_RGB", "LZ_PLT"}),
        names=("SPICE_MSG_SPICEVMC_DATA", "SPICE_MSGC_SPICEVMC_COMPRESSED_DATA"),
        inside=frozenset({("usbredir", "usb_redir_control_packet"), ("usbredir", "usb_redir_bulk_packet")}),
    ),
    Case(
        "LZ images on two heads of one adapter, semi-seamless",
        replace(
            options(Traffic.DRAWING, image_compression="lz"),
            migration=MigrationKind.SEMI_SEAMLESS,
            heads=2,
            one_adapter=True,
            seconds=1,
        ),
        images=frozenset({"LZ_RGB", "LZ_PLT"}),
        names=("SPICE_MSG_MAIN_MIGRATE_END",),
        heads=2,
    ),
    Case(
        "QUIC and JPEG images with remote-viewer",
        replace(
            options(Traffic.DRAWING, image_compression="quic", jpeg_wan_compression="always"),
            client=ClientKind.REMOTE_VIEWER,
            seconds=1,
        ),
        images=frozenset({"QUIC", "JPEG", "JPEG_ALPHA"}),
        names=("SPICE_MSG_MIGRATE_DATA",),
    ),
    Case(
        "LZ4 images, sound, port and webdav over two hops",
        replace(
            options(Traffic.DRAWING, Traffic.SOUND, Traffic.PORT, Traffic.WEBDAV),
            preferred_compression="lz4",
            hops=2,
            seconds=1,
        ),
        images=frozenset({"LZ4"}),
        names=(
            "SPICE_MSG_PLAYBACK_DATA",
            "SPICE_MSGC_RECORD_DATA",
            "SPICE_MSG_PORT_INIT",
            "SPICE_MSGC_DISPLAY_PREFERRED_COMPRESSION",
        ),
        inside=frozenset({("webdav", "webdav_frame")}),
    ),
)


async def recorded(chosen: LabOptions, tmp_path: Path) -> tuple[LabResult, WholeCapture]:
    require_programs(QEMU, *needed_programs(chosen.client, chosen.traffic))
    result = await run_lab(replace(chosen, record=tmp_path / "run.pcapng"))
    assert result.problems == []
    assert {migration.picture for migration in result.migrations} <= {Picture.MOVING}
    return result, read_whole(tmp_path / "run.pcapng")


def check_nothing_is_left(whole: WholeCapture) -> None:
    assert whole.messages > 100
    assert whole.undecoded == []
    assert whole.left_over == []
    assert whole.not_rebuilt == []
    assert whole.unreadable == []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_every_message_decodes_to_its_last_byte_and_builds_back(case: Case, tmp_path: Path) -> None:
    _, whole = await recorded(case.options, tmp_path)
    check_nothing_is_left(whole)
    assert set(whole.images) >= case.images
    assert {name for name in case.names if not whole.count(name)} == set()
    assert set(whole.inside) >= case.inside
    assert whole.heads == case.heads


async def test_each_of_two_adapters_has_a_video_of_its_own(tmp_path: Path) -> None:
    video = replace(options(Traffic.VIDEO, streaming_video="all"), heads=2, seconds=1.5)
    result, whole = await recorded(video, tmp_path)
    assert {"display:0", "display:1", "cursor:0", "cursor:1"} <= set(result.channels)
    for display in ("display:0", "display:1"):
        for what in ("CREATE", "DATA", "DESTROY_ALL"):
            assert whole.names[display, f"SPICE_MSG_DISPLAY_STREAM_{what}"] > 0
    check_nothing_is_left(whole)


async def test_dumpcap_captures_a_run_without_the_proxy_whole(tmp_path: Path) -> None:
    require_programs("dumpcap")
    direct = replace(options(Traffic.PORT), direct=True, migration=MigrationKind.SWITCH_HOST)
    result, whole = await recorded(direct, tmp_path)
    assert result.recording == str(tmp_path / "run.pcapng")
    assert (tmp_path / "run.pcapng").stat().st_mode & 0o777 == 0o600
    check_nothing_is_left(whole)
    assert whole.count("SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST") == 1
    assert whole.count("SPICE_MSG_MAIN_INIT") == 2 + 1  # the forwarder's connection to s2 is seen as well
