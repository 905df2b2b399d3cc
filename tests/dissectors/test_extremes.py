"""Every schema there is, cut at each byte and with each number at its extremes: an error of ours, at once, in no memory.

`benchmarks/extremes.py` measures the same as exactly as a machine allows.
"""

import struct
import tracemalloc
from time import perf_counter
from typing import Any

import pytest

from dissectors.errors import DissectionError
from dissectors.fields import Count, FixedItems, Items, ItemsToEnd, Pointer, Record, Switch
from dissectors.message import Dissection, MessageSpec
from tests.dissectors.bodies import takes_the_rest
from tests.dissectors.damage import ALL_SPECS, Number, bodies, cuts, damaged, extremes, numbers

MEMORY_BYTES = 2**20
# For one body. The aim is 10 ms; what is tested here is that nothing walks over what is not there, and a machine that
# has other things to do is no failure.
TIME_S = 1.0

WITH_FIELDS = {
    name: spec
    for name, spec in ALL_SPECS.items()
    if not isinstance(spec.schema, Record) or spec.schema.members
}
every_schema = pytest.mark.parametrize("spec", WITH_FIELDS.values(), ids=WITH_FIELDS)


def dissected(spec: MessageSpec, body: bytes) -> Dissection | None:
    try:
        return spec.dissect(body)
    except DissectionError as error:
        said = str(error)
    assert said.startswith(f"{spec.name}: ")
    assert "\n" not in said
    return None


@every_schema
def test_a_body_cut_anywhere_is_an_error(spec: MessageSpec) -> None:
    ends_anywhere = takes_the_rest(spec.schema)
    for body in bodies(spec):
        for cut in cuts(body):
            found = dissected(spec, cut)
            if found is not None:
                assert ends_anywhere, cut.hex(" ")
                assert spec.build(found.fields, found.trailing) == cut


@every_schema
def test_numbers_at_their_extremes_are_an_error_or_build_to_the_same_bytes(spec: MessageSpec) -> None:
    for body in bodies(spec):
        for number in numbers(spec, body):
            for changed in extremes(body, number):
                found = dissected(spec, changed)
                if found is not None:
                    assert spec.build(found.fields, found.trailing) == changed
                    value = int.from_bytes(changed[number.at : number.at + number.size], "little")
                    assert number.role == "other" or value <= len(body), (
                        "nothing has that many, or lies there"
                    )


@every_schema
def test_no_damage_costs_much_time_or_memory(spec: MessageSpec) -> None:
    dissected(spec, bodies(spec)[0])  # compiles
    tracemalloc.start()
    try:
        for body in set(damaged(spec, bodies(spec)[-1])):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            begun = perf_counter()
            dissected(spec, body)
            assert perf_counter() - begun < TIME_S
            assert tracemalloc.get_traced_memory()[1] - before < MEMORY_BYTES
    finally:
        tracemalloc.stop()


def test_counts_and_offsets_are_found_where_they_stand() -> None:
    spec = ALL_SPECS["main-SPICE_MSG_MAIN_MIGRATE_BEGIN"]
    body = struct.pack("<HHIIII", 5900, 0, 5, 20, 0, 0) + b"kvm1\0"
    # Port, TLS port, host_size, host_data; cert_subject_size counts what is not there, and its offset is one all the same.
    assert numbers(spec, body) == [
        (0, 2, "other"), (2, 2, "other"), (4, 4, "count"), (8, 4, "offset"), (12, 4, "other"), (16, 4, "offset"),
    ]  # fmt: skip


def test_extremes_of_a_count_are_all_others_than_the_one_that_is_there() -> None:
    body = b"\4\0\0\0abcd"
    made = list(extremes(body, Number(0, 4, "count")))
    assert all(len(each) == len(body) and each[4:] == b"abcd" for each in made)
    values = sorted(int.from_bytes(each[:4], "little") for each in made)
    assert values == [0, 1, 7, 8, 9, 2**31 - 1, 2**31, 2**32 - 1]


def test_every_schema_with_a_count_or_an_offset_has_a_body_where_it_is_tried() -> None:
    tried = {
        name
        for name, spec in WITH_FIELDS.items()
        if any(number.role != "other" for body in bodies(spec) for number in numbers(spec, body))
    }
    assert tried == {name for name, spec in WITH_FIELDS.items() if _has_reference(spec.schema)}


def _has_reference(schema: Any) -> bool:
    if isinstance(schema, Count | Pointer):
        return True
    if isinstance(schema, Switch):
        return any(_has_reference(case.schema) for case in schema.cases)
    if isinstance(schema, Record):
        return any(_has_reference(member) for _, member in schema.members)
    return isinstance(schema, Items | FixedItems | ItemsToEnd) and _has_reference(schema.subcon)
