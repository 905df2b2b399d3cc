"""Which fault may be behind a breach."""

from dissectors.side import Side
from spiceproxy.protocol.migration.facts import Touched
from spiceproxy.protocol.migration.model import Cause, Evidence, Share, Touch
from spiceproxy.protocol.migration.rules.past import Past
from spiceproxy.protocol.migration.tracker import SessionTracker

CHANGED, MADE = Touch("x", made=False), Touch("x", made=True)


def said(touch: Touch | None = None) -> Evidence:
    return Evidence(None, 0, "c1", "main:0", 0, Side.CLIENT, "SPICE_MSGC_PONG", 12, touch)


def test_nobody_but_the_peer_is_named_where_no_fault_was() -> None:
    assert Past().cause("main:0", [said()]) is None


def test_the_nearest_fault_is_named() -> None:
    past = Past()
    past.touched("display:0", "far")
    assert past.cause("main:0", [said()]) == Cause("far", Share.SESSION)
    assert past.cause(None, []) == Cause("far", Share.SESSION)
    past.touched("main:0", "near")
    past.touched(None, "nowhere")
    assert past.cause("main:0", [said()]) == Cause("near", Share.CHANNEL)
    assert past.cause("main:0", [said(CHANGED)]) == Cause("x", Share.CHANGED)


def test_a_peer_is_cleared_only_where_the_wrong_message_itself_is_a_faults() -> None:
    assert Past().cause("main:0", [said(), said(MADE)]) == Cause("x", Share.MADE)
    assert Past().cause("main:0", [said(MADE), said()]) == Cause("x", Share.CHANGED)
    assert Past().cause("main:0", [said(MADE), said(CHANGED)]) == Cause("x", Share.CHANGED)


def test_a_session_that_nobody_judges_takes_no_harm() -> None:
    assert not SessionTracker("s1").feed(Touched(0, "c1", "x"))
