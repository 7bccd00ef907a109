"""What becomes of a notification: recognised, kept, shown or not. Works on the state; the caller makes it durable."""

from __future__ import annotations

import base64
import json
from typing import Any

from .frames import Frame
from .json_form import frame_from_json, frame_to_json
from .limits import SEEN_IDS, SEEN_KEEP_MS
from .msgpack import DataError, read_data
from .state import DeviceState, Registration


class Inbox:
    """The notifications of one device."""

    def __init__(self, state: DeviceState) -> None:
        self.state = state

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

    def hand_over(self, server_now_ms: int, restarted: bool = False) -> list[dict[str, Any]]:
        """The events of what is pending, in order; what is not to be shown is left out. `done` is to be called after."""
        frames = [frame_from_json(entry) for entry in self.state.pending]
        shown = [(frame, self.receivers(frame)) for frame in frames if not self.expired(frame, server_now_ms, restarted)]
        return [notification(frame, receivers, restarted) for frame, receivers in shown if receivers]

    def done(self) -> None:
        """Everything pending was handed over."""
        self.state.pending.clear()

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
            and (kind == "topic" and name in entry.topics or kind == "user" and user_of(entry.user_token) == name)
        ]


def user_of(user_token: str) -> str | None:
    """The subject of a user token, not verified (the server did); None where there is none."""
    try:
        payload = user_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        subject = claims.get("sub")
    except (IndexError, ValueError, AttributeError):
        return None
    return subject if isinstance(subject, str) else None


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
