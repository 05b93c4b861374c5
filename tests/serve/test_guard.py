import asyncio
import base64
import socket

import httpx
import pytest
from processes import HANG
from served import serving

from imitate.serve import guard
from imitate.serve.guard import HEADERS, Allowance, Guard
from imitate.serve.server import create


async def echo(scope, receive, send):
    """Reads the whole body and responds with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def ask(app, method: str = "GET", *, headers=None, address: str = "127.0.0.1", **options) -> httpx.Response:
    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, options.pop("url", "/"), headers=headers, **options)

    return asyncio.run(asking())


def guarded(**changes) -> Guard:
    return Guard(echo, **{"max_bytes": 3 * 2**20, "password": None, "local": True, **changes})


def basic(password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()}


def test_every_response_has_the_headers():
    responses = [ask(guarded()), ask(guarded(password="x")), ask(guarded(), headers={"host": "elsewhere"})]
    assert [response.status_code for response in responses] == [200, 401, 421]
    for response in responses:
        assert HEADERS.items() <= dict(response.headers).items()
    assert "'unsafe" not in HEADERS["content-security-policy"]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "127.0.0.2:8000", "[::1]:8000", "[::1]"]
)
def test_names_of_this_machine_are_accepted(host):
    assert ask(guarded(), headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["example.org", "localhost.example.org", "127.0.0.1.example.org:8000", "10.0.0.1", ""])
def test_other_names_are_not_unless_it_listens_to_others(host):
    assert ask(guarded(), headers={"host": host}).status_code == 421
    assert ask(guarded(local=False, password="x"), headers={"host": host, **basic("x")}).status_code == 200


def test_pages_of_other_sites_may_not_ask():
    assert ask(guarded(), "POST", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert ask(guarded(), "POST", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert ask(guarded(), "GET", headers={"sec-fetch-site": "cross-site"}).status_code == 200  # a link to the viewer


@pytest.mark.parametrize(
    "headers", [{}, basic("wrong"), basic(""), {"authorization": "Basic %%%"}, {"authorization": "Bearer secret"}]
)
def test_password(headers):
    app = guarded(password="sécret")
    refused = ask(app, headers=headers)
    assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Basic")
    assert ask(app, headers=basic("sécret")).status_code == 200


def test_a_password_is_known_in_both_encodings_that_clients_use():
    app = guarded(password="sécret")
    for encoding in ("utf-8", "latin-1"):
        sent = base64.b64encode("anyone:sécret".encode(encoding)).decode()
        assert ask(app, headers={"authorization": f"Basic {sent}"}).status_code == 200
    app = guarded(password="密secret")  # not in Latin-1, of which no part may do
    assert ask(app, headers=basic("secret")).status_code == 401 and ask(app, headers=basic("密secret")).text == "0"
    assert ask(guarded(password="\udcff"), headers=basic("x")).status_code == 401  # a byte that is no UTF-8


def test_a_token_guards_the_api():
    app = guarded(token="secret")
    assert ask(app, url="/").status_code == ask(app, url="/viewer.js").status_code == 200
    for method, url, headers in [
        ("GET", "/api/about", {}),
        ("GET", "/api/about?token=secret", {}),  # in no address, which a proxy would log
        ("GET", "/api/about", {"authorization": "Bearer wrong"}),
        ("GET", "/api/about", basic("secret")),
        ("DELETE", "/api/images/1", {}),
    ]:
        refused = ask(app, method, url=url, headers=headers)
        assert refused.status_code == 401 and "address that imitate serve printed" in refused.json()["error"]
    assert ask(app, "POST", url="/api/images", headers={"authorization": "Bearer secret"}).status_code == 200
    assert ask(app, url="/api/images/1/picture", headers={"authorization": "bearer secret"}).status_code == 200


def test_head_is_asked_like_get():
    async def method(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"asked", scope["method"].encode())]})
        await send({"type": "http.response.body", "body": b""})

    assert ask(Guard(method, max_bytes=1, local=True), "HEAD").headers["asked"] == "GET"


def test_guessing_a_password_is_slow():
    app = guarded(password="secret")
    app.allowance = Allowance(rate=0)
    codes = [ask(app, headers=basic(str(guess))).status_code for guess in range(12)]
    assert codes[0] == 401 and codes[-1] == 429
    assert ask(app, headers=basic("secret")).status_code == 429
    assert ask(app, headers=basic("secret"), address="127.0.0.2").status_code == 200


def test_nobody_guesses_under_a_name_of_their_own(service):
    """Forwarded addresses are not believed, not even from this machine."""
    app = create(service, password="secret")
    app.allowance = Allowance(rate=0)  # however slow this machine is
    with serving(app) as address:
        codes = [
            httpx.get(
                address, auth=("me", str(guess)), headers={"X-Forwarded-For": f"10.0.0.{guess}"}, timeout=HANG
            ).status_code
            for guess in range(12)
        ]
    assert codes[0] == 401 and codes[-1] == 429


def test_a_body_may_not_be_too_large():
    assert ask(guarded(), "POST", url=guard.UPLOAD, content=b"x" * (3 * 2**20)).text == str(3 * 2**20)
    refused = ask(guarded(), "POST", url=guard.UPLOAD, content=b"x" * (3 * 2**20 + 1))
    assert refused.status_code == 413 and "at most 3 MiB" in refused.json()["error"]
    assert ask(guarded(), "POST", url="/api/texts/embedding", content=b"x" * (2 * 2**20 + 1)).status_code == 413


def test_a_body_without_a_length_is_counted(service):
    def endless():
        for _ in range(80):
            yield b"x" * 2**20

    with serving(create(service)) as address:
        refused = httpx.post(f"{address}/api/images", content=endless(), timeout=HANG)
        assert refused.status_code == 413 and "at most 64 MiB" in refused.json()["error"]
        assert httpx.get(f"{address}/api/about", timeout=HANG).status_code == 200


def test_a_body_that_never_ends_is_given_up(service, monkeypatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.2)

    with serving(create(service)) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=HANG) as connection:
            connection.sendall(b"POST /api/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
            assert connection.recv(100).startswith(b"HTTP/1.1 408")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_allowance_is_refilled_with_time():
    clock = Clock()
    allowance = Allowance(burst=3, rate=2, clock=clock)
    for _ in range(3):
        allowance.spend("a")
    assert allowance.left("a") == 0 and allowance.left("b") == 3
    clock.now = 1
    assert allowance.left("a") == 2
    clock.now = 100
    assert allowance.left("a") == 3


def test_allowance_forgets_who_has_all_of_it():
    clock = Clock()
    allowance = Allowance(clock=clock)
    for address in range(4096):
        allowance.spend(str(address))
    clock.now = 60
    allowance.spend("last")
    assert len(allowance._spent) == 1


def test_too_many_requests():
    app = guarded()
    app.allowance = Allowance(burst=2, rate=0)
    assert [ask(app).status_code for _ in range(3)] == [200, 200, 429]
    assert ask(app).headers["retry-after"]
