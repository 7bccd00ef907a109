"""Enrolment and renewal over HTTP (PROTOCOL.md, "Enrolment"), with the standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from random import uniform

from .limits import ENROL_TIMEOUT_MS
from .state import Identity

ENROL_PATH = "/device/v1/enrol"
RENEW_PATH = "/device/v1/renew"
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
    body = {"enrolmentKey": enrolment_key, **({"name": name} if name else {})}
    request = urllib.request.Request(
        _address(url), json.dumps(body).encode("utf-8"), {"content-type": "application/json"}, method="POST"
    )
    return _ask(request, url, timeout_s)


def renew(identity: Identity, timeout_s: float = ENROL_TIMEOUT_MS / 1000) -> Identity:
    """Asks the core for another token of the same device. Raises EnrolError; the older token is good for a repetition."""
    address = _address(identity.core_url).removesuffix(ENROL_PATH) + RENEW_PATH
    request = urllib.request.Request(address, b"", {"authorization": f"Bearer {identity.token}"}, method="POST")
    renewed = _ask(request, identity.core_url, timeout_s)
    if renewed.device_id != identity.device_id:
        raise EnrolError("bad_answer", "the answer is for another device", 0)
    return renewed


def _address(url: str) -> str:
    return url if url.rstrip("/").endswith(ENROL_PATH) else url.rstrip("/") + ENROL_PATH


def _ask(request: urllib.request.Request, core_url: str, timeout_s: float) -> Identity:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return read_identity(response.read(ANSWER_BYTES_MAX + 1), core_url)
    except urllib.error.HTTPError as error:
        raise refusal(error.code, error.headers.get("retry-after"), error.read(ANSWER_BYTES_MAX)) from error
    except OSError as error:
        raise EnrolError("unreachable", str(error), 0) from error


def read_identity(body: bytes, core_url: str = "", draw: Callable[[float, float], float] = uniform) -> Identity:
    """The identity in an answer, with a drawn time of renewal. Raises EnrolError if a field is missing."""
    try:
        answer = json.loads(body)
        names = ("deviceId", "token", "expiresAt", "transportUrl")
        values = [answer[name] for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise EnrolError("bad_answer", "not what enrolment answers", None) from error
    if not all(isinstance(value, str) for value in values):
        raise EnrolError("bad_answer", "not what enrolment answers", None)
    start, end = time_ms(answer.get("renewFrom")), time_ms(answer["expiresAt"])
    renew_at_ms = round(draw(start, max(start, end))) if start else 0
    return Identity(*values, core_url=core_url, renew_at_ms=renew_at_ms)


def refusal(status: int, retry_after: str | None, body: bytes) -> EnrolError:
    """The error for an answer with another status than 201."""
    try:
        error = json.loads(body)["error"]
        code, message = str(error["code"]), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = f"http_{status}", ""
    if status not in (404, 408, 429) and status < 500:
        return EnrolError(code, message, None)
    try:
        return EnrolError(code, message, max(0.0, float(retry_after or 0)))
    except ValueError:
        return EnrolError(code, message, 0)


def time_ms(text: object) -> int:
    """A time of RFC 3339 in Unix milliseconds; 0 if it cannot be read."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return 0
    return 0 if moment is None or moment.tzinfo is None else round(moment.timestamp() * 1000)
