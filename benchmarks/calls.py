"""Whether C makes the system calls that the library makes: what ``strace`` sees in a cycle."""

from __future__ import annotations

import collections
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import lifecycle
from .contenders import OURS, C

_SIDES = (C, OURS)
_FEW, _MANY = 100, 300


def _counts(figure: str, side: str, cycles: int) -> collections.Counter[str]:
    """The system calls of a process that does so many cycles, by name."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "calls"
        command = [sys.executable, "-m", __spec__.name, figure, side, str(cycles)]
        subprocess.run(["strace", "-f", "-qq", "-o", str(log), *command], check=True)
        calls = re.findall(r"^\d+\s+(\w+)\(", log.read_text(), re.MULTILINE)
    return collections.Counter(calls)


def _calls_per_cycle(figure: str, side: str) -> str:
    """Such as "close 1, mmap 1"; what happens now and then only does not count."""
    few, many = _counts(figure, side, _FEW), _counts(figure, side, _MANY)
    per_cycle = {call: round((many[call] - few[call]) / (_MANY - _FEW)) for call in sorted(many)}
    return ", ".join(f"{call} {count}" for call, count in per_cycle.items() if count)


def key(figure: str, side: str) -> str:
    """Where :func:`describe` puts the calls."""
    return f"calls_{figure}_{side}"


def describe() -> dict[str, str]:
    """The system calls of both sides, if ``strace`` is there."""
    if shutil.which("strace") is None:
        print("without strace: system calls not compared", file=sys.stderr)
        return {}
    facts = {}
    for figure in lifecycle.SAME_CALLS:
        for side in _SIDES:
            facts[key(figure, side)] = _calls_per_cycle(figure, side)
        in_c, ours = (facts[key(figure, side)] for side in _SIDES)
        same = "the same" if in_c == ours else f"NOT the same: C {in_c}; posix_shm {ours}"
        print(f"  system calls, {figure}: {same}", file=sys.stderr)
    return facts


def _run_cycles(figure: str, side: str, cycles: int) -> None:
    for_each = lifecycle.SAME_CALLS[figure][_SIDES.index(side)]
    contender = lifecycle.CONTENDERS[side]
    name = "/psm-bench-calls"
    if figure == lifecycle.ATTACH:
        contender.make_all([name])
    for_each(itertools.repeat(name, cycles))
    if figure == lifecycle.ATTACH:
        contender.delete_all([name])


if __name__ == "__main__":
    _run_cycles(sys.argv[1], sys.argv[2], int(sys.argv[3]))
