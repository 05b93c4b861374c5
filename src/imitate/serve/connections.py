"""Connections as uvicorn has them, with limits on those that send no request."""

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 128
OF_ADDRESS = 32  # connections of one address; a browser opens six
HEADERS_WITHIN = 10  # seconds, from the opening of the connection or from the end of the request before


class Connection(H11Protocol):
    """Closes itself where no whole head of a request arrives in time, and sooner where others need the place.

    Past a limit, the connection that has waited longest for a request is closed; the new one where all have requests.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_or_not()
        every = cast("set[Connection]", self.connections)
        self._make_room([each for each in every if each.address == self.address], OF_ADDRESS)
        self._make_room([*every], CONNECTIONS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_or_not()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_waiting()

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    def _wait_or_not(self) -> None:
        """The time runs on while parts of a head arrive."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._waiting is None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(HEADERS_WITHIN, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _make_room(self, open_: "list[Connection]", limit: int) -> None:
        if len(open_) <= limit:
            return
        idle = [(each._waiting.when(), id(each), each) for each in open_ if each._waiting and each is not self]
        closed = min(idle)[2] if idle else self
        self.connections.discard(closed)  # now: the protocol learns of its end later
        closed.transport.close()
