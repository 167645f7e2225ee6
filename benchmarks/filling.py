"""Filling a fresh large object, where getting the pages costs more than the copy."""

from __future__ import annotations

import mmap

from . import baseline
from .contenders import OURS, C, variant
from .harness import Repeat, Session
from .peers import PEERS, POPULATING_THREADS, Populating, fill

SIZE = 512 << 20
FIGURE = "filling a fresh object of 512 MiB"
POPULATED = variant(OURS, "reserve, populate in two threads, copy")

# In C: whether it reserves, the flags of mmap, the threads that populate and those that copy.
_IN_C = {
    variant(C, "copy"): (False, 0, 0, 1),
    variant(C, "MAP_POPULATE, copy"): (False, mmap.MAP_POPULATE, 0, 1),
    variant(C, "populate in two threads, copy"): (False, 0, POPULATING_THREADS, 1),
    variant(C, "copy in two threads"): (False, 0, 0, POPULATING_THREADS),
    variant(C, "reserve, copy"): (True, 0, 0, 1),
    variant(C, "reserve, populate in two threads, copy"): (True, 0, POPULATING_THREADS, 1),
}


_PEERS = {
    POPULATED: Populating(reserve=True),
    variant(OURS, "populate in two threads, copy"): Populating(reserve=False),
    variant(OURS, "size=, copy"): PEERS[OURS],
    **{label: peer for label, peer in PEERS.items() if label != OURS},
}


def _in_c(name: str, data: bytes, how: tuple[bool, int, int, int]) -> Repeat:
    fill_in_c = baseline.load().fill
    return lambda count: sum(
        fill_in_c(name.encode(), SIZE, data, len(data), *how) for _ in range(count)
    )


def run(session: Session) -> None:
    """Measure the ways to fill it."""
    data = bytes(SIZE)
    contenders = {label: _in_c(session.prefix, data, how) for label, how in _IN_C.items()}
    for label, peer in _PEERS.items():
        contenders[label] = fill(peer, session.prefix, SIZE, data)
    session.compare(FIGURE, contenders, rounds=session.effort(12, 1))
