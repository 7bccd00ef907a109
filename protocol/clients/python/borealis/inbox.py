"""Decides about notifications: known or new, for which registrations, expired or not.

It changes the state in memory; the caller makes the state durable.
"""

from __future__ import annotations

import base64
from typing import Any

from .frames import Frame
from .json_form import frame_from_json, frame_to_json
from .limits import SEEN_IDS, SEEN_KEEP_MS
from .msgpack import DataError, read_data
from .state import DeviceState, Registration


HELD_MAX = 100
"""Most notifications that are held back; beyond it the oldest is done without being shown."""


class Inbox:
    """The notifications of one device."""

    def __init__(self, state: DeviceState) -> None:
        self.state = state
        self._held: list[dict[str, Any]] = []
        self._left = {entry["id"] for entry in state.pending}
        """What an earlier run stored and did not mark done: the application may have seen it."""

    def accept(self, frame: Frame, server_now_ms: int) -> bool:
        """Adds a NOTIFY or NOTIFY_GROUP to the pending ones. False: its id is remembered, so it is a duplicate."""
        if frame["id"] in self.state.seen:
            return False
        expires_ms = frame["expires_at_seconds"] * 1000
        self.state.seen[frame["id"]] = (expires_ms or server_now_ms) + SEEN_KEEP_MS
        self.state.pending.append(frame_to_json(frame))
        return True

    def forget(self, server_now_ms: int) -> None:
        """Forgets ids whose time is over, and the oldest ones beyond SEEN_IDS."""
        seen = self.state.seen
        for number in [number for number, until in seen.items() if until < server_now_ms]:
            del seen[number]
        for number in list(seen)[: max(0, len(seen) - SEEN_IDS)]:
            del seen[number]

    def hand_over(self, server_now_ms: int, asking: bool = False, guessed: bool = False) -> list[dict[str, Any]]:
        """The events of the pending notifications that are to be shown, in order. The caller calls `done` afterwards.

        `asking`: a REGISTER or SUBSCRIBE has no answer yet, so a notification that matches no registration is held back.
        `guessed`: no WELCOME has told the time yet, so a notification that seems to have expired is held back.
        """
        events = []
        early: list[dict[str, Any]] = []
        doubtful: list[dict[str, Any]] = []
        for entry in self.state.pending:
            frame = frame_from_json(entry)
            left = entry["id"] in self._left
            if self.expired(frame, server_now_ms, left):
                if guessed and frame["expires_at_seconds"]:
                    doubtful.append(entry)
                continue
            if asking and not self.named(frame):
                early.append(entry)
                continue
            receivers = self.receivers(frame)
            if receivers:
                events.append(notification(frame, receivers, left))
        self._held = doubtful + early[-HELD_MAX:]
        return events

    def done(self) -> None:
        """Removes everything from the pending ones that `hand_over` did not hold back."""
        self.state.pending[:] = self._held

    @property
    def all_held(self) -> bool:
        """Whether all pending notifications are held back."""
        return len(self.state.pending) == len(self._held)

    def expired(self, frame: Frame, server_now_ms: int, restarted: bool) -> bool:
        """Whether the notification has expired; without an expiry it is valid on arrival only."""
        seconds = frame["expires_at_seconds"]
        return restarted if seconds == 0 else server_now_ms > seconds * 1000

    def receivers(self, frame: Frame) -> list[Registration]:
        """The registrations that get a notification."""
        named = self.named(frame)
        if named or frame.type != "NOTIFY_GROUP" or (frame["target"] or ("",))[0] != "topic" or frame["registrations"]:
            return named
        # An app server has subscribed a registration of this project, and the server does not tell which one.
        return [entry for entry in self.state.registrations if entry.project == frame["project"]]

    def named(self, frame: Frame) -> list[Registration]:
        """The registrations that a notification names by number, application, topic or user."""
        if frame.type == "NOTIFY":
            return [entry for entry in self.state.registrations if entry.number and entry.number == frame["registration"]]
        if frame["registrations"]:
            return [entry for entry in self.state.registrations if entry.number in frame["registrations"]]
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
    """A notification as an event in JSON; binary values of `data` become base64."""
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
