"""What the command line shows: objects and their holders as text."""

from __future__ import annotations

import math
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from ._survey import Found, Holder, Survey


# ---- objects -----------------------------------------------------------------------------------


def listing(found: Sequence[Found], seen: Survey, *, in_bytes: bool = False) -> str:
    """The table of ``ls``.

    :param found: the objects, one for each line.
    :param seen: who holds them.
    :param in_bytes: show sizes exactly.
    """
    from pwd import getpwuid

    size = str if in_bytes else _human
    now = time.time()
    rows = [["NAME", "SIZE", "RESIDENT", "MODE", "OWNER", "AGE", "HELD BY"]]
    for one in found:
        holders = [f"{holder.pid} {on_one_line(holder.command)}" for holder in seen.holders(one)]
        if len(holders) > 3:
            holders[3:] = [f"{len(holders) - 3} more"]
        rows.append(
            [
                on_one_line(one.name),
                size(one.status.st_size),
                size(one.resident),
                stat.filemode(one.status.st_mode)[1:],
                _name_of(one.status.st_uid, getpwuid),
                _duration(now - one.status.st_mtime),
                ", ".join(holders) or _nobody(seen),
            ]
        )
    return _table(rows, right=(1, 2, 5))


def record(one: Found, seen: Survey) -> dict[str, object]:
    """An object in the JSON of ``ls``."""
    from pwd import getpwuid

    status = one.status
    return {
        "name": one.name,
        "size": status.st_size,
        "resident": one.resident,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": _name_of(status.st_uid, getpwuid),
        "uid": status.st_uid,
        "age": max(0, time.time() - status.st_mtime),
        "holders": [
            {
                "pid": holder.pid,
                "command": holder.command,
                "mapped": holder.mapped,
                "open": holder.open,
            }
            for holder in seen.holders(one)
        ],
        "all_processes_seen": seen.complete,
    }


def details(one: Found, seals: str, seen: Survey) -> str:
    """What ``stat`` says of an object."""
    from grp import getgrgid
    from pwd import getpwuid

    status = one.status
    rows = [
        ["name", on_one_line(one.name)],
        ["size", f"{status.st_size} ({_human(status.st_size)})"],
        ["resident", f"{one.resident} ({_human(one.resident)})"],
        ["mode", f"{stat.S_IMODE(status.st_mode):04o} {stat.filemode(status.st_mode)[1:]}"],
        ["owner", f"{status.st_uid} ({_name_of(status.st_uid, getpwuid)})"],
        ["group", f"{status.st_gid} ({_name_of(status.st_gid, getgrgid)})"],
        ["device", f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"],
        ["inode", str(status.st_ino)],
        ["links", str(status.st_nlink)],
        ["accessed", _moment(status.st_atime)],
        ["modified", _moment(status.st_mtime)],
        ["changed", _moment(status.st_ctime)],
        ["seals", seals],
    ]
    holders = [_described(holder) for holder in seen.holders(one)] or [_nobody(seen)]
    rows += [["held by" if i == 0 else "", holder] for i, holder in enumerate(holders)]
    return _table(rows)


_NAMED = 3  # processes; more would be a list, and not a line


def blind_spots(seen: Survey) -> list[str]:
    """Which processes could not be looked into."""
    spots = []
    if seen.unseen:
        count = len(seen.unseen)
        what = "1 process" if count == 1 else f"{count} processes"
        some = seen.names_of_unseen(_NAMED) + ["…"] * (count > _NAMED)
        which = ", ".join(map(on_one_line, some))
        spots.append(f"no permission to look into {what} ({which}), which may hold objects, too")
    if seen.hidden:
        spots.append("other users' processes are hidden, and may hold objects, too")
    return spots


def question(unused: Sequence[Found]) -> str:
    """What ``rm --unused`` asks."""
    age = _duration(time.time() - max(one.status.st_mtime for one in unused))
    freed = _human(sum(one.resident for one in unused))
    if len(unused) == 1:
        return f"Remove this object, {age} old, and free {freed}? [y/N] "
    return f"Remove these {len(unused)} objects, the youngest {age} old, and free {freed}? [y/N] "


def message(error: OSError) -> str:
    """One line: what happened to what, and what the notes say can be done about it."""
    text = error.strerror or str(error)
    if error.filename is not None:
        text = f"{on_one_line(os.fsdecode(error.filename))}: {text}"
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{text} ({notes})" if notes else text


def on_one_line(text: str) -> str:
    """Somebody else's text, with escapes for what would command the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


# ---- parts -------------------------------------------------------------------------------------


def _nobody(seen: Survey) -> str:
    """What stands where no holder was found."""
    return "-" if seen.complete else "?"


def _described(holder: Holder) -> str:
    how = " and ".join(word for word in ("mapped", "open") if getattr(holder, word))
    return f"{holder.pid} ({how}): {on_one_line(holder.command_line())}"


def _name_of(number: int, entry_of: Callable[[int], Any]) -> str:
    """The name of a user or a group, if it has one.

    :param number: its ID.
    :param entry_of: ``pwd.getpwuid`` or ``grp.getgrgid``.
    """
    try:
        return str(entry_of(number)[0])
    except KeyError:
        return str(number)


def _human(size: int) -> str:
    """A number of bytes, rounded up, as ``ls -h`` shows it."""
    value, units = float(size), 0
    while math.ceil(value) >= 1024:
        value /= 1024
        units += 1
    unit = ("", *"KMGTPE")[units]
    tenths = math.ceil(value * 10) / 10
    return f"{tenths:.1f}{unit}" if unit and tenths < 10 else f"{math.ceil(value)}{unit}"


def _duration(seconds: float) -> str:
    """A time span in its largest unit, rounded down."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= length:
            return f"{int(seconds / length)}{unit}"
    return f"{int(max(0, seconds))}s"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def _table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Columns that line up, those with the numbers `right` at their right edges."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(space + cell if number in right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)
