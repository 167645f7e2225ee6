"""What importing costs: processes that import, beside one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from .contenders import MMAP, OURS, POSIX_IPC, SHARED_ARRAY, STDLIB, is_installed
from .harness import Repeat, Session

FIGURE = "start and import"
BARE = "bare start"

_STATEMENTS = {
    BARE: "pass",
    OURS: "import posix_shm",
    STDLIB: "import multiprocessing.shared_memory",
    POSIX_IPC: "import posix_ipc, mmap",
    SHARED_ARRAY: "import SharedArray",
    MMAP: "import mmap",
}


def _start(statement: str) -> Repeat:
    # Isolated: neither this directory nor the environment of the benchmark.
    command = [sys.executable, "-I", "-c", statement]

    def run(count: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(count):
            process = os.posix_spawn(sys.executable, command, os.environ)
            if os.waitpid(process, 0)[1] != 0:
                raise subprocess.CalledProcessError(1, command)
        return (time.perf_counter_ns() - start) / 1e9

    return run


def run(session: Session) -> None:
    """Measure the starts."""
    session.compare(
        FIGURE,
        {
            label: _start(statement)
            for label, statement in _STATEMENTS.items()
            if is_installed(label)
        },
        rounds=session.effort(60, 8),
    )
