"""What is said of things that no byte shows."""

from dissectors.side import Side
from spiceproxy.recording.conversation import MAX_NOTES
from tests.recording.test_conversation import started


def test_what_is_noted_is_said_with_the_next_packet_whoever_sends_it() -> None:
    sink, made = started()
    made.note("first")
    made.note("second")
    assert sink.take() == []
    made.data(Side.CLIENT, 2, b"x", ends=[1], comment="own")
    made.data(Side.SERVER, 3, b"y", ends=[1])
    made.note("last")
    made.close(Side.SERVER, 4)
    assert [packet.comment for packet in sink.take()] == ["first\nsecond\nown", None, "last", None]


def test_notes_that_no_packet_comes_for_are_bounded() -> None:
    sink, made = started()
    for number in range(MAX_NOTES + 5):
        made.note(str(number))
    made.close(None, 5)
    comment = sink.take()[0].comment
    assert comment is not None
    assert len(comment.splitlines()) == MAX_NOTES
