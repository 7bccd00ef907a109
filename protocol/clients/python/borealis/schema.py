"""The messages of borealis.proto and the frame types of PROTOCOL.md as tables.

A message is a list of fields in the order in which they are written: ascending, but `sequence` of NOTIFY_GROUP last.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """One field. `kind` is u32, u64, fixed64, fixed32, string, bytes, enum, message, ids (repeated fixed64) or u32s."""

    number: int
    name: str
    kind: str
    oneof: str = ""
    message: tuple["Field", ...] = ()
    values: tuple[str, ...] = ()
    always: bool = False
    """A message that reads as its zeros if it is absent."""


Message = tuple[Field, ...]

PRIORITY = ("normal", "high", "low")
GAP_REASON = ("unspecified", "queue_overflow", "log_reset", "log_truncated")
GOAWAY_REASON = ("shutdown", "rebalance", "upgrade")

CLIENT_INFO: Message = (Field(1, "name", "string"), Field(2, "version", "string"), Field(3, "platform", "string"))
CURSOR: Message = (
    Field(1, "incarnation", "fixed64"),
    Field(2, "sequence", "u64"),
    Field(3, "subscriptions", "u32"),
)
GAP_MARK: Message = (Field(1, "queue", "fixed64"), Field(2, "count", "u32"))
LIMITS: Message = (
    Field(1, "frame_bytes_max", "u32"),
    Field(2, "window", "u32"),
    Field(3, "registrations_max", "u32"),
    Field(4, "topics_max", "u32"),
)
REQUEST = Field(1, "request", "u32")
REGISTRATION = Field(2, "registration", "u32")
TOPIC = Field(3, "topic", "string")

FRAME_TYPES: dict[int, tuple[str, Message]] = {
    0x01: (
        "HELLO",
        (
            Field(1, "version", "u32"),
            Field(2, "token", "string", oneof="credential"),
            Field(3, "ticket", "bytes", oneof="credential"),
            Field(4, "connection", "u64"),
            Field(5, "client", "message", message=CLIENT_INFO),
            Field(6, "cursor", "message", message=CURSOR),
            Field(7, "gap", "message", message=GAP_MARK),
        ),
    ),
    0x02: ("ACK", (Field(1, "ids", "ids"),)),
    0x03: ("REGISTER", (REQUEST, Field(2, "application", "string"), Field(3, "user_token", "string"))),
    0x04: ("UNREGISTER", (REQUEST, REGISTRATION)),
    0x05: ("SUBSCRIBE", (REQUEST, REGISTRATION, TOPIC)),
    0x06: ("UNSUBSCRIBE", (REQUEST, REGISTRATION, TOPIC)),
    0x07: ("PING", ()),
    0x08: ("BYE", ()),
    0x81: (
        "WELCOME",
        (
            Field(1, "server_time_ms", "u64"),
            Field(2, "keepalive_seconds", "u32"),
            Field(3, "limits", "message", message=LIMITS, always=True),
            Field(4, "subscriptions", "u32"),
            Field(5, "ticket", "bytes"),
            Field(6, "ticket_seconds", "u32"),
        ),
    ),
    0x82: (
        "NOTIFY",
        (
            Field(1, "id", "fixed64"),
            REGISTRATION,
            Field(3, "expires_at_seconds", "fixed32"),
            Field(4, "priority", "enum", values=PRIORITY),
            Field(5, "collapse_key", "string"),
            Field(6, "title", "string"),
            Field(7, "message", "string"),
            Field(8, "data", "bytes"),
        ),
    ),
    0x83: (
        "NOTIFY_GROUP",
        (
            Field(1, "id", "fixed64"),
            Field(3, "expires_at_seconds", "fixed32"),
            Field(4, "priority", "enum", values=PRIORITY),
            Field(5, "application", "string", oneof="target"),
            Field(6, "topic", "string", oneof="target"),
            Field(7, "user", "string", oneof="target"),
            Field(8, "project", "string"),
            Field(9, "collapse_key", "string"),
            Field(10, "title", "string"),
            Field(11, "message", "string"),
            Field(12, "data", "bytes"),
            Field(13, "registrations", "u32s"),
            Field(2, "sequence", "u64"),
        ),
    ),
    0x84: ("CAUGHT_UP", (Field(1, "cursor", "message", message=CURSOR),)),
    0x85: (
        "REGISTERED",
        (REQUEST, REGISTRATION, Field(3, "registration_id", "string"), Field(4, "subscriptions", "u32"), Field(5, "project", "string")),
    ),
    0x86: ("DONE", (REQUEST, Field(2, "subscriptions", "u32"))),
    0x87: (
        "GAP",
        (
            Field(1, "count", "u32"),
            Field(2, "reason", "enum", values=GAP_REASON),
            Field(3, "mark", "message", message=GAP_MARK),
        ),
    ),
    0x88: (
        "GOAWAY",
        (
            Field(1, "reason", "enum", values=GOAWAY_REASON),
            Field(2, "after_ms", "u32"),
            Field(3, "jitter_ms", "u32"),
            Field(4, "url", "string"),
        ),
    ),
    0x89: (
        "ERROR",
        (
            Field(1, "code", "string"),
            Field(2, "detail", "string"),
            Field(3, "request", "u32"),
            Field(4, "retry_after_ms", "u32"),
            Field(5, "connection", "u64"),
        ),
    ),
    0x8A: ("PONG", ()),
}

FRAME_CODES = {name: code for code, (name, _) in FRAME_TYPES.items()}
