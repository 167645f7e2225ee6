"""Threads use objects, mappings and views that other threads close under their hands.

Every object has a size of its own and is full of a byte of its own.  So a call that touched a
descriptor or an address that belongs to something else by now would show: by a wrong size or
inode, by a wrong byte, or by a decoy, an object that nobody is asked to change, that changes.

What is closed may only raise ValueError, what is in use only BufferError.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import posix_shm
from posix_shm import Mapping, SharedMemoryObject

from ._common import in_threads, rounds, timed_parser

PAGE = 4096

DECOY_SIZE = 7 * PAGE + 11

_fills = itertools.count(1)
_replacing = threading.Lock()


@dataclass(eq=False)
class Target:
    """An object with what belongs to it, for anybody to use and to close."""

    shm: SharedMemoryObject
    mapping: Mapping
    pages: int
    fill: int
    inode: int
    views: list[memoryview] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.pages * PAGE


def new_target() -> Target:
    """One that no other target is confused with."""
    fill = next(_fills) % 255 + 1
    pages = random.choice((1, 2, 3, 100))
    shm = posix_shm.open_anonymous_shm(direction="io", size=pages * PAGE)
    mapping = shm.mmap(guard=random.random() < 0.3)
    mapping[:] = bytes([fill]) * (pages * PAGE)
    return Target(shm, mapping, pages, fill, os.fstat(shm.fd).st_ino)


def check_bytes(target: Target, got: bytes, *, or_zeros: bool = False) -> None:
    """Whether these are the target's own."""
    wrong = set(got) - {target.fill} - ({0} if or_zeros else set())
    assert not wrong, f"found {wrong} where {target.fill} should be"


# ---- what threads do --------------------------------------------------------------------------


def use_size(target: Target) -> None:
    assert target.shm.size == target.size


def use_stat(target: Target) -> None:
    assert target.shm.stat().st_ino == target.inode
    assert target.shm.direction == "io"


def use_reserve(target: Target) -> None:
    target.shm.reserve()
    target.shm.truncate(target.size)
    target.shm.chmod(0o600)


def use_item(target: Target) -> None:
    index = random.randrange(target.size)
    check_bytes(target, bytes([target.mapping[index]]))
    target.mapping[index] = target.fill


def use_slice(target: Target) -> None:
    start = random.randrange(target.size)
    got = target.mapping[start :: random.choice((1, 1, 3))]
    check_bytes(target, got)
    target.mapping[start:] = bytes([target.fill]) * (target.size - start)


def use_view(target: Target) -> None:
    with memoryview(target.mapping) as view:
        check_bytes(target, bytes(view))
        view[0] = target.fill


def use_whole(target: Target) -> None:
    with memoryview(target.shm) as view:
        assert len(view) == target.size
        check_bytes(target, bytes(view))


def use_new_mapping(target: Target) -> None:
    with target.shm.mmap(PAGE, offset=random.randrange(target.pages) * PAGE) as mapping:
        check_bytes(target, mapping[:])


def use_kept_view(target: Target) -> None:
    with suppress(IndexError):
        check_bytes(target, bytes(target.views[-1]))
    if len(target.views) < 4:
        target.views.append(memoryview(target.mapping))


def use_advice(target: Target) -> None:
    mapping = target.mapping
    mapping.flush()
    mapping.advise("willneed")
    mapping.populate(workers=random.choice((1, 2)))
    assert mapping.nbytes == target.size
    assert mapping.address
    repr(mapping)
    repr(target.shm)


def use_protect(target: Target) -> None:
    target.mapping.protect("read")
    target.mapping.protect(["read", "write"])


def end_close(target: Target) -> None:
    target.shm.close()


def end_detach(target: Target) -> None:
    fd = target.shm.detach()
    assert os.fstat(fd).st_ino == target.inode
    os.close(fd)


def end_close_mapping(target: Target) -> None:
    target.mapping.close()


def end_unmap(target: Target) -> None:
    target.mapping.unmap()


def end_views(target: Target) -> None:
    while target.views:
        with suppress(IndexError, BufferError):  # another thread takes it, or looks into it
            target.views.pop().release()


USES: list[Callable[[Target], None]] = [
    use_size,
    use_stat,
    use_reserve,
    use_item,
    use_slice,
    use_view,
    use_whole,
    use_new_mapping,
    use_kept_view,
    use_advice,
    use_protect,
]
ENDS: list[Callable[[Target], None]] = [
    end_close,
    end_detach,
    end_close_mapping,
    end_unmap,
    end_views,
]

# `protect` makes a mapping read-only for a moment, when writing to it is a TypeError.
ALLOWED = (ValueError, BufferError, TypeError)


def pointer_of(target: Target) -> Callable[[], bytes]:
    """Reads through a pointer that holds no view."""
    import numpy as np

    pages: Any = target.mapping
    return np.ndarray(target.size, np.uint8, buffer=pages).tobytes


def end_mapping_under_pointer(target: Target) -> None:
    read = pointer_of(target)
    target.mapping.close()
    check_bytes(target, read(), or_zeros=True)


def replace(targets: list[Target], target: Target) -> None:
    """Puts a new target in the place of one that is closed, if nobody has done so."""
    with _replacing:
        if target not in targets:
            return
        targets[targets.index(target)] = new_target()
    end_views(target)


def work(targets: list[Target], ends: list[Callable[[Target], None]], seconds: float) -> int:
    """One thread; returns how many calls it made."""
    calls = 0
    for _ in rounds(seconds):
        target = random.choice(targets)
        with suppress(*ALLOWED):
            random.choice(ends if random.random() < 0.2 else USES)(target)
        calls += 1
        if target.shm.closed and target.mapping.closed:
            replace(targets, target)
    return calls


def live_as_decoys(seconds: float) -> int:
    """Makes objects that get the descriptors and addresses that others gave back; returns 0."""
    for _ in rounds(seconds):
        fds = [os.memfd_create("decoy") for _ in range(8)]
        for fd in fds:
            os.ftruncate(fd, DECOY_SIZE)
        with posix_shm.make_shm(os.dup(fds[0])) as shm, shm.mmap() as mapping:
            os.sched_yield()
            assert not any(mapping[:]), "somebody wrote into a decoy's pages"
        for fd in fds:
            found = os.fstat(fd)
            assert found.st_size == DECOY_SIZE, "somebody resized a decoy"
            assert found.st_blocks * 512 <= 8 * PAGE, "somebody reserved memory for a decoy"
            os.close(fd)  # EBADF if somebody closed it
    return 0


def main() -> None:
    """The program."""
    options = timed_parser(__doc__)
    options.add_argument("--threads", type=int, default=6)
    options.add_argument("--targets", type=int, default=8, help="shared by all (%(default)s)")
    options.add_argument("--numpy", action="store_true", help="keep pointers without views, too")
    arguments = options.parse_args()
    ends = [*ENDS, end_mapping_under_pointer] if arguments.numpy else ENDS
    sys.setswitchinterval(1e-5)
    targets = [new_target() for _ in range(arguments.targets)]

    def one() -> int:
        return work(targets, ends, arguments.seconds)

    calls = in_threads([*[one] * arguments.threads, lambda: live_as_decoys(arguments.seconds)])
    for target in targets:
        target.shm.close()
        target.mapping.close()
        end_views(target)
    print(f"{sum(calls)} calls in {arguments.threads} threads, {arguments.seconds:g} s")


if __name__ == "__main__":
    main()
