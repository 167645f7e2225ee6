"""Warm bulk copies, and how long the other threads stand still meanwhile.

The yardstick copies in C to the very pages of our mapping.  A stall is the longest time in which
another Python thread, that does nothing but look at the clock, did not get to look: what it is for
the copy in C, which lets the GIL go too, is what the machine does to a thread by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from . import baseline
from .contenders import OURS, C
from .harness import Repeat, Session
from .peers import PEERS

COPY_SIZE = 64 << 20
STALL_SIZE = 512 << 20
COPY = "warm copy of 64 MiB"
STALL_COPY = "warm copy of 512 MiB"
STALL = "longest stall of a thread meanwhile"

Copy = Callable[[], object]


def _repeat(copy: Copy) -> Repeat:
    def run(count: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(count):
            copy()
        return (time.perf_counter_ns() - start) / 1e9

    return run


class _Watcher:
    """Looks at the clock all the time."""

    def __init__(self) -> None:
        self._looks = 0
        self._watched = False
        self._stop = False
        self._longest = 0
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        last = time.perf_counter_ns()
        stop = False
        while not stop:
            stop = self._stop  # before the clock: what happened until then is seen, too
            now = time.perf_counter_ns()
            if self._watched:
                self._longest = max(self._longest, now - last)
            last = now
            self._looks += 1

    def watch(self, copy: Copy) -> float:
        """The longest time between two looks while this runs, in seconds."""
        self._thread.start()
        while self._looks < 100:
            time.sleep(0)
        self._watched = True
        copy()
        self._stop = True
        self._thread.join()
        return self._longest / 1e9


def _stall(copy: Copy) -> Repeat:
    return lambda count: sum(_Watcher().watch(copy) for _ in range(count))


def _copies(session: Session, stack: ExitStack, size: int) -> dict[str, Copy]:
    """A function for each contender that copies the same bytes to where they were before."""
    data = bytes(size)
    copy_in_c = baseline.load().copy
    copies: dict[str, Copy] = {}
    for label, peer in PEERS.items():
        handle = stack.enter_context(peer.fresh(f"{session.prefix}-{len(copies)}", size))
        peer.copy(handle, 0, data)
        copies[label] = lambda peer=peer, handle=handle: peer.copy(handle, 0, data)
        if label == OURS:
            copies[C] = lambda address=handle.address: copy_in_c(address, data, size)
    return copies


def run(session: Session) -> None:
    """Measure the copies, and the stalls."""
    with ExitStack() as stack:
        copies = _copies(session, stack, COPY_SIZE)
        session.compare(
            COPY,
            {label: _repeat(copy) for label, copy in copies.items()},
            rounds=session.effort(60, 8),
        )
    with ExitStack() as stack:
        copies = _copies(session, stack, STALL_SIZE)
        rounds = session.effort(25, 3)
        session.compare(
            STALL_COPY, {label: _repeat(copy) for label, copy in copies.items()}, rounds=rounds
        )
        session.compare(
            STALL, {label: _stall(copy) for label, copy in copies.items()}, rounds=rounds
        )
