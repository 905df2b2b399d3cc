"""MIGRATE_DATA of hostile peers: the judge says what it finds, and nothing breaks it."""

from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.migration.playbook import seamless
from tests.protocol.migration.rules.breaches import judged
from tests.protocol.migration.rules.breaches_switch import DATA, payload

STATES = {
    channel: seamless().message(DATA, channel, hop=0).body or b""
    for channel in ("main:0", "display:0", "inputs:0", "usbredir:0")
}


@given(st.sampled_from(sorted(STATES)), st.binary(max_size=200))
def test_any_bytes_for_a_state_are_judged(channel: str, body: bytes) -> None:
    found = {each.rule for each in judged(payload(channel, body))}
    assert found & {"R33", "R34"}


@given(st.sampled_from(sorted(STATES)), st.data())
def test_a_state_with_a_few_other_bytes_is_judged(channel: str, data: st.DataObject) -> None:
    body = bytearray(STATES[channel])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(8, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = judged(payload(channel, bytes(body)))
    assert {each.rule for each in found} <= {
        "R33",
        "R34",
        "R35",
        "R36",
        "R37",
        "R46",
        "R47",
        "R51",
        "R52",
        "R53",
    }
