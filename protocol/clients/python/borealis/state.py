"""The durable state of a device: one JSON file. `save` replaces it as a whole and returns when it is on the disk."""

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
    """The answer to enrolment or renewal, and the address of the core that gave it."""

    device_id: str
    token: str
    expires_at: str
    transport_url: str
    core_url: str = ""
    """The address at which the device enrolled, and where it renews; empty: a state of an older client."""
    renew_at_ms: int = 0
    """When to renew, by the server's clock, as drawn; 0: not told."""
    over: bool = False
    """The service takes this identity no more: only enrolling anew helps."""


@dataclass
class Registration:
    """A registration that an application asked for, and the answer of the service (`number` 0: no answer yet)."""

    application: str
    user_token: str = ""
    """The latest token, with which REGISTER is repeated as long as it is valid; empty: no user."""
    number: int = 0
    registration_id: str = ""
    project: str = ""
    """The project of the application, in which topics and users are names; empty: not told."""
    topics: list[str] = field(default_factory=list)

    @property
    def user(self) -> str:
        """The user of the registration; empty: none."""
        return user_of(self.user_token) or ""


def user_of(user_token: str) -> str | None:
    """The claim `sub` of a user token; None if it has none. The server verifies the token, the device does not."""
    subject = _claims(user_token).get("sub")
    return subject if isinstance(subject, str) else None


def token_is_good(user_token: str, now_s: float) -> bool:
    """Whether REGISTER may be repeated with this token: it is empty, or has not expired."""
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
    """Everything that outlives the process. Ids and other opaque values are int, times are Unix milliseconds."""

    identity: Identity | None = None
    connection: int = 0
    ticket: str = ""
    """Resume ticket in hex; empty: none."""
    ticket_until_ms: int = 0
    """The end of the ticket by the device's clock. A guess: the server decides."""
    clock_offset_ms: int = 0
    """The server's clock minus the device's at the latest WELCOME, to judge expiry before the next one."""
    cursor: dict[str, int] | None = None
    gap: dict[str, int] | None = None
    subscriptions: int | None = None
    registrations: list[Registration] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)
    """For each message id the server's time after which it may be forgotten; oldest first."""
    pending: list[dict[str, Any]] = field(default_factory=list)
    """Notifications that are stored and not handed over yet, in the JSON form of their frames."""

    def registration_of(self, application: str, user_token: str = "") -> Registration | None:
        """The registration of an application and a user, whichever token of the user it was made with."""
        wanted = (application, user_of(user_token) or "")
        return next((entry for entry in self.registrations if (entry.application, entry.user) == wanted), None)

    def enrolled(self, identity: Identity) -> None:
        """Takes a new identity. It is another device, so the state that belongs to the old one is dropped."""
        fresh = DeviceState(identity=identity, clock_offset_ms=self.clock_offset_ms, seen=self.seen, pending=self.pending)
        self.__dict__.update(fresh.__dict__)


def state_to_json(state: DeviceState) -> dict[str, Any]:
    """The state as an object that the json module can write; ids become strings."""
    out = asdict(state)
    out["format"] = FORMAT
    out["seen"] = {str(number): until for number, until in state.seen.items()}
    return out


def state_from_json(value: dict[str, Any]) -> DeviceState:
    """The state that such an object describes. Raises ValueError for another format."""
    if value.get("format") != FORMAT:
        raise ValueError(f"the state file has the format {value.get('format')}, this program reads format {FORMAT}")
    fields = {name: value[name] for name in DeviceState.__dataclass_fields__ if name in value}
    if fields.get("identity") is not None:
        fields["identity"] = Identity(**fields["identity"])
    fields["registrations"] = [Registration(**entry) for entry in fields.get("registrations", [])]
    fields["seen"] = {int(number): until for number, until in fields.get("seen", {}).items()}
    return DeviceState(**fields)


class StateFile:
    """The state file. A lock file beside it prevents two processes with the same identity."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Locks the file for this process. Raises BlockingIOError if another process has it."""
        self._lock = open(f"{self.path}.lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.unlock()
            raise

    def unlock(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> DeviceState:
        """The state that was saved last; an empty one if there is no file. Raises ValueError for a broken file."""
        try:
            return state_from_json(json.loads(self.path.read_text("utf-8")))
        except FileNotFoundError:
            return DeviceState()

    def save(self, state: DeviceState) -> None:
        """Writes the state and returns when it is durable. Raises OSError, and then leaves the old file as it is."""
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
