"""A bounded msgpack reader for `data` of notifications: one map with string keys, no extension types."""

from __future__ import annotations

import struct
from typing import Any

from .limits import DATA_DEPTH_MAX

VALUES_MAX = 65_536
"""Most values of a map, on all levels: more than the longest frame can hold."""

FIXED = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class DataError(ValueError):
    """The bytes are not such a map. The notification is shown without attributes."""


def read_data(data: bytes) -> dict[str, Any]:
    """The attributes in `data`; an empty dict for no bytes. Raises DataError."""
    if not data:
        return {}
    reader = _Reader(data)
    value = reader.value(0)
    if not isinstance(value, dict):
        raise DataError("not a map")
    if reader.position != len(data):
        raise DataError("bytes after the map")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.values = 0

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.position:
            raise DataError("ends too early")
        start, self.position = self.position, self.position + length
        return self.data[start : self.position]

    def value(self, depth: int) -> Any:
        self.values += 1
        if self.values > VALUES_MAX:
            raise DataError("too many values")
        code = self.take(1)[0]
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code in CONSTANTS:
            return CONSTANTS[code]
        if code in FIXED:
            form = FIXED[code]
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if code < 0x90:
            return self.map(code & 0x0F, depth + 1)
        if code < 0xA0:
            return self.array(code & 0x0F, depth + 1)
        if code < 0xC0:
            return self.text(code & 0x1F)
        if code not in LENGTHS:
            raise DataError(f"the type 0x{code:02x}, which attributes do not have")
        length = int.from_bytes(self.take(LENGTHS[code]), "big")
        if code <= 0xC6:
            return self.take(length)
        if code <= 0xDB:
            return self.text(length)
        return self.array(length, depth + 1) if code <= 0xDD else self.map(length, depth + 1)

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError("a string that is not UTF-8") from error

    def check(self, depth: int, values: int) -> None:
        if depth > DATA_DEPTH_MAX:
            raise DataError("nested too deep")
        if values > len(self.data) - self.position:
            raise DataError("ends too early")

    def array(self, length: int, depth: int) -> list[Any]:
        self.check(depth, length)
        return [self.value(depth) for _ in range(length)]

    def map(self, length: int, depth: int) -> dict[str, Any]:
        self.check(depth, 2 * length)
        out: dict[str, Any] = {}
        for _ in range(length):
            key = self.value(depth)
            if not isinstance(key, str):
                raise DataError("a key that is not a string")
            out[key] = self.value(depth)
        return out
