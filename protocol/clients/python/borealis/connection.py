"""One connection as a state machine without I/O: states, keepalive, timeouts. Times are monotonic milliseconds.

The owner passes messages to `receive` and the time to `tick`, writes the messages of `take_output`, and closes with
`close_code` once that is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from .frames import Frame, decode_message, encode_frame, frame
from .limits import DEVICE_FRAME_BYTES_MAX, PONG_TIMEOUT_MS, RECONNECT_BASE_MS, STABLE_MS, WELCOME_TIMEOUT_MS
from .reconnect import CLOSE_CODES

SERVER_MAY_SEND = {
    "opened": {"GOAWAY", "ERROR"},
    "greeted": {"WELCOME", "GOAWAY", "ERROR"},
    "catching_up": {"NOTIFY", "NOTIFY_GROUP", "CAUGHT_UP", "REGISTERED", "DONE", "GAP", "GOAWAY", "ERROR", "PONG"},
}
SERVER_MAY_SEND["live"] = SERVER_MAY_SEND["catching_up"]
DEAD = 1006
"""The close code of a connection that ended without a close frame."""


class Connection:
    """A connection, from the open WebSocket to its close."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.state = "opened"
        self.close_code: int | None = None
        self.close_detail = ""
        self.hint_ms = 0
        self.stale_above = 0
        self.reconnect_at_ms: float | None = None
        self.reconnect_url = ""
        self.stable = False
        self.welcomed = False
        self.server_time_ms: float = 0
        self.welcome_at_ms: float = 0
        self.frame_bytes_max = DEVICE_FRAME_BYTES_MAX
        self._keepalive_ms = 0.0
        self._output: list[bytes] = []
        self._welcome_deadline: float | None = None
        self._sent_ms = self._heard_ms = self._silence_ms = 0.0
        self._pong_deadline: float | None = None

    @property
    def greeted(self) -> bool:
        """Whether WELCOME has come and the connection is open."""
        return self.state in ("catching_up", "live")

    def server_now_ms(self, now_ms: float) -> int:
        """The server's clock in Unix milliseconds; valid after WELCOME."""
        return int(self.server_time_ms + now_ms - self.welcome_at_ms)

    def send(self, value: Frame, now_ms: float) -> None:
        """Queues a frame. Raises RuntimeError in a state that does not allow it."""
        allowed = self.state == "opened" if value.type == "HELLO" else self.greeted
        if not allowed:
            raise RuntimeError(f"{value.type} is not allowed in {self.state}")
        self._output.append(encode_frame(value))
        if value.type == "HELLO":
            self.state = "greeted"
            self._welcome_deadline = now_ms + WELCOME_TIMEOUT_MS
        elif value.type == "BYE":
            self.state = "closed"
        else:
            self._draw_ping(now_ms)

    def send_ack(self, ids: list[int], now_ms: float) -> None:
        """Queues ACK frames for all ids, none longer than the server accepts."""
        most = max(1, (self.frame_bytes_max - 5) // 8)
        for start in range(0, len(ids), most):
            self.send(frame("ACK", ids=ids[start : start + most]), now_ms)

    def take_output(self) -> list[bytes]:
        """The messages to write now, each with one frame."""
        output, self._output = self._output, []
        return output

    def receive(self, data: bytes | str, now_ms: float) -> Iterator[Frame]:
        """Yields the known frames of a message. A fault sets `close_code` after the frames before it."""
        if self.state == "closed":
            return
        if isinstance(data, str):
            self.fail("protocol_error", "a text message")
            return
        self._heard_ms = now_ms
        decoded = decode_message(data, "server")
        for value in decoded.frames:
            if value.type == "UNKNOWN":
                continue
            if value.type not in SERVER_MAY_SEND.get(self.state, set()):
                self.fail("unexpected_frame", f"{value.type} in {self.state}")
                return
            self._act(value, now_ms)
            yield value
            if self.state == "closed":
                return
        if decoded.error:
            self.fail(decoded.error, decoded.detail)

    def tick(self, now_ms: float) -> None:
        """Sends a keepalive, or ends the connection, when its time has come."""
        if self._welcome_deadline is not None and now_ms >= self._welcome_deadline:
            self.fail("hello_timeout", "no WELCOME in time")
        elif self._pong_deadline is not None and now_ms >= self._pong_deadline:
            self.fail("idle", "no PONG after a PING")
        elif self._ping_at is not None and now_ms >= self._ping_at and self.greeted:
            self.ping(now_ms)
        if self.greeted and now_ms >= self.welcome_at_ms + STABLE_MS:
            self.stable = True

    @property
    def _ping_at(self) -> float | None:
        """The time of the next keepalive: after silence of either side, but not while an answer is to come."""
        if not self.greeted or self._pong_deadline is not None:
            return None
        return min(self._sent_ms, self._heard_ms) + self._silence_ms

    def ping(self, now_ms: float) -> None:
        """Sends a PING: in time, or when the network may have changed."""
        self.send(frame("PING"), now_ms)
        if self._pong_deadline is None:
            self._pong_deadline = now_ms + PONG_TIMEOUT_MS

    def next_time_ms(self) -> float | None:
        """The time of the next call to `tick`; None: nothing is timed."""
        times = [self._welcome_deadline, self._pong_deadline, self._ping_at]
        if self.greeted and not self.stable:
            times.append(self.welcome_at_ms + STABLE_MS)
        return min((time for time in times if time is not None), default=None)

    def fail(self, name: str, detail: str) -> None:
        """Ends the connection, with the close code of this name."""
        self._end(CLOSE_CODES[name], detail)

    def _end(self, code: int, detail: str) -> None:
        self.state = "closed"
        self.close_code, self.close_detail = code, detail
        self._welcome_deadline = self._pong_deadline = None

    def _act(self, value: Frame, now_ms: float) -> None:
        if value.type == "PONG":
            self._pong_deadline = None
        elif value.type == "WELCOME":
            self.state = "catching_up"
            self._welcome_deadline = None
            self.welcomed = True
            self.server_time_ms, self.welcome_at_ms = value["server_time_ms"], now_ms
            self._keepalive_ms = max(1, value["keepalive_seconds"]) * 1000
            told = value["limits"]["frame_bytes_max"]
            self.frame_bytes_max = min(told or DEVICE_FRAME_BYTES_MAX, DEVICE_FRAME_BYTES_MAX)
            self._draw_ping(now_ms)
        elif value.type == "CAUGHT_UP":
            self.state = "live"
        elif value.type == "GOAWAY":
            self.reconnect_at_ms = now_ms + value["after_ms"] + self.random.uniform(0, value["jitter_ms"] or RECONNECT_BASE_MS)
            self.reconnect_url = value["url"]
        elif value.type == "ERROR" and value["request"] == 0:
            self.hint_ms = value["retry_after_ms"]
            if value["code"] == "stale_connection":
                self.stale_above = value["connection"]

    def _draw_ping(self, now_ms: float) -> None:
        self._sent_ms = now_ms
        self._silence_ms = self.random.uniform(0.75, 1.0) * self._keepalive_ms
