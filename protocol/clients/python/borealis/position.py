"""The rules of marks and cursors (PROTOCOL.md, "GAP" and "Group notifications"). The caller makes the state durable."""

from __future__ import annotations

from .frames import Frame
from .state import DeviceState


def new_losses(known: dict[str, int] | None, mark: dict[str, int]) -> int:
    """The number of losses that a mark tells beyond the known mark; 0 or less: none."""
    same_queue = known is not None and known["queue"] == mark["queue"]
    return mark["count"] - (known["count"] if same_queue and known else 0)


def note_gap(state: DeviceState, gap: Frame) -> dict[str, int | str] | None:
    """Applies a GAP to the state. Returns the loss to tell (`count` 0: not known); None: nothing new."""
    mark = gap["mark"]
    if mark is None:
        return {"count": gap["count"], "reason": gap["reason"]}
    count = new_losses(state.gap, mark)
    if count <= 0:
        return None
    state.gap = dict(mark)
    return {"count": count, "reason": gap["reason"]}


def note_sequence(state: DeviceState, sequence: int) -> None:
    """Rule 1: a group notification raises the cursor, and never creates one."""
    if state.cursor is not None and sequence > state.cursor["sequence"]:
        state.cursor["sequence"] = sequence


def note_caught_up(state: DeviceState, cursor: dict[str, int] | None, after_reset: bool = False) -> None:
    """Rule 2: replaces the cursor; of the same incarnation and subscriptions the greater sequence is kept.

    `after_reset`: a GAP said on this connection that the log of the present cursor is gone.
    """
    if cursor is None:
        return
    before = None if after_reset else state.cursor
    state.cursor = dict(cursor)
    same = before is not None and all(before[name] == cursor[name] for name in ("incarnation", "subscriptions"))
    if before is not None and same:
        state.cursor["sequence"] = max(before["sequence"], cursor["sequence"])
