"""Requests that have no answer yet: numbers, times and repetition, without I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from .limits import REQUEST_SPACING_MS, REQUEST_TIMEOUT_MS, REQUESTS_IN_FLIGHT
from .reconnect import ceiling_ms
from .state import user_of


@dataclass(eq=False)
class Request:
    """A request until its answer. The functions in `finish` get None, or the code of the ERROR that ended it."""

    type: str
    application: str
    user_token: str = ""
    topic: str = ""
    finish: list[Callable[[str | None], None]] = field(default_factory=list)
    not_before_ms: float = 0
    attempt: int = 0
    renewed: bool = False
    """Its registration was unknown and has been requested anew; that happens once."""

    @property
    def key(self) -> tuple[str, str, str | None, str]:
        """Identifies the purpose: requests with the same key are one. All tokens of a user count as the same."""
        return (self.type, self.application, user_of(self.user_token), self.topic)


class RequestTable:
    """The waiting requests in order, and the requests under way by number."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.waiting: list[Request] = []
        self.under_way: dict[int, tuple[Request, float]] = {}
        self._number = 0
        self._next_send_ms = 0.0

    def add(self, request: Request) -> Request:
        """Appends a request, or joins it with a waiting one of the same key."""
        for other in self.waiting:
            if other.key == request.key:
                other.finish.extend(request.finish)
                other.user_token = request.user_token
                return other
        self.waiting.append(request)
        return request

    def take(self, now_ms: float) -> list[tuple[int, Request]]:
        """The requests to send now, with their numbers: at most one in each REQUEST_SPACING_MS."""
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
        """Whether a REGISTER or SUBSCRIBE has no answer yet."""
        return any(request.type in ("REGISTER", "SUBSCRIBE") for request in self._all())

    def ends(self, request: Request) -> bool:
        """Whether another request is about to end the registration or the topic of this one."""
        name = (request.application, user_of(request.user_token))
        return any(
            (other.application, user_of(other.user_token)) == name
            and (other.type == "UNREGISTER" or (other.type == "UNSUBSCRIBE" and other.topic == request.topic))
            for other in self._all()
        )

    def registering(self, request: Request) -> bool:
        """Whether REGISTER for the registration of a request has no answer yet: its number may change."""
        name = (request.application, user_of(request.user_token))
        return any(o.type == "REGISTER" and (o.application, user_of(o.user_token)) == name for o in self._all())

    def drop(self, number: int) -> Request | None:
        """Removes the request with this number; None: no such request is under way."""
        entry = self.under_way.pop(number, None)
        return entry[0] if entry else None

    def retry(self, request: Request, now_ms: float, after_ms: float) -> None:
        """Repeats a request after `after_ms` plus a random time that grows with each repetition."""
        request.not_before_ms = now_ms + after_ms + self.random.uniform(0, ceiling_ms(request.attempt))
        request.attempt += 1
        self.waiting.append(request)

    def connection_lost(self) -> None:
        """Puts all requests under way back to the waiting ones, in their order: no answer will come any more."""
        self.waiting[:0] = [request for request, _ in self.under_way.values()]
        self.under_way.clear()

    def next_time_ms(self) -> float | None:
        """The time of the next call to `take`; None: after the next answer or request."""
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
