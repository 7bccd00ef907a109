"""Requests without their answers: numbers, times and repetition. No input or output; times in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from .limits import REQUEST_SPACING_MS, REQUEST_TIMEOUT_MS, REQUESTS_IN_FLIGHT
from .reconnect import ceiling_ms
from .state import user_of

@dataclass(eq=False)
class Request:
    """Something asked of the service until it answers. `finish` gets None, or the code of the ERROR that ended it."""

    type: str
    application: str
    user_token: str = ""
    topic: str = ""
    finish: list[Callable[[str | None], None]] = field(default_factory=list)
    not_before_ms: float = 0
    attempt: int = 0
    renewed: bool = False
    """Its registration was unknown and was asked for anew: once."""

    @property
    def key(self) -> tuple[str, str, str | None, str]:
        """What it asks for: two of one key are one. A user is one, whatever the token."""
        return (self.type, self.application, user_of(self.user_token), self.topic)


class RequestTable:
    """Waiting requests in order, and those under way by number."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.waiting: list[Request] = []
        self.under_way: dict[int, tuple[Request, float]] = {}
        self._number = 0
        self._next_send_ms = 0.0

    def add(self, request: Request) -> Request:
        """Puts a request at the end, or joins one that waits already for the same."""
        for other in self.waiting:
            if other.key == request.key:
                other.finish.extend(request.finish)
                other.user_token = request.user_token
                return other
        self.waiting.append(request)
        return request

    def take(self, now_ms: float) -> list[tuple[int, Request]]:
        """Those to send now, with their numbers (at most one each REQUEST_SPACING_MS)."""
        self._expire(now_ms)
        if len(self.under_way) >= REQUESTS_IN_FLIGHT or now_ms < self._next_send_ms:
            return []
        ready = (entry for entry in self.waiting if entry.not_before_ms <= now_ms)
        request = next((entry for entry in ready if entry.type == "REGISTER" or not self.registering(entry)), None)
        if request is None:
            return []
        self.waiting.remove(request)
        self._number = self._number % 0xFFFF_FFFF + 1
        self._next_send_ms = now_ms + REQUEST_SPACING_MS
        self.under_way[self._number] = (request, now_ms + REQUEST_TIMEOUT_MS)
        return [(self._number, request)]

    @property
    def asking(self) -> bool:
        """Whether a registration or a topic is being asked for."""
        return any(request.type in ("REGISTER", "SUBSCRIBE") for request in self._all())

    def ends(self, request: Request) -> bool:
        """Whether what a request asks for is being ended: its registration, or its topic."""
        name = (request.application, user_of(request.user_token))
        return any(
            (other.application, user_of(other.user_token)) == name
            and (other.type == "UNREGISTER" or (other.type == "UNSUBSCRIBE" and other.topic == request.topic))
            for other in self._all()
        )

    def registering(self, request: Request) -> bool:
        """Whether the registration of a request is being asked for: its number may be another one's by now."""
        name = (request.application, user_of(request.user_token))
        return any(o.type == "REGISTER" and (o.application, user_of(o.user_token)) == name for o in self._all())

    def drop(self, number: int) -> Request | None:
        """Takes the request that an answer is to; None: no such one is under way."""
        entry = self.under_way.pop(number, None)
        return entry[0] if entry else None

    def retry(self, request: Request, now_ms: float, after_ms: float) -> None:
        """Asks again after `after_ms` plus a random time that grows with each repetition."""
        request.not_before_ms = now_ms + after_ms + self.random.uniform(0, ceiling_ms(request.attempt))
        request.attempt += 1
        self.waiting.append(request)

    def connection_lost(self) -> None:
        """No answer will come any more: all are asked again, in their order."""
        self.waiting[:0] = [request for request, _ in self.under_way.values()]
        self.under_way.clear()

    def next_time_ms(self) -> float | None:
        """When `take` is worth a call again; None: after the next answer or request."""
        times = [deadline for _, deadline in self.under_way.values()]
        if self.waiting and len(self.under_way) < REQUESTS_IN_FLIGHT:
            ready = [e.not_before_ms for e in self.waiting if e.type == "REGISTER" or not self.registering(e)]
            times.extend([max(self._next_send_ms, min(ready))] if ready else [])
        return min(times, default=None)

    def _all(self) -> list[Request]:
        return [*self.waiting, *(request for request, _ in self.under_way.values())]

    def _expire(self, now_ms: float) -> None:
        for number in [number for number, (_, deadline) in self.under_way.items() if deadline <= now_ms]:
            request = self.drop(number)
            if request:
                self.waiting.append(request)
