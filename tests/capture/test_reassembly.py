"""However a stream was cut, mixed, repeated: the bytes are the same."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.capture.reassembly import Half, Pieces
from tests.capture.build import FIN, LINK_MESSAGE, Captured, Talk, hear_packets

STREAM = bytes(range(256)) * 2


def flat(pieces: Pieces) -> list[bytes | int]:
    """With neighbours joined."""
    return [
        b"".join(piece for piece in group if isinstance(piece, bytes))
        if kind
        else sum(p for p in group if isinstance(p, int))
        for kind, group in itertools.groupby(pieces, key=lambda piece: isinstance(piece, bytes))
    ]


@st.composite
def segments(draw: st.DrawFn, size: int) -> list[tuple[int, int]]:
    """(start, end) pieces that cover 0 to `size`, in any order, some of them more than once and overlapping."""
    cuts = draw(st.lists(st.integers(1, size - 1), max_size=12, unique=True).map(sorted))
    covering = list(itertools.pairwise([0, *cuts, size]))
    spans = st.tuples(st.integers(0, size), st.integers(0, size)).map(lambda pair: (min(pair), max(pair)))
    return draw(st.permutations(covering + draw(st.lists(spans, max_size=8))))


@settings(deadline=None)
@given(segments(len(STREAM)), st.integers(0, 2**32 - 1))
def test_any_cutting_order_repetition_and_overlap_gives_the_same_bytes(
    parts: list[tuple[int, int]], first: int
) -> None:
    half = Half()
    half.start(first)
    given_: Pieces = []
    for start, end in parts:
        given_ += half.add(half.number(first + start), STREAM[start:end], 0)
        assert half.kept_bytes == sum(e - s + 200 for s, e, _ in half.kept or ())
    assert flat(given_) == [STREAM]
    assert (half.kept or [], half.kept_bytes) == ([], 0)


@settings(deadline=None)
@given(segments(len(STREAM)), segments(len(LINK_MESSAGE)), st.integers(0, 2**32 - 1), st.data())
def test_the_same_holds_for_packets_of_both_sides_in_a_file(
    server: list[tuple[int, int]], client: list[tuple[int, int]], isn: int, data: st.DataObject
) -> None:
    talk = Talk(client_isn=isn, server_isn=isn ^ 0xFFFFFFFF).greet()
    packets: list[Captured] = [talk.segment(Side.SERVER, start, STREAM[start:end]) for start, end in server]
    packets += [talk.segment(Side.CLIENT, start, LINK_MESSAGE[start:end]) for start, end in client]
    packets.append(talk.segment(Side.SERVER, len(STREAM), flags=FIN))
    # The server's magic would be judged if it came in order before the client's: its first bytes are not "REDQ" here.
    mixed = data.draw(st.permutations(packets))
    opening = [talk.segment(Side.CLIENT, 0, LINK_MESSAGE[:4])]
    heard = hear_packets(talk.packets + opening + mixed)
    assert heard.parts(1, Side.SERVER) == [STREAM]
    assert heard.parts(1, Side.CLIENT) == [LINK_MESSAGE]
    assert [event.side for event in heard.closed] == [Side.SERVER, None]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=20)), max_size=20))
def test_what_came_first_wins_and_the_rest_is_a_gap(parts: list[tuple[int, bytes]]) -> None:
    half = Half()
    half.start(77)
    expected: dict[int, int] = {}
    given_: Pieces = []
    for start, data in parts:
        for at, byte in enumerate(data, start):
            expected.setdefault(at, byte)
        given_ += half.add(half.number(77 + start), data, 0)
    given_ += half.give_up(everything=True)
    values: list[int | None] = []
    for piece in given_:
        values += [None] * piece if isinstance(piece, int) else list(piece)
    size = max(expected, default=-1) + 1
    assert values == [expected.get(at) for at in range(size)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 9)), max_size=20),
    st.integers(0, 90),
    st.integers(0, 90),
)
def test_giving_up_always_comes_to_an_end(parts: list[tuple[int, int, int]], acked: int, fin: int) -> None:
    half = Half()
    half.start(0)
    base, total = half.next, 0
    for number, (start, size, uncaptured) in enumerate(parts):
        pieces = half.add(base + start, bytes(size), uncaptured)
        if number == len(parts) // 2:
            half.acked = base + acked
            pieces += half.give_up(everything=False)
            half.end_at(base + fin)
        total += sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
    pieces = half.give_up(everything=True)
    total += sum(piece if isinstance(piece, int) else len(piece) for piece in pieces)
    assert half.next == base + total
    assert half.kept_bytes == 0
    assert half.fin < 0 or half.ended
