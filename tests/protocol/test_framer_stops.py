"""A framer between which messages are put in: it says where each ends, and can be made to stop behind one."""

from hypothesis import given
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.protocol.framer import Framer, Held, Noted, Pass, Seen, Want
from tests.protocol.streams import CUTS, MESSAGES, WANTED, Sent, framer_for, message_ends, pieces, unhurried

BOOLEANS = st.booleans()


@unhurried
@given(MESSAGES, WANTED, CUTS, BOOLEANS, st.lists(BOOLEANS, min_size=1))
def test_whatever_is_stopped_every_byte_leaves_once_and_every_message_is_told_once(
    messages: list[Sent], wanted: dict[int, Want], cuts: list[int], mini_header: bool, stops: list[bool]
) -> None:
    """The rest of the data is given again, as a relay does that reads through something else from there on."""
    stream = b"".join(message.raw(mini_header=mini_header) for message in messages)
    framer = Framer(Side.SERVER, mini_header=mini_header, wanted=wanted, mark=True)
    passed, ends, told = bytearray(), set[int](), list[tuple[Want, bytes]]()
    queue = list(pieces(stream, cuts))
    turn = 0
    while queue:
        data = memoryview(framer.pending + queue.pop(0))
        framer.stop, turn = stops[turn % len(stops)], turn + 1
        items = framer.walk(data)
        if items is None:
            passed += data
            continue
        for item in items:
            match item:
                case Pass():
                    ends |= {len(passed) + end for end in item.ends}
                    passed += item.data
                case Held(message):
                    told.append((Want.HOLD, message.body))
                    passed += message.header + message.body
                    ends.add(len(passed))
                case Seen(message):
                    told.append((Want.SEE, message.body))
                case Noted(notes):
                    told += [(Want.NOTE, b"")] * len(notes)
        if framer.stopped is not None:
            assert framer.stop
            assert not framer.inside_message
            if framer.stopped < len(data):
                queue.insert(0, bytes(data[framer.stopped :]))
    assert passed == stream
    assert told == [
        (want, b"" if want is Want.NOTE else message.body)
        for message in messages
        if (want := wanted.get(message.id)) is not None
    ]
    assert (framer.messages, framer.offset) == (len(messages), len(stream))
    assert ends <= set(message_ends(messages, mini_header=mini_header))
    if messages:
        assert framer.last_id == messages[-1].id


def test_a_marking_framer_says_where_messages_end_but_not_where_all_passes_as_one() -> None:
    raw = [Sent(id_, b"body").raw(mini_header=True) for id_ in (7, 2, 8, 9)]
    framer = Framer(Side.SERVER, mini_header=True, wanted={2: Want.SEE}, mark=True)
    assert framer.walk(memoryview(raw[0] + raw[2])) is None
    items = framer.walk(memoryview(b"".join(raw)))
    assert items is not None
    (passed,) = [item for item in items if isinstance(item, Pass)]
    assert passed.ends == [10, 20, 30, 40]


def test_a_framer_may_be_told_to_say_where_every_message_ends_from_the_next_walk_on() -> None:
    raw = Sent(7, b"body").raw(mini_header=True)
    framer = framer_for({}, mini_header=True)
    assert framer.walk(memoryview(raw)) is None
    framer.trace = True
    items = framer.walk(memoryview(raw * 2))
    assert items is not None
    assert [item.ends for item in items if isinstance(item, Pass)] == [[10, 20]]


def test_how_much_of_a_body_is_kept_may_change() -> None:
    raw = Sent(2, bytes(100)).raw(mini_header=True)
    framer = framer_for({2: Want.HOLD}, mini_header=True)
    framer.want({2: Want.HOLD}, keep=50)
    items = framer.walk(memoryview(raw))
    assert items is not None
    assert [type(item) for item in items] == [Seen, Pass]
    framer.want({2: Want.HOLD}, keep=100)
    items = framer.walk(memoryview(raw))
    assert items is not None
    assert [type(item) for item in items] == [Held]
