"""A listener is closed in two steps, so that nobody who got a connection is reset."""

import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from gateway.errors import ConfigurationError
from gateway.serving.listening import bind, has_waiting, hold_off

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters what comes to a listener")


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    try:
        (sock,) = bind(request.param, 0)
    except ConfigurationError as err:
        pytest.skip(f"{request.param}: {err.detail}")
    with sock:
        sock.listen()
        sock.setblocking(True)
        yield sock


def test_who_is_connected_stays_and_newcomers_get_no_connection(listener: socket.socket) -> None:
    place = listener.getsockname()[:2]
    with socket.create_connection(place, timeout=5) as early:
        assert hold_off(listener.fileno())
        with pytest.raises(TimeoutError):
            socket.create_connection(place, timeout=0.2)
        assert has_waiting(listener.fileno())
        with listener.accept()[0] as taken:
            assert not has_waiting(listener.fileno())
            listener.close()
            early.sendall(b"POST")
            assert taken.recv(4) == b"POST"
            taken.sendall(b"200")
            assert early.recv(3) == b"200"


def test_a_newcomer_finds_the_port_closed_a_moment_later(listener: socket.socket) -> None:
    place = listener.getsockname()[:2]
    hold_off(listener.fileno())
    closing = threading.Timer(0.2, listener.close)
    closing.start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place, timeout=10)
    closing.join()


def test_what_is_no_socket_of_the_internet_is_left_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hold_off(ours.fileno())
        theirs.sendall(b"a")
        assert ours.recv(1) == b"a"
