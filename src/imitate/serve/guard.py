"""What stands before the API: who may ask, how often and how much; and the headers of every response."""

import asyncio
import base64
import hmac
import logging
import re
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imitate.serve.launch import is_loopback

log = logging.getLogger(__name__)
PACKAGE = Path(__file__).parents[1]
UPLOAD = "/api/images"
QUESTION_BYTES = 2 * 2**20  # of any other request
PATIENCE = 120  # seconds for a body to arrive
GUESS = 20  # requests that a wrong password counts for
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Refused(Exception):
    def __init__(self, status: int, reason: str, **headers: str) -> None:
        self.status, self.reason = status, reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Allowance:
    """``burst`` requests at once, ``rate`` a second in the long run, for each address."""

    def __init__(self, burst: float = 200, rate: float = 50, clock: Callable[[], float] = time.monotonic) -> None:
        self.burst, self.rate, self.clock = burst, rate, clock
        self._spent: dict[str, tuple[float, float]] = {}  # how much, and when

    def left(self, address: str) -> float:
        spent, when = self._spent.get(address, (0.0, 0.0))
        return self.burst - max(0.0, spent - (self.clock() - when) * self.rate)

    def spend(self, address: str, amount: float = 1) -> None:
        self._spent[address] = (self.burst - self.left(address) + amount, self.clock())
        if len(self._spent) > 4096:  # those who have all of it again are nobody
            self._spent = {each: spent for each, spent in self._spent.items() if self.left(each) < self.burst}


class Guard:
    """ASGI middleware. ``local``: the server listens at this machine's own address alone.

    Then only names of this machine are accepted, since a page elsewhere can give its own name this address
    (DNS rebinding). A ``password`` guards everything; a ``token`` the API, since the files of the page, which read the
    token from the address, hold nothing of anybody.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, local: bool, password: str | None = None, token: str | None = None
    ) -> None:
        self.app, self.max_bytes, self.local = app, max_bytes, local
        self.password, self.token = password, token
        self.allowance = Allowance()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(scope)
        except Refused as refused:
            response = JSONResponse({"error": refused.reason}, refused.status, refused.headers)
            await response(scope, receive, sending)
        else:
            as_get = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # the server sends no body then
            try:
                await self.app(as_get, _limited(receive, self._limit(scope)), sending)
            except Exception as error:  # the response is sent by then; what it says may hold words that somebody typed
                log.error("a request failed: %s in %s; please report this", type(error).__name__, _place(error))
                log.debug("the request that failed", exc_info=error)

    def _check(self, scope: Scope) -> None:
        headers, address = Headers(scope=scope), (scope.get("client") or ("",))[0]
        if self.allowance.left(address) < 1:
            raise Refused(429, "too many requests from here: wait a few seconds", retry_after="5")
        self.allowance.spend(address)
        if self.local and not is_loopback(_without_port(headers.get("host", ""))):
            raise Refused(421, "this server accepts the name localhost only: use that name, or start it with --host")
        if headers.get("sec-fetch-site") in {"cross-site", "same-site"} and scope["method"] not in {"GET", "HEAD"}:
            raise Refused(403, "asked by a page of another site: open the viewer itself")
        if self.password is not None and not _same(_password(headers), self.password):
            if "authorization" in headers:
                self.allowance.spend(address, GUESS)
            raise Refused(401, "the password is missing or wrong", www_authenticate='Basic realm="imitate"')
        if self.token is not None and scope["path"].startswith("/api/") and not _same(_token(headers), self.token):
            raise Refused(
                401,
                "the token is missing or wrong: open the whole address that imitate serve printed",
                www_authenticate="Bearer",
            )
        if int(headers.get("content-length", 0)) > self._limit(scope):
            raise Refused(413, _too_large(self._limit(scope)))

    def _limit(self, scope: Scope) -> int:
        return self.max_bytes if scope["path"] == UPLOAD else QUESTION_BYTES


def _place(error: Exception) -> str:
    """The last line of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)] or frames
    return f"{Path(ours[-1].filename).name}, line {ours[-1].lineno}"


def _limited(receive: Receive, limit: int) -> Receive:
    """A body of at most ``limit`` bytes, whatever its header says, and within PATIENCE."""
    received, deadline, more = 0, time.monotonic() + PATIENCE, True

    async def receiving() -> Message:
        nonlocal received, more
        try:
            async with asyncio.timeout(deadline - time.monotonic() if more else None):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, f"the request did not arrive within {PATIENCE} seconds: try again") from error
        more = message.get("more_body", False)
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return receiving


def _too_large(limit: int) -> str:
    return f"too large: at most {limit // 2**20} MiB are allowed; give one radiograph"


def _without_port(host: str) -> str:
    return re.sub(r":\d+$", "", host)


def _same(given: bytes, secret: str) -> bool:
    """In UTF-8, as browsers send it, or in Latin-1, as many programs do."""
    known = [secret.encode("utf-8", "surrogateescape")]
    with suppress(UnicodeEncodeError):
        known.append(secret.encode("latin-1"))
    return any(hmac.compare_digest(given, each) for each in known)


def _token(headers: Headers) -> bytes:
    """Of ``Authorization: Bearer``; empty where there is none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.encode() if scheme.lower() == "bearer" else b""


def _password(headers: Headers) -> bytes:
    """Of HTTP Basic, after any user's name; empty where there is none."""
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except ValueError:
        return b""
