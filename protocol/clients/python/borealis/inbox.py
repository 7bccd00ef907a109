"""What becomes of a notification: recognised, kept, shown or not. Works on the state; the caller makes it durable."""

from __future__ import annotations

import base64
from typing import Any

from .frames import Frame
from .json_form import frame_from_json, frame_to_json
from .limits import SEEN_IDS, SEEN_KEEP_MS
from .msgpack import DataError, read_data
from .state import DeviceState, Registration


HELD_MAX = 100
"""Most notifications held back; the oldest of more are done without being shown."""


class Inbox:
    """The notifications of one device."""

    def __init__(self, state: DeviceState) -> None:
        self.state = state
        self._held: list[dict[str, Any]] = []

    def accept(self, frame: Frame, server_now_ms: int) -> bool:
        """Takes NOTIFY or NOTIFY_GROUP to be persisted; False: its id is remembered."""
        if frame["id"] in self.state.seen:
            return False
        expires_ms = frame["expires_at_seconds"] * 1000
        self.state.seen[frame["id"]] = (expires_ms or server_now_ms) + SEEN_KEEP_MS
        self.state.pending.append(frame_to_json(frame))
        return True

    def forget(self, server_now_ms: int) -> None:
        """Drops remembered ids that may be forgotten: old ones, and the oldest of more than SEEN_IDS."""
        seen = self.state.seen
        for number in [number for number, until in seen.items() if until < server_now_ms]:
            del seen[number]
        for number in list(seen)[: max(0, len(seen) - SEEN_IDS)]:
            del seen[number]

    def hand_over(self, server_now_ms: int, restarted: bool = False, asking: bool = False) -> list[dict[str, Any]]:
        """The events of what is pending, in order; what is not to be shown is left out. `done` is to be called after.

        `asking`: a registration or a topic is being asked for, so what is for nobody yet is held back.
        """
        events = []
        self._held = []
        for entry in self.state.pending:
            frame = frame_from_json(entry)
            receivers = self.receivers(frame)
            if self.expired(frame, server_now_ms, restarted):
                continue
            if receivers:
                events.append(notification(frame, receivers, restarted))
            elif asking:
                self._held.append(entry)
        self._held = self._held[-HELD_MAX:]
        return events

    def done(self) -> None:
        """What `hand_over` told was handed over; what it held back stays."""
        self.state.pending[:] = self._held

    @property
    def all_held(self) -> bool:
        """Whether nothing is pending but what is held back."""
        return len(self.state.pending) == len(self._held)

    def expired(self, frame: Frame, server_now_ms: int, restarted: bool) -> bool:
        """Whether it is too late; what has no expiry is good on arrival only."""
        seconds = frame["expires_at_seconds"]
        return restarted if seconds == 0 else server_now_ms > seconds * 1000

    def receivers(self, frame: Frame) -> list[Registration]:
        """The registrations that a notification is for."""
        if frame.type == "NOTIFY":
            return [entry for entry in self.state.registrations if entry.number and entry.number == frame["registration"]]
        kind, name = frame["target"] or ("", "")
        if kind == "application":
            return [entry for entry in self.state.registrations if entry.application == name]
        return [
            entry
            for entry in self.state.registrations
            if entry.project in ("", frame["project"])
            and (kind == "topic" and name in entry.topics or kind == "user" and entry.user == name)
        ]


def notification(frame: Frame, receivers: list[Registration], duplicate: bool) -> dict[str, Any]:
    """One notification as an event of JSON; binary values of `data` become base64."""
    try:
        data = read_data(frame["data"])
    except DataError:
        data = {}
    group = None
    if frame.type == "NOTIFY_GROUP":
        kind, name = frame["target"]
        group = {"kind": kind, "name": name, "project": frame["project"], "sequence": frame["sequence"]}
    return {
        "event": "notification",
        "id": str(frame["id"]),
        "registrations": [entry.number for entry in receivers],
        "registrationIds": [entry.registration_id for entry in receivers],
        "applications": [entry.application for entry in receivers],
        "group": group,
        "title": frame["title"],
        "message": frame["message"],
        "data": _printable(data),
        "priority": frame["priority"],
        "collapseKey": frame["collapse_key"],
        "expiresAtSeconds": frame["expires_at_seconds"],
        "possibleDuplicate": duplicate,
    }


def _printable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
