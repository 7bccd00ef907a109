"""The WebSocket of the client, from the package `websockets`, 10.4 (Debian 12) or newer."""

from __future__ import annotations

import asyncio
from typing import Protocol

from .limits import CONNECT_TIMEOUT_MS, SERVER_MESSAGE_BYTES_MAX


class SocketClosed(Exception):
    """The connection has ended; `code` is 1006 if there was no close frame."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class CannotOpen(Exception):
    """No WebSocket opened. `retry_after_ms` is the hint of a refused upgrade, or 0."""

    def __init__(self, detail: str, retry_after_ms: float = 0) -> None:
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms


class Socket(Protocol):
    """The operations that the client needs; tests bring their own. Reading and writing raise SocketClosed."""

    async def receive(self) -> bytes | str: ...

    async def send(self, data: bytes) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class _WebSocket:
    def __init__(self, inner: object, closed: type[Exception]) -> None:
        self._inner = inner
        self._closed = closed

    async def receive(self) -> bytes | str:
        try:
            return await self._inner.recv()  # type: ignore[attr-defined]
        except self._closed as error:
            raise SocketClosed(_code(error)) from error

    async def send(self, data: bytes) -> None:
        try:
            await self._inner.send(data)  # type: ignore[attr-defined]
        except self._closed as error:
            raise SocketClosed(_code(error)) from error

    async def close(self, code: int, reason: str) -> None:
        await self._inner.close(code, reason[:100])  # type: ignore[attr-defined]


def _code(error: Exception) -> int:
    received = getattr(error, "rcvd", None)
    return received.code if received is not None else 1006


async def open_websocket(url: str) -> Socket:
    """Opens a WebSocket within CONNECT_TIMEOUT. Raises CannotOpen."""
    import websockets
    import websockets.exceptions

    try:
        inner = await websockets.connect(
            url,
            open_timeout=CONNECT_TIMEOUT_MS / 1000,
            close_timeout=2,
            ping_interval=None,
            compression=None,
            max_size=SERVER_MESSAGE_BYTES_MAX,
        )
    except (OSError, asyncio.TimeoutError, EOFError, ValueError, websockets.exceptions.WebSocketException) as error:
        raise CannotOpen(f"{type(error).__name__}: {error}", _retry_after_ms(error)) from error
    return _WebSocket(inner, websockets.exceptions.ConnectionClosed)


def _retry_after_ms(error: Exception) -> float:
    """Retry-After of a refused upgrade. InvalidStatusCode (10.4) has headers, InvalidStatus (newer) has a response."""
    headers = getattr(error, "headers", None) or getattr(getattr(error, "response", None), "headers", None)
    try:
        return max(0.0, float(headers["Retry-After"]) * 1000) if headers and "Retry-After" in headers else 0
    except ValueError:
        return 0
