#!/usr/bin/env python3
"""Runs the golden vectors of protocol/vectors: frames both ways, and `data` of notifications.

Prints "N passed, N failed" and exits 1 on a difference. Needs only the standard library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from borealis.frames import decode_message, encode_frame  # noqa: E402
from borealis.json_form import frame_from_json, frame_to_json  # noqa: E402
from borealis.msgpack import DataError, read_data  # noqa: E402

VECTORS = HERE.parent.parent / "vectors"
FILES = ("device", "server", "lenient", "invalid")
WRITTEN = ("device", "server")
DATA = ("accept", "refuse", "either")


def check(vector: dict[str, Any], written: bool) -> list[str]:
    """The differences of one vector of frames. `written` vectors are encoded, too."""
    differences = []
    decoded = decode_message(bytes.fromhex(vector["hex"]), vector["from"])
    actual = {"frames": [frame_to_json(frame) for frame in decoded.frames], "error": decoded.error, "offset": decoded.offset}
    expected = {"frames": vector["frames"], "error": vector.get("error"), "offset": vector.get("offset", 0)}
    if actual != expected:
        differences.append(f"decoded {actual}, not {expected}")
    if written:
        bytes_written = b"".join(encode_frame(frame_from_json(frame)) for frame in vector["frames"])
        if bytes_written.hex() != vector["hex"]:
            differences.append(f"encoded {bytes_written.hex()}, not {vector['hex']}")
    return differences


def check_data(kind: str, vector: dict[str, Any]) -> list[str]:
    """The differences of one vector of data.json."""
    try:
        actual = notation(read_data(bytes.fromhex(vector["hex"])))
    except DataError as error:
        return [f"refused: {error}"] if kind == "accept" else []
    if kind == "refuse":
        return [f"read as {actual}"]
    return [f"read as {actual}, not {vector['value']}"] if kind == "accept" and actual != vector["value"] else []


def notation(value: Any) -> str:
    """A value in the notation of RFC 8949, section 8."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{notation(key)}: {notation(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(notation(inner) for inner in value) + "]"
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    return json.dumps(value, ensure_ascii=False)


def load(name: str) -> dict[str, Any]:
    """One file of vectors."""
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def main() -> int:
    passed = failed = 0
    checks = [(name, vector, lambda vector, name=name: check(vector, name in WRITTEN)) for name in FILES for vector in load(name)["vectors"]]
    data = load("data")
    checks += [(kind, vector, lambda vector, kind=kind: check_data(kind, vector)) for kind in DATA for vector in data[kind]]
    for name, vector, differences_of in checks:
        try:
            differences = differences_of(vector)
        except Exception as error:  # a codec that throws is a failed vector, not the end of the run
            differences = [f"{type(error).__name__}: {error}"]
        for difference in differences:
            print(f"{name}: {vector['name']}: {difference[:2000]}", file=sys.stderr)
        passed, failed = (passed, failed + 1) if differences else (passed + 1, failed)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
