#!/usr/bin/env python3
"""Sends messages over HTTP and prints each answer: docs/send/README.md.

    pip install 'pyjwt[crypto]' pyyaml
    python3 send.py settings.yaml order-4711 '{"type": "device", "target": "<registrationId>", "ttl": "1h", ...}'

The first argument is the settings file of the project, the second your name for this job: the same name sends the same
messages only once. Each further argument is a message. Exit code 0: the service has stored all of them.
"""

import json
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any, NamedTuple

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

TIMEOUT_SECONDS = 10
ATTEMPTS_MAX = 8
RENEW_BEFORE_END_SECONDS = 60


class Answer(NamedTuple):
    status: int
    retry_after: float
    body: dict[str, Any]


class NotSent(Exception):
    pass


def post(url: str, body: str, headers: dict[str, str]) -> Answer:
    """Raises OSError or ValueError where no complete answer came in time."""
    request = urllib.request.Request(url, data=body.encode(), headers=headers, method="POST")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return Answer(response.status, float(response.headers.get("retry-after", 0)), json.load(response))


class Sender:
    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.token = ""
        self.renew_at = 0.0

    def send(self, message: str, idempotency_key: str) -> dict[str, Any]:
        """Tries until the service accepts or refuses the message. The same key never stores a message twice."""
        problem = ""
        retry_after = 0.0
        has_new_token = False
        for attempt in range(ATTEMPTS_MAX):
            if attempt > 0:
                time.sleep(max(retry_after, random.random() * 0.25 * 2**attempt))
            try:
                answer = self.try_once(message, idempotency_key)
            except (OSError, ValueError) as error:
                # No answer came: the message may be stored or not.
                problem = str(error)
                continue
            if answer.status < 300:
                return answer.body
            problem = f"{answer.status} {json.dumps(answer.body)}"
            retry_after = answer.retry_after
            if answer.status == 401 and not has_new_token:
                # The token has expired, or the key that signs tokens was replaced: one attempt with a new token.
                has_new_token = True
                self.renew_at = 0.0
            elif answer.status != 429 and answer.status < 500:
                break
        raise NotSent(f"not sent: {problem}")

    def try_once(self, message: str, idempotency_key: str) -> Answer:
        if time.time() >= self.renew_at:
            answer = self.request_token()
            if answer.status != 200:
                return answer
            self.token = answer.body["access_token"]
            self.renew_at = time.time() + answer.body["expires_in"] - RENEW_BEFORE_END_SECONDS
        return post(
            f"{self.settings['api_url']}projects/{self.settings['project_id']}/messages",
            message,
            {
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key,
            },
        )

    def request_token(self) -> Answer:
        """Proves with the private key that this is the app server of the project (OAuth 2.0, private_key_jwt)."""
        key = load_pem_private_key(self.settings["private_key"].encode(), password=None)
        now = int(time.time())
        claims = {
            "iss": self.settings["client_id"],
            "sub": self.settings["client_id"],
            "aud": self.settings["token_url"],
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + 60,
        }
        algorithm = "ES256" if isinstance(key, EllipticCurvePrivateKey) else "RS256"
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode(claims, key, algorithm, headers={"kid": self.settings["key_id"]}),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return post(self.settings["token_url"], urllib.parse.urlencode(form), headers)


def main() -> None:
    if len(sys.argv) < 4:
        sys.exit("usage: send.py <settings file> <name of the job> <message as JSON>...")
    file, job, *messages = sys.argv[1:]
    with open(file, encoding="utf-8") as text:
        sender = Sender(yaml.safe_load(text)["push_notification_system"])
    for index, message in enumerate(messages):
        print(json.dumps(sender.send(message, f"{job}-{index}")), flush=True)


if __name__ == "__main__":
    try:
        main()
    except NotSent as problem:
        sys.exit(str(problem))
