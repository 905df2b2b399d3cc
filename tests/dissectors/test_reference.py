"""docs/messages.md, the page that is made from the schemas."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dissectors import vd_agent
from dissectors.channels import ChannelType
from dissectors.fields import Record, RestBytes
from dissectors.reference import reference
from dissectors.reference_tables import Notation, anchor, escaped
from dissectors.registry import MODULES
from tests.dissectors.listed import LISTED, listed_messages

PAGE = Path(__file__).parents[2] / "docs/messages.md"
# GitHub shows no Markdown that is longer.
MAX_SHOWN_BYTES = 512 * 1024

TEXT = reference()
HEADINGS = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)


def test_the_page_is_what_the_schemas_say() -> None:
    assert PAGE.read_text() == TEXT, "make docs"


def test_the_command_prints_the_page() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dissectors.reference"], check=True, capture_output=True, timeout=60
    )
    assert done.stdout.decode() == TEXT


def test_every_link_leads_to_a_heading_of_its_own() -> None:
    anchors = Counter(anchor(heading) for heading in HEADINGS)
    assert [name for name, count in anchors.items() if count > 1] == []
    links = set(re.findall(r"\]\(#([^)]*)\)", TEXT))
    assert len(links) > 200
    assert links - anchors.keys() == set()


def test_every_message_is_on_the_page_with_its_id() -> None:
    rows = re.findall(r"^\| (\d+) \| \[?(\w+)", TEXT, re.MULTILINE)
    expected = {(str(message["id"]), message["name"]) for _, _, message in listed_messages()}
    expected |= {(str(spec.id), spec.name) for spec in vd_agent.AGENT_MESSAGES.values()}
    assert expected - set(rows) == set()


@pytest.mark.parametrize("channel_type", ChannelType)
def test_every_field_of_every_message_is_in_its_table(channel_type: ChannelType) -> None:
    for specs in (MODULES[channel_type].SERVER_MESSAGES, MODULES[channel_type].CLIENT_MESSAGES):
        for spec in specs.values():
            if spec.id < 100 or not spec.schema.members:
                continue
            section = TEXT.split(f"\n### {spec.name}\n")[1].split("\n#")[0]
            fields = re.findall(r"^\| \d* \| `(\w+)`", section, re.MULTILINE)
            assert fields == [name for name, _ in spec.schema.members]


def test_every_struct_of_the_protocol_has_its_fields_in_a_table() -> None:
    tables = {
        tuple(re.findall(r"^\| \d* \| `(\w+)`", section, re.MULTILINE)) for section in TEXT.split("\n#")
    }
    structs = {name: tuple(field for field, _ in fields) for name, fields in LISTED["structs"].items()}
    assert [name for name, fields in structs.items() if fields and fields not in tables] == []


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    cells = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in TEXT.splitlines() if line.startswith("|")]
    assert set(cells) == {4}


def test_the_page_is_short_enough_to_be_shown() -> None:
    assert len(TEXT.encode()) < MAX_SHOWN_BYTES


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("from MAIN_INIT, as a u32", "from `MAIN_INIT`, as a u32"),
        ("`SPICE_X_*` and SPICE_Y_* are not *this*", "`SPICE_X_*` and `SPICE_Y_*` are not \\*this\\*"),
        ("<b> in `a<b>`", "&lt;b&gt; in `a<b>`"),
        ("USB, QXL and TLS", "USB, QXL and TLS"),
    ],
)
def test_text_comes_out_as_it_was_meant(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_block_that_nobody_can_write_down_is_an_error() -> None:
    class Strange(RestBytes):
        pass

    assert "to the end" in Notation({}).table(Record("data" / Strange()))
    with pytest.raises(TypeError, match="no notation for"):
        Notation({}).written(None)
