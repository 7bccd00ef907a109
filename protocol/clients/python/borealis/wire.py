"""Protobuf primitives, bounded. They know no messages."""

from __future__ import annotations

from .limits import NESTING_MAX

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)


class WireError(ValueError):
    """The bytes are not a protobuf message: `protocol_error` on the wire."""


def write_varint(value: int) -> bytes:
    """The shortest varint of a number of 0 or more."""
    if value < 0:
        raise ValueError(f"{value} is negative: a varint is 0 or more")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Reader:
    """Reads a part of some bytes. Every method raises WireError if the part ends too early."""

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end

    @property
    def left(self) -> int:
        """The number of bytes that are not read yet."""
        return self.end - self.position

    def varint(self, bytes_max: int = 10) -> int:
        """An unsigned number of at most `bytes_max` bytes; of ten bytes the low 64 bits count."""
        value = 0
        for index in range(bytes_max):
            if self.position >= self.end:
                raise WireError("ends inside a varint")
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF
        raise WireError(f"a varint of more than {bytes_max} bytes")

    def tag(self) -> tuple[int, int]:
        """Field number and wire type; a tag has at most 5 bytes and 32 bits."""
        tag = self.varint(5)
        if tag > 0xFFFF_FFFF:
            raise WireError("a tag of more than 32 bits")
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise WireError("field number 0")
        if wire_type > FIXED32:
            raise WireError(f"wire type {wire_type}")
        return number, wire_type

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        if length > self.left:
            raise WireError("a field that ends outside its message")
        start, self.position = self.position, self.position + length
        return self.data[start : self.position]

    def fixed(self, length: int) -> int:
        """A little-endian number of `length` bytes."""
        return int.from_bytes(self.take(length), "little")

    def block(self) -> bytes:
        """A length, and that number of bytes."""
        return self.take(self.varint())

    def skip(self, number: int, wire_type: int, depth: int) -> None:
        """Passes over the value of a field; the field is `depth` messages and groups below the body."""
        groups: list[int] = []
        while True:
            if wire_type == GROUP:
                groups.append(number)
                if depth + len(groups) > NESTING_MAX:
                    raise WireError("nested too deep")
            elif wire_type == GROUP_END:
                if not groups or groups.pop() != number:
                    raise WireError("an unbalanced group")
            elif wire_type == VARINT:
                self.varint()
            elif wire_type == BYTES:
                self.block()
            else:
                self.take(8 if wire_type == FIXED64 else 4)
            if not groups:
                return
            number, wire_type = self.tag()
