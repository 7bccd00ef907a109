"""Enrolment over HTTP (PROTOCOL.md, "Enrolment"), with the standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import datetime, timezone

from .limits import ENROL_TIMEOUT_MS
from .state import Identity

ENROL_PATH = "/device/v1/enrol"
ANSWER_BYTES_MAX = 65_536


class EnrolError(Exception):
    """The device got no identity.

    `code` is the code of the service, or "unreachable" or "bad_answer". `retry_after_s` is None if no repetition helps.
    """

    def __init__(self, code: str, message: str, retry_after_s: float | None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retry_after_s = retry_after_s


def enrol(url: str, enrolment_key: str, name: str = "", timeout_s: float = ENROL_TIMEOUT_MS / 1000) -> Identity:
    """Asks the core for an identity. `url` is its base URL, or the whole URL of enrolment. Raises EnrolError."""
    address = url if url.rstrip("/").endswith(ENROL_PATH) else url.rstrip("/") + ENROL_PATH
    body = {"enrolmentKey": enrolment_key, **({"name": name} if name else {})}
    request = urllib.request.Request(
        address, json.dumps(body).encode("utf-8"), {"content-type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return read_identity(response.read(ANSWER_BYTES_MAX + 1))
    except urllib.error.HTTPError as error:
        raise refusal(error.code, error.headers.get("retry-after"), error.read(ANSWER_BYTES_MAX)) from error
    except OSError as error:
        raise EnrolError("unreachable", str(error), 0) from error


def read_identity(body: bytes) -> Identity:
    """The identity in an answer. Raises EnrolError if a field is missing."""
    try:
        answer = json.loads(body)
        names = ("deviceId", "token", "expiresAt", "transportUrl")
        values = [answer[name] for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise EnrolError("bad_answer", "not what enrolment answers", None) from error
    if not all(isinstance(value, str) for value in values):
        raise EnrolError("bad_answer", "not what enrolment answers", None)
    return Identity(*values)


def refusal(status: int, retry_after: str | None, body: bytes) -> EnrolError:
    """The error for an answer with another status than 201."""
    try:
        error = json.loads(body)["error"]
        code, message = str(error["code"]), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = f"http_{status}", ""
    if status != 429 and status < 500:
        return EnrolError(code, message, None)
    try:
        return EnrolError(code, message, max(0.0, float(retry_after or 0)))
    except ValueError:
        return EnrolError(code, message, 0)


def expired(identity: Identity, now: datetime | None = None) -> bool:
    """Whether the token has expired, by the device's clock. False if the time cannot be read."""
    try:
        until = datetime.fromisoformat(identity.expires_at)
    except ValueError:
        return False
    if until.tzinfo is None:
        return False
    return until <= (now or datetime.now(timezone.utc))
