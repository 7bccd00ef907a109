#!/usr/bin/env python3
"""Publishes one message over NATS with the standard library and shows the PubAck of JetStream.

    publish.py --server 127.0.0.1:4222 --user U --password P --project sample '{"type": "device", ...}'

The message is what the HTTP API takes. The user needs to publish to push.send.<project> and to subscribe to its inbox.
Exit code 0: stored; 1: refused or not answered.
"""

import argparse
import json
import secrets
import socket
import sys
from typing import Any, BinaryIO

LINE_BYTES_MAX = 65_536


def read_line(stream: BinaryIO) -> str:
    """One line of the NATS protocol. Raises ConnectionError if the server closes, TimeoutError if no line comes."""
    line = stream.readline(LINE_BYTES_MAX)
    if not line.endswith(b"\r\n"):
        raise ConnectionError("NATS closed the connection")
    return line.decode("utf-8", "replace").rstrip("\r\n")


def read_answer(connection: socket.socket, stream: BinaryIO) -> bytes:
    """The payload of the first message. Raises ConnectionError with the -ERR of the server."""
    while True:
        line = read_line(stream)
        words = line.split(" ")
        verb = words[0].upper()
        if verb == "PING":
            connection.sendall(b"PONG\r\n")
        elif verb == "-ERR":
            raise ConnectionError(line)
        elif verb in ("MSG", "HMSG"):
            total = int(words[-1])
            payload = stream.read(total + 2)[:total]
            if verb == "MSG":
                return payload
            headers = int(words[-2])
            if headers == total:  # only a status: no stream takes the subject (503)
                raise ConnectionError(payload.split(b"\r\n")[0].decode("utf-8", "replace"))
            return payload[headers:]


def publish(options: argparse.Namespace, body: bytes) -> dict[str, Any]:
    """Sends the body and returns the PubAck. Raises OSError."""
    host, _, port = options.server.rpartition(":")
    with socket.create_connection((host, int(port)), options.timeout) as connection:
        stream = connection.makefile("rb")
        read_line(stream)  # INFO
        login = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "python",
                 "version": "1", "protocol": 1, "user": options.user, "pass": options.password}
        inbox = f"{options.inbox}.{secrets.token_hex(11)}"
        headers = b"NATS/1.0\r\nContent-Type: application/json\r\n"
        if options.message_id:
            headers += f"Nats-Msg-Id: {options.message_id}\r\n".encode()
        headers += b"\r\n"
        connection.sendall(
            f"CONNECT {json.dumps(login)}\r\nSUB {inbox} 1\r\n".encode()
            + f"HPUB push.send.{options.project} {inbox} {len(headers)} {len(headers) + len(body)}\r\n".encode()
            + headers + body + b"\r\n"
        )
        return json.loads(read_answer(connection, stream))


def main() -> int:
    parser = argparse.ArgumentParser(description="Publishes a push over NATS.")
    parser.add_argument("--server", default="127.0.0.1:4222", help="host:port")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--project", required=True)
    parser.add_argument("--inbox", default="_INBOX.publisher", help="prefix of subjects that the user may subscribe to")
    parser.add_argument("--message-id", default="", help="Nats-Msg-Id: JetStream stores it once")
    parser.add_argument("--timeout", type=float, default=5, help="seconds")
    parser.add_argument("message", help="JSON, or - for stdin")
    options = parser.parse_args()
    body = (sys.stdin.read() if options.message == "-" else options.message).encode("utf-8")
    try:
        answer = publish(options, body)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"not confirmed: {error}\n")
        return 1
    print(json.dumps(answer))
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
