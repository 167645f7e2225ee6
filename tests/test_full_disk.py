"""In a /dev/shm that holds 1 MiB: nothing dies, and what fails leaves everything as it was."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import NoReturn

import posix_shm
import pytest
from posix_shm import MmapError, SharedMemoryObject, ShmError

from .elsewhere import free_bytes, in_a_dev_shm, no_room, run
from .support import PAGE

KIB = 1 << 10
MIB = 1 << 20
ROOM = 1 * MIB
BIG = 64 * MIB

NAME = "/full"
CONTENT = bytes(range(256)) * 16  # one page on most machines

in_one_mebibyte = in_a_dev_shm(ROOM)


def _object(size: int = 0) -> SharedMemoryObject:
    """A new, sparse object, whose name the caller deletes."""
    shm = posix_shm.open_shm(NAME, direction="io", if_exists="error")
    shm.truncate(size)
    return shm


def _write(content: bytes, offset: int = 0) -> None:
    with Path("/dev/shm", NAME[1:]).open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _read(length: int, offset: int = 0) -> bytes:
    with Path("/dev/shm", NAME[1:]).open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _extent() -> tuple[int, int, int]:
    """What may not change: which object has the name, its size and how much memory it has."""
    found = os.stat(f"/dev/shm{NAME}")
    return found.st_ino, found.st_size, found.st_blocks


# ---- creating ---------------------------------------------------------------------------------


def _enter(context: object) -> NoReturn:
    with context:  # type: ignore[attr-defined]
        pass
    raise AssertionError("there was room")


CREATING: dict[str, Callable[[], object]] = {
    "open_shm": lambda: posix_shm.open_shm(NAME, direction="io", if_exists="error", size=BIG),
    "open_shm_for_input": lambda: posix_shm.open_shm(NAME, if_does_not_exist="create", size=BIG),
    "open_shm_supersede": lambda: posix_shm.open_shm(
        NAME, direction="io", if_exists="supersede", size=BIG
    ),
    "open_shm_truncate": lambda: posix_shm.open_shm(
        NAME, direction="io", if_exists="truncate", if_does_not_exist="create", size=BIG
    ),
    "open_anonymous_shm": lambda: posix_shm.open_anonymous_shm(size=BIG),
    "open_anonymous_shm_for_io": lambda: posix_shm.open_anonymous_shm(direction="io", size=BIG),
    "opened_shm": lambda: _enter(
        posix_shm.opened_shm(NAME, direction="io", if_exists="error", size=BIG)
    ),
    "open_shm_and_mmap": lambda: _enter(
        posix_shm.open_shm_and_mmap(NAME, BIG, direction="io", if_exists="error")
    ),
    "open_shm_and_mmap_size": lambda: _enter(
        posix_shm.open_shm_and_mmap(NAME, direction="io", if_exists="error", size=BIG)
    ),
    "open_shm_and_mmap_offset": lambda: _enter(
        posix_shm.open_shm_and_mmap(NAME, PAGE, direction="io", if_exists="error", offset=BIG)
    ),
    "open_shm_and_mmap_supersede": lambda: _enter(
        posix_shm.open_shm_and_mmap(NAME, BIG, direction="io", if_exists="supersede")
    ),
    "open_anonymous_shm_and_mmap": lambda: _enter(
        posix_shm.open_anonymous_shm_and_mmap(BIG, direction="io")
    ),
}


@in_one_mebibyte
def test_creating_more_than_there_is_room_for_raises_and_leaves_nothing() -> None:
    for door, create in CREATING.items():
        with pytest.raises(ShmError) as caught:
            create()
        assert no_room(caught.value), (door, caught.value.__notes__)
        assert not os.listdir("/dev/shm"), door


REPLACING = ["open_shm_supersede", "open_shm_truncate", "open_shm_and_mmap_supersede"]


@in_one_mebibyte
def test_an_object_that_could_not_be_replaced_is_as_it_was() -> None:
    with closing(_object(len(CONTENT))) as shm:
        _write(CONTENT)
        before = _extent()
        for door in REPLACING:
            with pytest.raises(ShmError) as caught:
                CREATING[door]()
            assert no_room(caught.value), door
            assert _extent() == before, door
            assert _read(len(CONTENT)) == CONTENT, door
        shm.delete()


@in_one_mebibyte
def test_more_than_any_machine_has_is_refused_at_once() -> None:
    for size in (1 << 45, 1 << 60, (1 << 63) - 1):
        with pytest.raises(ShmError) as caught:
            posix_shm.open_shm(NAME, direction="io", if_exists="error", size=size)
        assert caught.value.errno in {errno.ENOSPC, errno.EFBIG}


@in_one_mebibyte
def test_what_fits_can_be_made_down_to_the_last_page() -> None:
    size = free_bytes() - PAGE  # the page that the directory entry takes with some kernels
    with posix_shm.open_shm_and_mmap(NAME, size, direction="io", if_exists="error") as (
        shm,
        mapping,
    ):
        mapping[:] = b"x" * size
        assert bytes(mapping) == b"x" * size
        shm.delete()


# ---- reserving --------------------------------------------------------------------------------


RESERVING: dict[str, Callable[[SharedMemoryObject], object]] = {
    "reserve_size": lambda shm: shm.reserve(BIG),
    "open_shm_and_mmap": lambda shm: _enter(
        posix_shm.open_shm_and_mmap(NAME, BIG, direction="io")
    ),
    "open_shm_and_mmap_truncate": lambda shm: _enter(
        posix_shm.open_shm_and_mmap(NAME, BIG, direction="io", truncate=True)
    ),
    "open_shm_and_mmap_offset": lambda shm: _enter(
        posix_shm.open_shm_and_mmap(NAME, PAGE, direction="io", offset=BIG)
    ),
}


@in_one_mebibyte
def test_reserving_more_than_there_is_room_for_leaves_the_object_as_it_was() -> None:
    with closing(_object(len(CONTENT))) as shm:
        _write(CONTENT)
        before = _extent()
        for door, reserve in RESERVING.items():
            with pytest.raises(ShmError) as caught:
                reserve(shm)
            assert no_room(caught.value), door
            assert _extent() == before, door
            assert _read(len(CONTENT)) == CONTENT, door
        shm.delete()


@in_one_mebibyte
def test_reserving_all_of_a_sparse_object_raises_and_leaves_it_sparse() -> None:
    with closing(_object(BIG)) as shm:
        for reserve in (
            shm.reserve,
            lambda: _enter(posix_shm.open_shm_and_mmap(NAME, direction="io")),
        ):
            with pytest.raises(ShmError) as caught:
                reserve()
            assert no_room(caught.value)
            assert (shm.size, shm.stat().st_blocks) == (BIG, 0)
        shm.delete()


def _reserve_without_hope(shm: SharedMemoryObject, size: int) -> None:
    inode, length, blocks = _extent()
    with pytest.raises(ShmError) as caught:
        shm.reserve(size)
    assert no_room(caught.value)
    assert _extent()[:2] == (inode, length)
    assert _extent()[2] >= blocks


# Memory beyond what is reserved makes it look as if less were needed than is, so that the attempt
# begins and fails on the way: in its first piece, or after several.
ON_THE_WAY = {"in_the_first_piece": 40 * MIB, "after_several_pieces": 400 * MIB}


@in_a_dev_shm(500 * MIB)
def _fail_on_the_way(room: int) -> None:
    tail = room // 4
    with closing(_object(2 * room)) as shm:
        _write(CONTENT, offset=PAGE)
        _write(b"t" * tail, offset=2 * room - tail)
        filler = posix_shm.open_anonymous_shm(size=free_bytes() - (room - tail))
        _reserve_without_hope(shm, room)
        assert _read(len(CONTENT), offset=PAGE) == CONTENT
        assert _read(tail, offset=2 * room - tail) == b"t" * tail
        filler.close()
        shm.delete()


@pytest.mark.parametrize("where", ON_THE_WAY)
def test_a_reserve_that_fails_on_the_way_changes_no_bytes(where: str) -> None:
    _fail_on_the_way(room=ON_THE_WAY[where])


@in_a_dev_shm(500 * MIB)
def _fail_after_an_earlier_reserve(room: int) -> None:
    tail, earlier = room // 4, room // 8
    with closing(_object(2 * room)) as shm:
        shm.reserve(earlier)
        _write(b"t" * tail, offset=2 * room - tail)
        filler = posix_shm.open_anonymous_shm(size=free_bytes() - (room - tail - earlier))
        _reserve_without_hope(shm, room)
        filler.close()
        shm.delete()


@pytest.mark.parametrize("where", ON_THE_WAY)
def test_a_reserve_that_fails_keeps_what_an_earlier_one_reserved(where: str) -> None:
    _fail_after_an_earlier_reserve(room=ON_THE_WAY[where])


# ---- being interrupted ------------------------------------------------------------------------


@in_a_dev_shm(300 * MIB)
def test_a_reserve_that_signals_interrupt_over_and_over_succeeds() -> None:
    ticks = 0

    def tick(signum: int, frame: FrameType | None) -> None:
        nonlocal ticks
        ticks += 1

    signal.signal(signal.SIGALRM, tick)
    with closing(_object()) as shm:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        shm.reserve(256 * MIB)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert ticks > 0
        assert shm.size == 256 * MIB
        assert shm.stat().st_blocks * 512 >= 256 * MIB
        shm.delete()


class _InterruptedError(Exception):
    """What the handlers below raise."""


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise _InterruptedError


def _interrupted(action: Callable[[], object], delay: float) -> bool:
    """Runs the action, in which a handler raises after `delay` seconds if it is not over."""
    signal.signal(signal.SIGALRM, _interrupt)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            action()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _InterruptedError:
        return True
    return False


def _interrupt_at_many_moments(
    action: Callable[[], object], was_rolled_back: Callable[[], bool]
) -> None:
    """Interrupts the action, earlier and earlier, until that has happened a few times.

    :param was_rolled_back: checks what an action left behind, and tells whether it was undone.
    """
    happened = 0
    delay = 0.1
    while happened < 4:
        interrupted = _interrupted(action, delay)
        rolled_back = was_rolled_back()
        assert interrupted or not rolled_back
        happened += rolled_back
        delay *= 0.8
        assert delay > 1e-5, "it was never interrupted"


@in_a_dev_shm(300 * MIB)
def test_a_reserve_that_a_handler_interrupts_by_raising_is_rolled_back() -> None:
    with closing(_object(MIB)) as shm:
        shm.reserve()
        _write(CONTENT)
        before = _extent()

        def was_rolled_back() -> bool:
            completed = shm.size == 256 * MIB
            if completed:
                shm.truncate(MIB)
            assert _extent() == before
            assert _read(len(CONTENT)) == CONTENT
            return not completed

        _interrupt_at_many_moments(lambda: shm.reserve(256 * MIB), was_rolled_back)
        shm.delete()


@in_a_dev_shm(300 * MIB)
def test_an_interrupted_reserve_keeps_what_an_earlier_one_reserved() -> None:
    with closing(_object()) as shm:

        def prepare() -> None:
            shm.truncate(0)
            shm.truncate(256 * MIB)
            shm.reserve(100 * MIB)

        def was_rolled_back() -> bool:
            reserved = shm.stat().st_blocks * 512
            assert reserved >= 100 * MIB
            prepare()
            return reserved < 256 * MIB

        prepare()
        _interrupt_at_many_moments(shm.reserve, was_rolled_back)
        shm.delete()


@pytest.mark.parametrize("if_exists", ["error", "supersede", "truncate"])
@in_a_dev_shm(300 * MIB)
def test_a_creation_that_a_handler_interrupts_by_raising_leaves_nothing(if_exists: str) -> None:
    # Of an object that was made, but that the handler keeps from having a variable.
    warnings.simplefilter("ignore", ResourceWarning)

    def create() -> None:
        posix_shm.open_shm(  # type: ignore[call-overload]
            NAME,
            direction="io",
            if_exists=if_exists,
            if_does_not_exist="create",
            size=256 * MIB,
        ).close()

    def was_rolled_back() -> bool:
        completed = bool(os.listdir("/dev/shm"))
        if completed:
            assert os.listdir("/dev/shm") == [NAME[1:]]
            assert _extent()[1:] == (256 * MIB, 256 * MIB // 512)
            posix_shm.delete_shm(NAME)
        assert free_bytes() == 300 * MIB
        return not completed

    _interrupt_at_many_moments(create, was_rolled_back)


@in_a_dev_shm(300 * MIB)
def test_a_populate_that_a_handler_interrupts_by_raising_leaves_the_mapping_usable() -> None:
    with closing(_object(256 * MIB)) as shm, shm.mmap() as mapping:
        shm.delete()

        def was_rolled_back() -> bool:
            stopped = shm.stat().st_blocks * 512 < 256 * MIB
            mapping.advise("remove")
            mapping[-1] = 1
            assert mapping[-1] == 1
            return stopped

        _interrupt_at_many_moments(lambda: mapping.populate(workers=2), was_rolled_back)


# ---- populating -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4])
@in_one_mebibyte
def test_populating_more_than_there_is_room_for_raises(workers: int) -> None:
    for write, guard in itertools.product((None, True, False), (False, True)):
        with closing(_object(BIG)) as shm, closing(shm.mmap(guard=guard)) as mapping:
            shm.delete()
            with pytest.raises(MmapError) as caught:
                mapping.populate(write=write, workers=workers)
            assert no_room(caught.value), (caught.value, caught.value.__notes__)
            assert not mapping.faulted


@pytest.mark.parametrize("workers", [1, 4])
@in_one_mebibyte
def test_populating_an_object_opened_for_input_beyond_the_room_raises(workers: int) -> None:
    with closing(_object(BIG)) as shm:
        with posix_shm.open_shm(NAME) as reader, reader.mmap() as mapping:
            with pytest.raises(MmapError) as caught:
                mapping.populate(workers=workers)
            assert no_room(caught.value)
        shm.delete()


@in_one_mebibyte
def test_populating_a_mapping_that_a_peer_shrank_is_a_fault_not_a_lack_of_room() -> None:
    with closing(_object(ROOM // 2)) as shm, shm.mmap() as mapping:
        shm.truncate(0)
        with pytest.raises(MmapError) as caught:
            mapping.populate()
        assert caught.value.errno == errno.EFAULT
        shm.delete()


@pytest.mark.not_under_sanitizers("AddressSanitizer makes mlock do nothing")
@in_one_mebibyte
def test_locking_more_than_there_is_room_for_raises() -> None:
    with closing(_object(BIG)) as shm, shm.mmap() as mapping:
        with pytest.raises(MmapError):
            mapping.lock()
        shm.delete()


# ---- writing and reading ----------------------------------------------------------------------


def _write_items(mapping: posix_shm.Mapping) -> None:
    for i in range(0, BIG, PAGE):
        mapping[i] = 7


def _write_slice(mapping: posix_shm.Mapping) -> None:
    mapping[:] = b"\7" * BIG


def _write_steps(mapping: posix_shm.Mapping) -> None:
    mapping[::PAGE] = b"\7" * (BIG // PAGE)


def _write_memoryview(mapping: posix_shm.Mapping) -> None:
    with memoryview(mapping) as view:
        view[:] = b"\7" * BIG


def _write_ndarray(mapping: posix_shm.Mapping) -> None:
    mapping.ndarray(BIG)[:] = 7


def _write_borrowed_pointer(mapping: posix_shm.Mapping) -> None:
    np = pytest.importorskip("numpy")
    np.ndarray(BIG, "u1", buffer=mapping)[:] = 7


WRITING: dict[str, Callable[[posix_shm.Mapping], None]] = {
    "items": _write_items,
    "slice": _write_slice,
    "steps": _write_steps,
    "memoryview": _write_memoryview,
    "ndarray": _write_ndarray,
    "borrowed_pointer": _write_borrowed_pointer,
}


@pytest.mark.parametrize("door", WRITING)
@in_one_mebibyte
def test_writing_more_than_there_is_room_for_under_the_guard_is_seen_by_faulted(door: str) -> None:
    shm = _object(BIG)
    # The kernel populates as far as it can, and says nothing of the rest.
    mapping = shm.mmap(guard=True, flags=["shared", "populate"])
    WRITING[door](mapping)
    assert mapping.faulted
    with pytest.raises(MmapError) as caught:
        mapping.check()
    assert caught.value.errno == errno.EFAULT
    assert shm.stat().st_blocks * 512 <= ROOM
    shm.delete()
    mapping.close()
    shm.close()


@in_one_mebibyte
def test_reading_holes_of_a_full_file_system_under_the_guard_gives_zeros_and_faulted() -> None:
    shm = _object(BIG)
    mapping = shm.mmap(guard=True)
    assert bytes(mapping) == bytes(BIG)
    assert mapping.faulted
    shm.delete()
    mapping.close()
    shm.close()


@in_one_mebibyte
def test_what_had_room_keeps_what_was_written_under_the_guard() -> None:
    shm = _object(BIG)
    _write(CONTENT)
    mapping = shm.mmap(guard=True)
    with memoryview(mapping) as view:
        view[len(CONTENT) :] = b"\7" * (BIG - len(CONTENT))
    assert mapping.faulted
    assert _read(len(CONTENT)) == CONTENT
    shm.delete()
    mapping.close()
    shm.close()


@in_one_mebibyte
def test_reserved_memory_can_be_written_on_a_full_file_system() -> None:
    with posix_shm.open_shm(NAME, direction="io", if_exists="error", size=ROOM // 2) as shm:
        filler = posix_shm.open_anonymous_shm(size=free_bytes())
        assert free_bytes() == 0
        with shm.mmap() as mapping:
            mapping[:] = b"\7" * (ROOM // 2)
        filler.close()
        shm.delete()


def _write_unguarded() -> None:
    shm = _object(BIG)
    shm.delete()
    with shm.mmap() as mapping:
        mapping[:] = b"\7" * BIG


def test_writing_more_than_there_is_room_for_without_the_guard_dies_of_sigbus() -> None:
    done = run(_write_unguarded, dev_shm=ROOM)
    assert done.returncode == -signal.SIGBUS, done.stderr
