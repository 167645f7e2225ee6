"""Guarded mappings come and go in many threads, while others of them fault.

Every thread makes objects, maps them several times, makes them shorter and reads.  What is gone
must read as zeros and be told by `faulted`, what is there must keep its bytes, and a mapping that
nothing was taken from must never say that it faulted.
"""

from __future__ import annotations

import random
from contextlib import closing

import posix_shm
from posix_shm import Mapping

from ._common import in_threads, rounds, timed_parser

PAGE = 4096
MOST_PAGES = 8


def check_bytes(mapping: Mapping, fill: int, pages_left: int, pages: int) -> None:
    """Reads a mapping in some way and looks at what it reads and at what it says."""
    was_faulted = mapping.faulted
    start = random.randrange(pages) * PAGE
    length = pages * PAGE - start
    kept = max(0, min(pages_left * PAGE - start, length))
    expected = bytes([fill]) * kept + bytes(length - kept)
    if random.random() < 0.5:
        got = mapping[start:]
    else:
        with memoryview(mapping) as view:
            got = bytes(view[start:])
    assert got == expected, (fill, pages_left, start, got[:16], got[-16:])
    assert mapping.faulted == (was_faulted or kept < length)


def come_and_go(seconds: float) -> int:
    """Returns how many mappings faulted."""
    faults = 0
    for _ in rounds(seconds):
        pages, fill = random.randint(1, MOST_PAGES), random.randint(1, 255)
        with posix_shm.open_anonymous_shm(direction="io", size=pages * PAGE) as shm:
            mappings = [shm.mmap(guard=True) for _ in range(random.randint(1, 40))]
            mappings[0][:] = bytes([fill]) * (pages * PAGE)
            left = random.randint(0, pages)
            shm.truncate(left * PAGE)
        random.shuffle(mappings)
        while mappings:
            check_bytes(random.choice(mappings), fill, left, pages)
            faults += mappings[-1].faulted
            mappings.pop().close()
    return faults


def stay(seconds: float) -> int:
    """Holds a mapping that nothing is taken from."""
    with (
        posix_shm.open_anonymous_shm(direction="io", size=MOST_PAGES * PAGE) as shm,
        closing(shm.mmap(guard=True)) as mapping,
    ):
        mapping[:] = b"s" * (MOST_PAGES * PAGE)
        for _ in rounds(seconds):
            check_bytes(mapping, ord("s"), MOST_PAGES, MOST_PAGES)
    return 0


def main() -> None:
    """The program."""
    options = timed_parser(__doc__)
    options.add_argument("--threads", type=int, default=6)
    arguments = options.parse_args()

    def one() -> int:
        return come_and_go(arguments.seconds)

    faults = in_threads([*[one] * arguments.threads, lambda: stay(arguments.seconds)])
    print(f"{sum(faults)} mappings faulted in {arguments.seconds:g} s")
    assert any(faults)


if __name__ == "__main__":
    main()
