"""The same seed and the same input give the same faults, byte for byte, however connections interleave."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.faults import Context, Engine, Moment
from spiceproxy.faults.effects import Effect, Fired
from tests.faults.relaying import engine, unwire, wire

RULES = """
[[fault]]
name = "corrupt"
match = { message = "NOTIFY", probability = 0.5 }
do = { corrupt = 2 }
[[fault]]
name = "delay"
match = { message = "NOTIFY", probability = 0.4 }
do = { delay = { seconds = 0.1, jitter = 1, overtake = true } }
[[fault]]
name = "far"
match = { message = "NOTIFY", probability = 0.2 }
do = { latency = { seconds = 0.1, jitter = 1 } }
[[fault]]
name = "every third"
count = "connection"
match = { message = "NOTIFY", every = 3 }
do = ["duplicate", { inject = "PING" }]
[[fault]]
name = "drop"
match = { message = "NOTIFY", probability = 0.1 }
do = "drop"
"""
CONNECTIONS = [
    Context(session, f"{session}-{channel}", channel, 0)
    for session in ("s1", "s2")
    for channel in (ChannelType.DISPLAY, ChannelType.INPUTS)
]


def played(faults: Engine, order: list[int]) -> dict[str, list[Effect]]:
    """What happens on each connection when they speak in this order."""
    found: dict[str, list[Effect]] = {context.connection: [] for context in CONNECTIONS}
    for context in CONNECTIONS:
        faults.moment(context, Moment.LINKED)
    count = dict.fromkeys(found, 0)
    for index in order:
        context = CONNECTIONS[index]
        count[context.connection] += 1
        number = count[context.connection]
        message = unwire(Side.SERVER, wire(7, bytes([number % 256] * 24)), number=number)
        found[context.connection] += faults.message(context, message)
    return found


def without_numbers(effects: list[Effect]) -> list[str]:
    """Effects without how often their rule has fired: that counts over all connections."""
    return [repr(each) if not isinstance(each, Fired) else f"{each.rule} {each.failed}" for each in effects]


orders = st.lists(st.integers(0, len(CONNECTIONS) - 1), max_size=60)


@settings(deadline=None)
@given(orders, st.integers())
def test_the_same_input_gives_the_same_effects(order: list[int], seed: int) -> None:
    assert played(engine(RULES, seed=seed), order) == played(engine(RULES, seed=seed), order)


@settings(deadline=None)
@given(orders, st.integers(), st.randoms(use_true_random=False))
def test_how_connections_interleave_changes_nothing_on_any_of_them(
    order: list[int], seed: int, random: object
) -> None:
    shuffled = list(order)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = played(engine(RULES, seed=seed), order), played(engine(RULES, seed=seed), shuffled)
    for connection, effects in one.items():
        # Comments count firings of the rule over all connections; what is done does not.
        done = [each.split(", comment=")[0] for each in without_numbers(effects)]
        assert done == [each.split(", comment=")[0] for each in without_numbers(other[connection])]


@settings(deadline=None)
@given(st.integers(), st.integers())
def test_another_seed_gives_other_faults(one: int, other: int) -> None:
    order = [0] * 200
    same = played(engine(RULES, seed=one), order) == played(engine(RULES, seed=other), order)
    assert same is (one == other)
