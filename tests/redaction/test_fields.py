"""Where fields lie, against what construct reads there."""

import pytest
from hypothesis import given

from dissectors.errors import DissectionError
from dissectors.image import Image
from dissectors.registry import find
from spiceproxy.redaction.fields import Plan
from spiceproxy.redaction.kinds import KEEPABLE, Kind
from spiceproxy.redaction.table import How, Rule
from tests.dissectors.bodies import unhurried, values
from tests.dissectors.damage import bodies, numbers
from tests.redaction.leaves import SPECS

EACH = pytest.mark.parametrize("name", SPECS)
EVERYTHING = Plan(frozenset(Kind))


@EACH
def test_kept_and_secret_fields_are_all_that_the_decoder_reads(name: str) -> None:
    spec = SPECS[name]
    for body in bodies(spec):
        fields = spec.dissect(body).fields
        places = Plan().places(spec.schema, fields, body)
        covered = bytearray(len(body))
        for start, end in [*places.kept, *((secret.start, secret.end) for secret in places.secret)]:
            assert 0 <= start <= end <= len(body)
            covered[start:end] = b"\1" * (end - start)
        assert covered == b"\1" * len(body)  # what hypothesis builds has no gaps


@EACH
def test_numbers_lie_in_one_place_whole(name: str) -> None:
    spec = SPECS[name]
    for body in bodies(spec):
        places = Plan().places(spec.schema, spec.dissect(body).fields, body)
        ranges = [*places.kept, *((secret.start, secret.end) for secret in places.secret)]
        for number in numbers(spec, body):
            assert any(start <= number.at and number.at + number.size <= end for start, end in ranges)


@EACH
def test_with_every_kind_kept_only_streams_are_left_to_those_who_read_them(name: str) -> None:
    spec = SPECS[name]
    for body in bodies(spec):
        secrets = EVERYTHING.places(spec.schema, spec.dissect(body).fields, body).secret
        assert {secret.rule.how for secret in secrets} <= {How.STREAM, How.BLOCK}


def test_a_field_of_bytes_without_a_row_is_secret() -> None:
    spec = find("SPICE_MSG_MAIN_NAME")[0][2]
    body = spec.build({"name": "somebody"})
    (secret,) = Plan(rules={}).places(spec.schema, spec.dissect(body).fields, body).secret
    assert body[secret.start : secret.end] == b"somebody\0"
    assert secret.rule == Rule(Kind.UNREAD)


@unhurried
@given(values(Image))
def test_the_data_of_an_image_know_their_image(fields: dict[str, object]) -> None:
    spec = find("SPICE_MSG_DISPLAY_DRAW_COPY")[0][2]
    copy = {
        "base": {"surface_id": 0, "box": dict.fromkeys(("top", "left", "bottom", "right"), 0), "clip": {"type": 0}},
        "data": {
            "src_bitmap": fields, "src_area": dict.fromkeys(("top", "left", "bottom", "right"), 0),
            "rop_descriptor": 8, "scale_mode": 0, "mask": {"flags": 0, "pos": {"x": 0, "y": 0}},
        },
    }  # fmt: skip
    try:
        body = spec.build(copy)
        read = spec.dissect(body).fields
    except DissectionError:  # lists and their counts need not fit
        return
    for secret in Plan().places(spec.schema, read, body).secret:
        if secret.rule.how is How.IMAGE:
            assert secret.image is not None
            assert secret.image["id"] == fields["descriptor"]["id"]  # type: ignore[index]


@pytest.mark.parametrize("keep", [*({kind} for kind in KEEPABLE), set(KEEPABLE)], ids=[*KEEPABLE, "all"])
def test_a_kind_that_is_kept_is_never_secret(keep: set[Kind]) -> None:
    plan = Plan(frozenset(keep))
    for name in (
        "main-SPICE_MSG_MAIN_NAME",
        "inputs-SPICE_MSGC_INPUTS_KEY_DOWN",
        "cursor-SPICE_MSG_CURSOR_SET",
    ):
        spec = SPECS[name]
        for body in bodies(spec):
            for secret in plan.places(spec.schema, spec.dissect(body).fields, body).secret:
                assert secret.rule.kind not in keep
