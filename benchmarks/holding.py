"""What a process holds for each mapping that it keeps: descriptors and memory of its own.

Each contender maps many objects in a process that does nothing else: ``python -m
benchmarks.holding CONTENDER COUNT PREFIX``.  The pages of the objects are not touched.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from .harness import Session
from .peers import PEERS

MAPPINGS = 2_000
DESCRIPTORS = f"descriptors open with {MAPPINGS:,} mappings"
DESCRIPTORS_BEFORE = "descriptors open before"
MEMORY = f"private memory for {MAPPINGS:,} mappings"


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _private_memory() -> int:
    """Bytes in pages that are this process's only; exact, where VmRSS is an estimate."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise LookupError("Anonymous")


def _hold(label: str, count: int, prefix: str) -> dict[str, int]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    peer = PEERS[label]
    names = [f"{prefix}-{i}" for i in range(count + 1)]
    handles = [peer.create(names[0], 4096)]  # what the first one costs, none does after it
    descriptors, memory = _descriptors(), _private_memory()
    handles += [peer.create(name, 4096) for name in names[1:]]
    held = {
        DESCRIPTORS_BEFORE: descriptors,
        DESCRIPTORS: _descriptors(),
        MEMORY: _private_memory() - memory,
    }
    for handle, name in zip(handles, names, strict=True):
        peer.delete(handle, name)
        peer.close(handle)
    return held


def run(session: Session) -> None:
    """Have each contender hold mappings."""
    held = {label: _hold_apart(label, session.prefix) for label in PEERS}
    for figure in (DESCRIPTORS_BEFORE, DESCRIPTORS, MEMORY):
        print(f"  {figure}", file=sys.stderr)
        for label in PEERS:
            unit = "byte" if figure == MEMORY else "integer"
            session.record(figure, label, [held[label][figure]], unit)


def _hold_apart(label: str, prefix: str) -> dict[str, int]:
    """The same, in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, label, str(MAPPINGS), prefix]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    held: dict[str, int] = json.loads(result.stdout)
    return held


if __name__ == "__main__":
    print(json.dumps(_hold(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
