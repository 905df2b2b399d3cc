"""Our own ends of connections are known as long as they are open."""

import socket

import pytest

from spiceproxy.address import Address
from spiceproxy.sockets import local_address
from spiceproxy.ways import own
from spiceproxy.ways.own import OwnConnections


def test_a_connection_is_known_until_it_is_closed_also_as_another_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own, "_MANY", 2)
    known = OwnConnections()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first = socket.create_connection(listener.getsockname())
        address = local_address(first)
        assert address not in known
        known.add(first)
        with socket.socket(fileno=first.detach()):
            assert address in known
            for _ in range(5):  # those that are closed are forgotten when there are many
                with socket.create_connection(listener.getsockname()) as other:
                    known.add(other)
                    assert local_address(other) in known
            assert address in known
        assert address not in known
        assert Address("127.0.0.1", 1) not in known
    assert len(known._known) <= 3
