"""One rule, one message: what tests of actions begin with."""

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.faults import Context, Engine
from spiceproxy.faults.effects import Effect, Fired
from tests.faults.relaying import engine, unwire, wire

MAIN, DISPLAY, INPUTS = ChannelType.MAIN, ChannelType.DISPLAY, ChannelType.INPUTS
SECOND = 1_000_000_000
S, C = Side.SERVER, Side.CLIENT
MIGRATE = wire(1, b"\3\0\0\0")


def on(channel_type: int = MAIN, **changes: object) -> Context:
    """A connection of session s1."""
    return Context("s1", "c1", channel_type, 0, **changes)  # type: ignore[arg-type]


def does(
    do: str,
    match: str = 'message = "SPICE_MSG_MIGRATE"',
    *,
    extra: str = "",
    seed: int = 0,
    **variables: object,
) -> Engine:
    """An engine with one rule."""
    return engine(f"[[fault]]\n{extra}\nmatch = {{ {match} }}\ndo = {do}\n", seed=seed, **variables)


def only_fired(effects: list[Effect]) -> Fired:
    """What says that the rule has fired, once."""
    (found,) = (each for each in effects if isinstance(each, Fired))
    return found


def migrate(faults: Engine, context: Context | None = None, number: int = 1) -> list[Effect]:
    """What comes of MIGRATE on the inputs channel."""
    return faults.message(context or on(INPUTS), unwire(S, MIGRATE, number=number))
