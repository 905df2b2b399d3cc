"""What holds for every schema of what rides inside messages: agent, usbredir, smartcard, webdav."""

from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors import usbredir, vd_agent, vscard, webdav_mux
from dissectors.errors import DissectionError
from dissectors.fields import Record
from dissectors.message import _VALUES, Dissection, MessageSpec
from tests.dissectors.bodies import has_all_of, takes_the_rest, unhurried, values


def _specs() -> dict[str, MessageSpec]:
    specs = {
        f"{spec.name}-{'selection' if selection else 'plain'}-{'serial' if serial else 'plain'}": spec
        for (selection, serial), table in vd_agent.AGENT_VARIANTS.items()
        for spec in table.values()
        if spec.id in vd_agent.CLIPBOARD_MESSAGES or (selection and serial)
    }
    specs |= {
        spec.name: spec for spec in (*vscard.VSC_MESSAGES.values(), *usbredir.USBREDIR_PACKETS.values())
    }
    specs |= {
        f"{spec.name}-{int(caps)}": spec
        for layouts in usbredir.USBREDIR_VARIANTS.values()
        for caps, spec in layouts
    }
    others = (
        vd_agent.HEADER,
        vd_agent.CHUNK_HEADER,
        vd_agent._PLAIN_STATUS,
        usbredir.HEADER_32,
        usbredir.HEADER_64,
        webdav_mux.HEADER,
        webdav_mux.FRAME,
    )
    return specs | {spec.name: spec for spec in others}


SPECS = _specs()
WITH_FIELDS = {
    name: spec for name, spec in SPECS.items() if isinstance(spec.schema, Record) and spec.schema.members
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
every_spec_with_fields = pytest.mark.parametrize("spec", WITH_FIELDS.values(), ids=WITH_FIELDS)


def drawn(data: st.DataObject, spec: MessageSpec) -> dict[str, Any]:
    fields: dict[str, Any] = data.draw(values(spec.schema))
    if fields.get("physical_sizes"):  # as many as monitors: one count for two lists
        sizes = {"height": st.integers(0, 2**16 - 1), "width": st.integers(0, 2**16 - 1)}
        number = len(fields["monitors"])
        listed = st.lists(st.fixed_dictionaries(sizes), min_size=number, max_size=number)
        fields["physical_sizes"]["sizes"] = data.draw(listed)
    return fields


def dissected(spec: MessageSpec, body: bytes) -> Dissection | DissectionError:
    try:
        return spec.dissect(body)
    except DissectionError as error:
        return error


@every_spec
def test_a_meaning_is_one_sentence(spec: MessageSpec) -> None:
    assert spec.meaning.endswith(".")
    assert spec.meaning[0].isupper()
    assert ". " not in spec.meaning


@every_spec_with_fields
@settings(unhurried, max_examples=15)
@given(st.data())
def test_what_was_built_dissects_to_the_same_fields_without_construct(
    spec: MessageSpec, data: st.DataObject
) -> None:
    fields = drawn(data, spec)
    trailing = b"" if takes_the_rest(spec.schema) else data.draw(st.binary(max_size=9))
    body = spec.build(fields, trailing)
    found = spec.dissect(body)
    assert has_all_of(found.fields, fields)
    assert found.trailing == trailing
    assert _VALUES[spec](body) == (found.fields, len(body) - len(trailing))
    assert spec.build(found.fields, found.trailing) == body


@every_spec_with_fields
@settings(unhurried, max_examples=15)
@given(st.data())
def test_damaged_bytes_are_an_error_or_build_to_the_same_bytes(
    spec: MessageSpec, data: st.DataObject
) -> None:
    body = spec.build(drawn(data, spec))
    start = data.draw(st.integers(0, len(body)))
    extreme = body[:start] + data.draw(st.sampled_from([b"\xff" * 4, b"\0\0\0\x80"])) + body[start + 4 :]
    for damaged in [*(body[:cut] for cut in range(len(body))), extreme, data.draw(st.binary(max_size=500))]:
        begun = perf_counter()
        found = dissected(spec, damaged)
        assert perf_counter() - begun < 1  # seconds; on a busy machine
        if isinstance(found, Dissection):
            assert spec.build(found.fields, found.trailing) == damaged
        else:
            assert str(found).startswith(f"{spec.name}: ")
            assert "\n" not in str(found)


@every_spec
def test_fields_that_do_not_fit_are_an_error_of_ours(spec: MessageSpec) -> None:
    with pytest.raises(DissectionError, match=spec.name):
        spec.build({"no_such_field": 1})
