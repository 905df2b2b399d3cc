"""Frames of a webdav channel's stream."""

from dissectors.webdav_mux import FRAME, HEADER, HEADER_SIZE


def test_a_frame_says_whose_it_is_and_how_long() -> None:
    head = bytes.fromhex("feffffffffffffff 0300")
    assert HEADER.dissect(head).fields == {"client": -2, "size": 3}
    assert HEADER.build({"client": -2, "size": 3}) == head
    assert len(head) == HEADER_SIZE
    assert FRAME.dissect(b"GET").fields == {"data": b"GET"}
