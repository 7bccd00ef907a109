"""The next move after a close, and the time to wait (PROTOCOL.md, "Close codes" and "Reconnecting")."""

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
    4022: "connection_ahead",
    4030: "idle",
    4031: "too_slow",
    4032: "rate_limited",
    4040: "overloaded",
    4041: "unavailable",
    4050: "internal",
}
CLOSE_CODES = {name: code for code, name in CLOSE_NAMES.items()}
STOP = {"unsupported_version", "bad_token", "revoked", "replaced"}
RENEW = {"token_expired", "connection_ahead"}
GIVE_UP = {"forbidden", "project_inactive"}
FIX = {"invalid_request", "bad_user_token", "unknown_application", "too_many_registrations", "too_many_topics"}
RETRY = {"rate_limited", "storage_full", "overloaded", "unavailable", "internal"}


def next_after_close(code: int) -> str:
    """The next move after a close code: reconnect, token, raise, renew or stop."""
    name = CLOSE_NAMES.get(code, "")
    if name in STOP:
        return "stop"
    if name in RENEW:
        return "renew"
    return {"bad_ticket": "token", "stale_connection": "raise"}.get(name, "reconnect")


def next_after_error(code: str, retry_after_ms: int) -> str:
    """The next move after an ERROR that answers a request: fix, give_up, register or retry."""
    if code in RETRY:
        return "retry"
    if code in FIX:
        return "fix"
    if code == "unknown_registration":
        return "register"
    return "retry" if code not in GIVE_UP and retry_after_ms else "give_up"


def ceiling_ms(attempt: int) -> int:
    """The longest random time before the next attempt, after `attempt` failed ones."""
    return min(RECONNECT_CAP_MS, RECONNECT_BASE_MS * 2 ** min(attempt, 20))


# For this time after the first attempt that found no server, the waits do not grow.
NOBODY_MS = 30_000


class Backoff:
    """The table of PROTOCOL.md, "Reconnecting"."""

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
        """The time to wait after a connection or an attempt has ended.

        `drawn_ms` is the rest of the time drawn after GOAWAY; `nobody_at_ms` is now, if no WebSocket opened.
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
    """The address of a GOAWAY, if the device may follow it: a WebSocket address that does not leave TLS."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        return None
    if scheme not in ("ws", "wss") or scheme == "ws" and urlsplit(current).scheme == "wss":
        return None
    return url
