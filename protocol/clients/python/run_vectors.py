#!/usr/bin/env python3
"""Runs every golden vector of protocol/vectors both ways; prints "N passed, N failed" and exits 1 on a difference.

Needs nothing but the standard library.
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

VECTORS = HERE.parent.parent / "vectors"
FILES = ("device", "server", "lenient", "invalid")


def check(vector: dict[str, Any], written: bool) -> list[str]:
    """What differs; `written` vectors are also encoded."""
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


def main() -> int:
    passed = failed = 0
    for name in FILES:
        for vector in json.loads((VECTORS / f"{name}.json").read_text("utf-8"))["vectors"]:
            try:
                differences = check(vector, written=name in ("device", "server"))
            except Exception as error:  # a codec that throws is a failed vector, not the end of the run
                differences = [f"{type(error).__name__}: {error}"]
            for difference in differences:
                print(f"{name}: {vector['name']}: {difference[:2000]}", file=sys.stderr)
            passed, failed = (passed, failed + 1) if differences else (passed + 1, failed)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
