#!/usr/bin/env python3
"""Receives events at a webhook, verifies them and prints each one once: docs/send/events.md.

    WEBHOOK_SECRET=whsec_... PORT=8787 python3 webhook.py

Standard library only.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# An older request is a replay, or a clock is wrong.
AGE_SECONDS_MAX = 300
BODY_BYTES_MAX = 8 * 1024 * 1024

KEY = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
# Keep these ids in a table with a unique key, in the same transaction as the work that an event leads to.
seen: set[str] = set()


def is_authentic(headers, body: bytes) -> bool:
    """Signs the body as it came, byte for byte: JSON that is parsed and written again has another signature."""
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > AGE_SECONDS_MAX:
        return False
    signed = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    # While a secret is being replaced there are two signatures.
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(one.encode(), wanted.encode()) for one in given)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if not 0 < length <= BODY_BYTES_MAX:
            self.answer(413)
            return
        body = self.rfile.read(length)
        if not is_authentic(self.headers, body):
            self.answer(401)
            return
        for event in json.loads(body)["events"]:
            if event["id"] not in seen:
                seen.add(event["id"])
                print(json.dumps(event), flush=True)
        # Last of all: a request without an answer of 2xx comes again.
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
            self.close_connection = True
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8787"))), Receiver)
    print("listening", flush=True)
    server.serve_forever()
