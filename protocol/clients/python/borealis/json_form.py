"""The JSON form of frames in protocol/vectors: camel case, opaque 64-bit values as decimal strings, bytes as hex."""

from __future__ import annotations

from typing import Any

from .frames import Frame
from .schema import FRAME_CODES, FRAME_TYPES, Field, Message

TARGET_KINDS = {"application": "app", "topic": "topic", "user": "user"}
TARGET_FIELDS = {kind: name for name, kind in TARGET_KINDS.items()}


def camel(name: str) -> str:
    """Turns server_time_ms into serverTimeMs."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def frame_to_json(value: Frame) -> dict[str, Any]:
    """A frame as an object that the json module can write."""
    if value.type == "UNKNOWN":
        return {"type": "UNKNOWN", "code": value["code"], "bodyBytes": value["body_bytes"]}
    message = FRAME_TYPES[FRAME_CODES[value.type]][1]
    return {"type": value.type, **fields_to_json(message, value.fields)}


def frame_from_json(value: dict[str, Any]) -> Frame:
    """The frame that such an object describes. Raises KeyError or ValueError for any other object."""
    message = FRAME_TYPES[FRAME_CODES[value["type"]]][1]
    return Frame(value["type"], fields_from_json(message, value))


def fields_to_json(message: Message, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of one message as JSON."""
    out: dict[str, Any] = {}
    for item in message:
        if item.oneof:
            chosen = fields[item.oneof]
            if chosen is None:
                out[item.oneof] = None
            elif chosen[0] == item.name:
                out[item.oneof] = _chosen_to_json(item, chosen[1])
        else:
            out[camel(item.name)] = _value_to_json(item, fields[item.name])
    return out


def fields_from_json(message: Message, value: dict[str, Any]) -> dict[str, Any]:
    """The fields of one message from JSON."""
    out: dict[str, Any] = {}
    for item in message:
        if item.oneof:
            out[item.oneof] = _chosen_from_json(item.oneof, value[item.oneof])
        else:
            name = camel(item.name)
            # What an earlier version stored does not have the numbers.
            out[item.name] = value.get(name, []) if item.kind == "u32s" else _value_from_json(item, value[name])
    return out


def _chosen_to_json(item: Field, value: Any) -> dict[str, Any]:
    if item.oneof == "target":
        return {"kind": TARGET_KINDS[item.name], "name": value}
    return {"kind": item.name, item.name: _value_to_json(item, value)}


def _chosen_from_json(oneof: str, value: dict[str, Any] | None) -> tuple[str, Any] | None:
    if value is None:
        return None
    kind = value["kind"]
    if oneof == "target":
        return TARGET_FIELDS[kind], value["name"]
    return kind, bytes.fromhex(value[kind]) if kind == "ticket" else value[kind]


def _value_to_json(item: Field, value: Any) -> Any:
    if item.kind == "fixed64":
        return str(value)
    if item.kind == "bytes":
        return value.hex()
    if item.kind == "ids":
        return [str(number) for number in value]
    if item.kind == "message":
        return None if value is None else fields_to_json(item.message, value)
    return value


def _value_from_json(item: Field, value: Any) -> Any:
    if item.kind == "fixed64":
        return int(value)
    if item.kind == "bytes":
        return bytes.fromhex(value)
    if item.kind == "ids":
        return [int(number) for number in value]
    if item.kind == "message":
        return None if value is None else fields_from_json(item.message, value)
    return value
