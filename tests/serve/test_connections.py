import socket

import httpx
import pytest
from processes import HANG
from served import serving

from imitate.serve import connections, server
from imitate.serve.server import create

REQUEST = b"GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"


@pytest.fixture
def opened(service):
    """Opens connections to a server."""
    with serving(create(service)) as address:
        host, port = address.removeprefix("http://").split(":")
        made: list[socket.socket] = []

        def connect(sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
            made.append(socket.create_connection((host, int(port)), timeout=HANG, source_address=(source, 0)))
            made[-1].sendall(sent)
            return made[-1]

        yield connect
        for each in made:
            each.close()


def ended(connection: socket.socket) -> bool:
    """Whether the server closed it; with a reset where it had not read all that came."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", REQUEST[:9]], ids=["nothing", "a part"])
def test_a_head_that_does_not_arrive_is_not_waited_for(opened, monkeypatch, sent):
    monkeypatch.setattr(connections, "HEADERS_WITHIN", 0.1)
    assert ended(opened(sent))


def test_nor_is_the_head_of_another_request(opened, monkeypatch):
    connection = opened(REQUEST)
    assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
    monkeypatch.setattr(connections, "HEADERS_WITHIN", 0.1)  # from the end of the next response on
    connection.sendall(REQUEST + REQUEST[:9])
    received = b""
    while part := connection.recv(2**16):  # until the server closes it
        received += part
    assert received.count(b"HTTP/1.1 200") == 1


def test_a_body_that_does_not_arrive_does_not_keep_the_server_from_stopping(service, monkeypatch):
    monkeypatch.setattr(server, "GRACE", 0.1)
    with serving(create(service)) as address:
        host, port = address.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=HANG)
        connection.sendall(POST)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 100")  # it waits for the body
    connection.close()


@pytest.mark.parametrize("limit", ["OF_ADDRESS", "CONNECTIONS"])
def test_idle_connections_make_room_for_others(opened, monkeypatch, limit):
    monkeypatch.setattr(connections, limit, 2)
    first, second = opened(REQUEST[:9]), opened()
    third = opened(REQUEST)
    assert third.recv(100).startswith(b"HTTP/1.1 200")
    assert ended(first)  # the one that had waited longest
    second.sendall(REQUEST)
    assert second.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("addresses", [1, 8])
def test_two_hundred_idle_connections_keep_nobody_out(opened, service, addresses):
    idle = [opened(REQUEST[:9] if each % 2 else b"", f"127.0.0.{each % addresses + 1}") for each in range(200)]
    assert all(opened(REQUEST, source).recv(100).startswith(b"HTTP/1.1 200") for source in ("127.0.0.1", "127.0.0.99"))
    assert len(idle) == 200


def test_a_request_is_not_given_up_for_a_new_connection(opened, monkeypatch):
    monkeypatch.setattr(connections, "OF_ADDRESS", 1)
    busy = opened(POST)
    assert busy.recv(100).startswith(b"HTTP/1.1 100")  # the server waits for the body
    refused = opened()
    assert ended(refused)
    busy.sendall(b"xx")
    assert busy.recv(100).startswith(b"HTTP/1.1 422")


def test_a_connection_is_used_again(service, monkeypatch):
    monkeypatch.setattr(connections, "OF_ADDRESS", 1)
    with serving(create(service)) as address, httpx.Client(base_url=address, timeout=HANG) as client:
        assert [client.get("/api/about").status_code for _ in range(3)] == [200, 200, 200]


def test_an_upload_that_is_broken_off_is_not_logged(opened, caplog):
    broken = opened(POST)
    assert broken.recv(100).startswith(b"HTTP/1.1 100")
    broken.close()
    assert opened(REQUEST).recv(100).startswith(b"HTTP/1.1 200")
    assert not caplog.records
