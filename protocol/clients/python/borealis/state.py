"""What a device keeps for life: one JSON file, replaced as a whole and durable when `save` returns."""

from __future__ import annotations

import base64
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, IO

FORMAT = 1


@dataclass
class Identity:
    """What enrolment gave; all four are strings as they came."""

    device_id: str
    token: str
    expires_at: str
    transport_url: str


@dataclass
class Registration:
    """A wish for a registration, and what the service made of it (`number` 0: not answered yet)."""

    application: str
    user_token: str = ""
    """The latest, to repeat REGISTER with it as long as it is good; empty: no user."""
    number: int = 0
    registration_id: str = ""
    project: str = ""
    """Whose topics and users the registration is told of; empty: not told."""
    topics: list[str] = field(default_factory=list)

    @property
    def user(self) -> str:
        """Whose registration it is; empty: nobody's."""
        return user_of(self.user_token) or ""


def user_of(user_token: str) -> str | None:
    """The subject of a user token, not verified (the server does that); None where there is none."""
    subject = _claims(user_token).get("sub")
    return subject if isinstance(subject, str) else None


def token_is_good(user_token: str, now_s: float) -> bool:
    """Whether REGISTER may be repeated with it: no token at all, or one that has not expired."""
    if not user_token:
        return True
    until = _claims(user_token).get("exp")
    return isinstance(until, (int, float)) and now_s < until


def _claims(user_token: str) -> dict[str, Any]:
    try:
        payload = user_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


@dataclass
class DeviceState:
    """Everything that outlives a process. Ids and other opaque values are int, times are Unix milliseconds."""

    identity: Identity | None = None
    connection: int = 0
    ticket: str = ""
    """Resume ticket in hex; empty: none."""
    ticket_until_ms: int = 0
    """By the device's own clock: a guess only, the server decides."""
    clock_offset_ms: int = 0
    """Server's clock minus the device's at the latest WELCOME: judges expiry until the next one."""
    cursor: dict[str, int] | None = None
    gap: dict[str, int] | None = None
    subscriptions: int | None = None
    registrations: list[Registration] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    """Message id -> when it may be forgotten, in the server's time; oldest first."""
    pending: list[dict[str, Any]] = field(default_factory=list)
    """Notifications that were stored and not handed over yet, in the JSON form of their frames."""

    def registration_of(self, application: str, user_token: str = "") -> Registration | None:
        """The registration of an application and the user of a token, whichever token it was registered with."""
        wanted = (application, user_of(user_token) or "")
        return next((entry for entry in self.registrations if (entry.application, entry.user) == wanted), None)

    def enrolled(self, identity: Identity) -> None:
        """A new identity is another device: nothing that the service knew of the old one holds any more."""
        fresh = DeviceState(identity=identity, clock_offset_ms=self.clock_offset_ms, seen=self.seen, pending=self.pending)
        self.__dict__.update(fresh.__dict__)


def state_to_json(state: DeviceState) -> dict[str, Any]:
    """The state as the json module writes it: opaque 64-bit values as strings."""
    out = asdict(state)
    out["format"] = FORMAT
    out["seen"] = {str(number): until for number, until in state.seen.items()}
    return out


def state_from_json(value: dict[str, Any]) -> DeviceState:
    """The state of such an object. Raises ValueError for another format."""
    if value.get("format") != FORMAT:
        raise ValueError(f"a state of format {value.get('format')}, not {FORMAT}")
    fields = {name: value[name] for name in DeviceState.__dataclass_fields__ if name in value}
    if fields.get("identity") is not None:
        fields["identity"] = Identity(**fields["identity"])
    fields["registrations"] = [Registration(**entry) for entry in fields.get("registrations", [])]
    fields["seen"] = {int(number): until for number, until in fields.get("seen", {}).items()}
    return DeviceState(**fields)


class StateFile:
    """The file. A lock beside it keeps a second process from being a twin of the same identity."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Takes the file for this process. Raises BlockingIOError when another one has it."""
        self._lock = open(f"{self.path}.lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
            raise

    def unlock(self) -> None:
        """Gives the file up."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> DeviceState:
        """What was saved last; an empty state where there is no file. Raises ValueError for a broken file."""
        try:
            return state_from_json(json.loads(self.path.read_text("utf-8")))
        except FileNotFoundError:
            return DeviceState()

    def save(self, state: DeviceState) -> None:
        """Writes everything and returns when it is durable. Raises OSError; the old file is whole then."""
        beside = Path(f"{self.path}.new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(state_to_json(state), file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
