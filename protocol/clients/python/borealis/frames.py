"""Encodes frames to bytes and decodes them, without I/O.

The fields of a frame are a dict with the names of borealis.proto. An enum value is its name in lower case, a oneof is
None or a pair (name of the member, value), an absent message is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .limits import DEVICE_FRAME_BYTES_MAX, INTEGER_MAX, LENGTH_PREFIX_BYTES_MAX, SERVER_FRAME_BYTES_MAX
from .schema import FRAME_CODES, FRAME_TYPES, Field, Message
from .wire import BYTES, FIXED32, FIXED64, VARINT, Reader, WireError, write_varint

FRAME_BYTES_MAX = {"device": DEVICE_FRAME_BYTES_MAX, "server": SERVER_FRAME_BYTES_MAX}
ZEROS: dict[str, Any] = {"string": "", "bytes": b""}
MAXIMA = {"u32": 2**32 - 1, "fixed32": 2**32 - 1, "u64": INTEGER_MAX, "fixed64": 2**64 - 1}


@dataclass
class Frame:
    """One frame: the name of its type and its fields. UNKNOWN has `code` and `body_bytes`."""

    type: str
    fields: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


@dataclass
class Decoded:
    """The frames of one message, and its fault, if there is one: the close name `error` for the frame at `offset`."""

    frames: list[Frame]
    error: str | None = None
    offset: int = 0
    detail: str = ""


class FrameError(ValueError):
    """A frame must be refused; `code` is the name of the close code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def zeros(message: Message) -> dict[str, Any]:
    """The fields of an empty message."""
    out: dict[str, Any] = {}
    for item in message:
        if item.oneof:
            out[item.oneof] = None
        elif item.kind == "message":
            out[item.name] = zeros(item.message) if item.always else None
        elif item.kind in ("ids", "u32s"):
            out[item.name] = []
        else:
            out[item.name] = item.values[0] if item.kind == "enum" else ZEROS.get(item.kind, 0)
    return out


def frame(type: str, **fields: Any) -> Frame:
    """A frame of a known type. Fields that are not given are zero. Raises KeyError for an unknown field."""
    message = FRAME_TYPES[FRAME_CODES[type]][1]
    out = zeros(message)
    for name, value in fields.items():
        if name not in out:
            raise KeyError(f"{type} has no {name}")
        out[name] = value
    return Frame(type, out)


# ---- writing ----------------------------------------------------------------------------------


def encode_frame(value: Frame) -> bytes:
    """The bytes of one frame, with its length. Raises ValueError if a value does not fit its field."""
    code = FRAME_CODES[value.type]
    body = encode_body(FRAME_TYPES[code][1], value.fields)
    limit = FRAME_BYTES_MAX["server" if code & 0x80 else "device"]
    if 1 + len(body) > limit:
        raise ValueError(f"a frame of {1 + len(body)} bytes, {limit} are allowed")
    return write_varint(1 + len(body)) + bytes([code]) + body


def encode_body(message: Message, fields: dict[str, Any]) -> bytes:
    """The protobuf bytes of one message."""
    out = bytearray()
    for item in message:
        value = fields[item.oneof or item.name]
        if item.oneof:
            if value is None or value[0] != item.name:
                continue
            value = value[1]
        elif item.kind == "message":
            if value is None:
                continue
        elif not value or item.kind == "enum" and value == item.values[0]:
            continue
        out += _encode_field(item, value)
    return bytes(out)


def _encode_field(item: Field, value: Any) -> bytes:
    if item.kind == "enum":
        return _tag(item, VARINT) + write_varint(item.values.index(value))
    if item.kind in MAXIMA:
        if not 0 <= value <= MAXIMA[item.kind]:
            raise ValueError(f"{item.name} is out of range: {value}")
        if item.kind == "fixed64":
            return _tag(item, FIXED64) + value.to_bytes(8, "little")
        if item.kind == "fixed32":
            return _tag(item, FIXED32) + value.to_bytes(4, "little")
        return _tag(item, VARINT) + write_varint(value)
    if item.kind == "ids":
        block = b"".join(number.to_bytes(8, "little") for number in value)
    elif item.kind == "u32s":
        if any(not 0 <= number <= MAXIMA["u32"] for number in value):
            raise ValueError(f"{item.name} is out of range: {value}")
        block = b"".join(write_varint(number) for number in value)
    elif item.kind == "message":
        block = encode_body(item.message, value)
    else:
        block = value.encode("utf-8") if item.kind == "string" else bytes(value)
    return _tag(item, BYTES) + write_varint(len(block)) + block


def _tag(item: Field, wire_type: int) -> bytes:
    return write_varint(item.number << 3 | wire_type)


