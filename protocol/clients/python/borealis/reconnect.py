"""What a close means, and how long to wait (PROTOCOL.md, "Close codes" and "Reconnecting"). Times in milliseconds."""

from __future__ import annotations

from random import Random
from urllib.parse import urlsplit

from .limits import HINT_MAX_MS, RECONNECT_BASE_MS, RECONNECT_CAP_MS

CLOSE_NAMES = {
    1000: "bye",
    1001: "going_away",
    4000: "protocol_error",
    4001: "frame_too_large",
    4002: "unexpected_frame",
    4003: "hello_timeout",
    4004: "unsupported_version",
    4010: "bad_token",
    4011: "token_expired",
    4012: "bad_ticket",
    4013: "revoked",
    4020: "stale_connection",
    4021: "replaced",
    4030: "idle",
    4031: "too_slow",
    4032: "rate_limited",
    4040: "overloaded",
    4041: "unavailable",
    4050: "internal",
}
CLOSE_CODES = {name: code for code, name in CLOSE_NAMES.items()}
STOP = {"unsupported_version", "bad_token", "token_expired", "revoked", "replaced"}
GIVE_UP = {"forbidden", "unknown_registration", "project_inactive"}
FIX = {"invalid_request", "bad_user_token", "unknown_application", "too_many_registrations", "too_many_topics"}
RETRY = {"rate_limited", "storage_full", "overloaded", "unavailable", "internal"}


def next_after_close(code: int) -> str:
    """reconnect, token, raise or stop."""
    name = CLOSE_NAMES.get(code, "")
    if name in STOP:
        return "stop"
    return {"bad_ticket": "token", "stale_connection": "raise"}.get(name, "reconnect")


def next_after_error(code: str, retry_after_ms: int) -> str:
    """fix, give_up or retry, of an ERROR that answers a request."""
    if code in RETRY:
        return "retry"
    if code in FIX:
        return "fix"
    return "retry" if code not in GIVE_UP and retry_after_ms else "give_up"


def ceiling_ms(attempt: int) -> int:
    """The longest random time before attempt `attempt` + 1."""
    return min(RECONNECT_CAP_MS, RECONNECT_BASE_MS * 2 ** min(attempt, 20))


# So long after the first attempt that found nobody, further ones do not wait longer and longer.
NOBODY_MS = 30_000


class Backoff:
    """As the server says, else with full jitter."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.attempt = 0
        self.nobody_since_ms: float | None = None

    def stable(self) -> None:
        """A connection has lived for STABLE after WELCOME."""
        self.attempt = 0

    def delay(
        self, hint_ms: float = 0, drawn_ms: float | None = None, *, nobody_at_ms: float | None = None
    ) -> float:
        """How long to wait after a connection or attempt that ended.

        `drawn_ms` is left of what GOAWAY made it draw, `nobody_at_ms` the time of now where there was no WebSocket.
        """
        hint = min(hint_ms, HINT_MAX_MS)
        if nobody_at_ms is None or hint > 0:
            self.nobody_since_ms = None
        elif self.nobody_since_ms is None:
            self.nobody_since_ms = nobody_at_ms
        if drawn_ms is not None:
            return max(0.0, drawn_ms, hint)
        if hint > 0:
            return hint + self.random.uniform(0, RECONNECT_BASE_MS)
        if nobody_at_ms is not None and nobody_at_ms - (self.nobody_since_ms or 0) < NOBODY_MS:
            return RECONNECT_BASE_MS + self.random.uniform(0, 2 * RECONNECT_BASE_MS)
        ceiling = ceiling_ms(self.attempt)
        self.attempt += 1
        return self.random.uniform(0, ceiling)


def goaway_url(url: str, current: str) -> str | None:
    """The address of a GOAWAY where it may be followed: a WebSocket's, and not one that leaves TLS."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        return None
    if scheme not in ("ws", "wss") or scheme == "ws" and urlsplit(current).scheme == "wss":
        return None
    return url
