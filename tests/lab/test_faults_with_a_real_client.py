"""A thousand messages dropped and put in on the display of a real client, and it carries on: what counts messages adds up."""

from dataclasses import replace

import pytest

from spiceproxy.faults import parse
from spiceproxy.injection import Faults
from spiceproxy.lab.programs import QEMU
from spiceproxy.lab.result import LabOptions, Picture
from spiceproxy.lab.run import run_lab
from spiceproxy.lab.viewer import needed_programs
from tests.programs import require_programs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

# Half of what is drawn never comes, and as many questions come that nobody asked. A picture that the client does not have is
# nothing that later ones refer to: the servers neither compress across images nor does the guest draw one twice.
RULES = """
[[fault]]
name = "less"
match = { message = "DRAW_COPY", channel = "display", every = 2 }
do = "drop"

[[fault]]
name = "more"
match = { message = "DRAW_COPY", channel = "display", every = 2 }
do = { inject = "SPICE_MSG_PING" }
"""
OPTIONS = LabOptions(accelerators=("tcg",), spice={"image-compression": "off"}, seconds=15)


async def test_spicy_carries_on_through_a_migration_with_a_thousand_messages_less_and_a_thousand_more() -> (
    None
):
    options = replace(OPTIONS, faults=Faults(parse(RULES).rules))
    require_programs(QEMU, *needed_programs(options.client))
    result = await run_lab(options)
    assert result.problems == []
    assert result.ok
    assert result.report is not None
    fired = {name: sum(each.fault == name for each in result.report.faults) for name in ("less", "more")}
    assert min(fired.values()) >= 1000, fired
    (hop,) = result.migrations
    assert hop.picture is Picture.MOVING
    (migration,) = result.report.migrations
    assert (str(migration.performed), str(migration.outcome)) == ("seamless", "completed")
    assert migration.violations == []