# ---- reading ----------------------------------------------------------------------------------


def decode_message(data: bytes, sender: str) -> Decoded:
    """Reads one WebSocket message of `sender` ("device" or "server") up to its end or to its first fault."""
    frames: list[Frame] = []
    position = 0
    try:
        if not data:
            raise FrameError("protocol_error", "a message of no bytes")
        while position < len(data):
            start, length = _read_length(data, position, FRAME_BYTES_MAX[sender])
            frames.append(_read_frame(data, start, start + length, sender))
            position = start + length
    except FrameError as error:
        return Decoded(frames, error.code, position, error.detail)
    return Decoded(frames)


def _read_length(data: bytes, position: int, limit: int) -> tuple[int, int]:
    """The offset of the frame's type, and the number of bytes from there to the end of the frame."""
    length = 0
    for index in range(LENGTH_PREFIX_BYTES_MAX):
        if position + index >= len(data):
            raise FrameError("protocol_error", "ends inside a length")
        byte = data[position + index]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            break
    else:
        raise FrameError("frame_too_large", "a length of more than three bytes")
    start = position + index + 1
    if byte == 0:
        raise FrameError("protocol_error", "a length of 0" if index == 0 else "a length not in its shortest form")
    if length > limit:
        raise FrameError("frame_too_large", f"a frame of {length} bytes, {limit} are allowed")
    if start + length > len(data):
        raise FrameError("protocol_error", "ends inside a frame")
    return start, length


def _read_frame(data: bytes, start: int, end: int, sender: str) -> Frame:
    code = data[start]
    if code not in FRAME_TYPES:
        return Frame("UNKNOWN", {"code": code, "body_bytes": end - start - 1})
    name, message = FRAME_TYPES[code]
    if bool(code & 0x80) != (sender == "server"):
        raise FrameError("unexpected_frame", f"{name} from a {sender}")
    try:
        return Frame(name, _read_fields(message, Reader(data, start + 1, end), 0, zeros(message)))
    except WireError as error:
        raise FrameError("protocol_error", f"{name}: {error}") from error


def _read_fields(message: Message, reader: Reader, depth: int, out: dict[str, Any]) -> dict[str, Any]:
    """Reads a message into `out`: a later scalar replaces an earlier one, messages are merged."""
    known = {item.number: item for item in message}
    while reader.left > 0:
        number, wire_type = reader.tag()
        item = known.get(number)
        if item is None or wire_type not in _wire_types(item):
            reader.skip(number, wire_type, depth)
        elif item.kind == "ids":
            out[item.name].extend(_read_ids(reader, wire_type))
        elif item.kind == "u32s":
            out[item.name].extend(_read_u32s(reader, wire_type))
        elif item.kind == "message":
            part = Reader(reader.block())
            before = out[item.name]
            out[item.name] = _read_fields(item.message, part, depth + 1, zeros(item.message) if before is None else before)
        else:
            value = _read_scalar(item, reader)
            out[item.oneof or item.name] = (item.name, value) if item.oneof else value
    return out


def _wire_types(item: Field) -> tuple[int, ...]:
    if item.kind == "ids":
        return (BYTES, FIXED64)
    if item.kind == "u32s":
        return (BYTES, VARINT)
    if item.kind in ("string", "bytes", "message"):
        return (BYTES,)
    return ({"fixed64": FIXED64, "fixed32": FIXED32}.get(item.kind, VARINT),)


def _read_ids(reader: Reader, wire_type: int) -> list[int]:
    if wire_type == FIXED64:
        return [reader.fixed(8)]
    block = reader.block()
    if len(block) % 8:
        raise WireError("packed ids that are not whole")
    return [int.from_bytes(block[at : at + 8], "little") for at in range(0, len(block), 8)]


def _read_u32s(reader: Reader, wire_type: int) -> list[int]:
    if wire_type == VARINT:
        return [reader.varint() & 0xFFFF_FFFF]
    block = Reader(reader.block())
    numbers = []
    while block.left > 0:
        numbers.append(block.varint() & 0xFFFF_FFFF)
    return numbers


def _read_scalar(item: Field, reader: Reader) -> Any:
    if item.kind == "string":
        try:
            return reader.block().decode("utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"{item.name} is not UTF-8") from error
    if item.kind == "bytes":
        return reader.block()
    if item.kind == "fixed64":
        return reader.fixed(8)
    if item.kind == "fixed32":
        return reader.fixed(4)
    value = reader.varint()
    if item.kind == "u64":
        if value > INTEGER_MAX:
            raise WireError(f"{item.name} is over 2^53-1")
        return value
    value &= 0xFFFF_FFFF
    if item.kind == "enum":
        return item.values[value if value < len(item.values) else 0]
    return value
