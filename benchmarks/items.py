"""Items, slices and views: what a mapping costs beside ``mmap.mmap`` over the same object."""

from __future__ import annotations

import mmap
import timeit
from contextlib import ExitStack
from multiprocessing import shared_memory

from posix_shm import open_shm_and_mmap

from .contenders import MMAP, OURS, SHARED_ARRAY, STDLIB, is_installed
from .harness import Repeat, Session

SIZE = 1 << 16

READ = "item read"
WRITE = "item write"
SLICE = "slice of 64 bytes"
SLICE_WRITE = "slice of 64 bytes assigned"
VIEW = "memoryview()"

_STATEMENTS = {
    READ: "m[100]",
    WRITE: "m[100] = 7",
    SLICE: "m[64:128]",
    SLICE_WRITE: "m[64:128] = data",
    VIEW: "memoryview(m)",
}
# What gives the same result where the statement above does not.
_OTHERWISE = {
    (SLICE, STDLIB): "bytes(m[64:128])",
    (SLICE, SHARED_ARRAY): "m[64:128].tobytes()",
    (SLICE_WRITE, SHARED_ARRAY): "m[64:128] = array",
}

# So many copies of the statement in the body of the loop hide what the loop costs.
_COPIES = 50


def _repeat(statement: str, names: dict[str, object]) -> Repeat:
    timer = timeit.Timer("\n".join([statement] * _COPIES), globals=names)
    return lambda count: timer.timeit(count) / _COPIES


def run(session: Session) -> None:
    """Measure the statements."""
    with ExitStack() as stack:
        shm, ours = stack.enter_context(
            open_shm_and_mmap(session.prefix, SIZE, direction="io", if_exists="error")
        )
        stack.callback(shm.delete)
        yardstick = stack.enter_context(mmap.mmap(shm.fd, SIZE))
        stdlib = shared_memory.SharedMemory(f"{session.prefix[1:]}-stdlib", create=True, size=SIZE)
        stack.callback(stdlib.unlink)
        stack.callback(stdlib.close)
        names: dict[str, dict[str, object]] = {
            MMAP: {"m": yardstick},
            OURS: {"m": ours},
            STDLIB: {"m": stdlib.buf},
        }
        if is_installed(SHARED_ARRAY):
            import numpy as np
            import SharedArray

            url = f"shm:/{session.prefix}-array"
            array = SharedArray.create(url, SIZE, np.uint8)
            stack.callback(SharedArray.delete, url)
            names[SHARED_ARRAY] = {"m": array, "array": np.arange(64, dtype=np.uint8)}
        for figure, statement in _STATEMENTS.items():
            session.compare(
                figure,
                {
                    label: _repeat(
                        _OTHERWISE.get((figure, label), statement),
                        {"data": bytes(64), **variables},
                    )
                    for label, variables in names.items()
                },
                rounds=session.effort(500, 100),
                round_seconds=0.0002 / _COPIES,
            )
