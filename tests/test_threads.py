"""Close in one place and use in another: never a reused descriptor, never freed pages."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import posix_shm
import pytest
from posix_shm import Mapping, SharedMemoryObject

from .elsewhere import hunt, in_a_process
from .support import PAGE, shared_mappings

MIB = 1 << 20
LONG = 128 * MIB  # takes the system a while
SIZE = 2 * PAGE
DECOY_SIZE = 5 * PAGE + 7


@pytest.mark.parametrize("options", [(), ("--numpy",)], ids=["views", "pointers"])
def test_threads_that_close_under_each_others_hands_find_nothing_wrong(
    options: tuple[str, ...],
) -> None:
    if options:
        pytest.importorskip("numpy")
    assert re.match(r"[1-9]\d* calls", hunt("threads", "--seconds", "2", *options))


# ---- closing while a call is in progress ------------------------------------------------------


@contextmanager
def _observer(shm: SharedMemoryObject) -> Iterator[SharedMemoryObject]:
    """The same object through a descriptor of its own."""
    with posix_shm.make_shm(os.dup(shm.fd)) as same:
        yield same


@contextmanager
def _decoys() -> Iterator[None]:
    """Objects that take every descriptor that is free; nobody may change them."""
    with ExitStack() as stack:
        decoys = [stack.enter_context(posix_shm.open_anonymous_shm()) for _ in range(20)]
        writers = [os.open(f"/proc/self/fd/{decoy.fd}", os.O_RDWR) for decoy in decoys]
        for writer in writers:
            os.ftruncate(writer, DECOY_SIZE)
        yield
        for writer in writers:
            found = os.fstat(writer)
            assert (found.st_size, found.st_blocks) == (DECOY_SIZE, 0)
            os.close(writer)


@contextmanager
def _in_progress(call: Callable[[], object], observer: SharedMemoryObject) -> Iterator[None]:
    """Another thread makes a call that gives the object memory, and has begun to."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while observer.stat().st_blocks == 0 and thread.is_alive():
        time.sleep(0.0001)
    yield
    thread.join()
    assert not failures


@in_a_process
def test_closing_an_object_during_a_reserve_lets_that_finish_and_closes_the_descriptor() -> None:
    shm = posix_shm.open_anonymous_shm(direction="io")
    fd = shm.fd
    with _observer(shm) as observer:
        with _in_progress(lambda: shm.reserve(LONG), observer):
            shm.close()
            assert shm.closed
            with _decoys():
                pass
        assert observer.size == LONG
        assert observer.stat().st_blocks * 512 == LONG
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@in_a_process
def test_detaching_during_a_reserve_gives_a_descriptor_that_stays_open() -> None:
    shm = posix_shm.open_anonymous_shm(direction="io")
    with _observer(shm) as observer:
        with _in_progress(lambda: shm.reserve(LONG), observer):
            fd = shm.detach()
        assert os.fstat(fd).st_ino == observer.stat().st_ino
        assert observer.size == LONG
    os.close(fd)


@in_a_process
def test_closing_a_mapping_during_populate_lets_that_finish_and_gives_the_pages_up() -> None:
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(LONG)
        before = shared_mappings()
        mapping = shm.mmap()
        with _in_progress(lambda: mapping.populate(workers=2), shm):
            mapping.close()
            with pytest.raises(ValueError, match="closed"):
                _ = mapping[0]
        assert shm.stat().st_blocks * 512 == LONG
        assert shared_mappings() == before


def _unmap_is_refused_during_populate() -> bool:
    """False if populate was over before."""
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(LONG)
        with closing(shm.mmap()) as mapping, _in_progress(mapping.populate, shm):
            try:
                mapping.unmap()
            except BufferError:
                return True
    return False


@in_a_process
def test_unmap_is_refused_during_populate() -> None:
    assert any(_unmap_is_refused_during_populate() for _ in range(20))


def _tasks() -> set[Path]:
    """This process's threads, those that Python does not know, too."""
    return set(Path("/proc/self/task").iterdir())


def _signals_of_workers_during_populate() -> list[set[int]]:
    """What each worker blocks, whenever it is looked at; nothing if populate was over before."""
    found = []
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(LONG)
        with closing(shm.mmap()) as mapping:
            thread = threading.Thread(target=lambda: mapping.populate(workers=2))
            before = _tasks()
            thread.start()
            caller = f"{thread.native_id}"
            while thread.is_alive():
                for task in _tasks() - before:
                    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                        if task.name != caller:
                            found.append(_blocked_by(task))
            thread.join()
    return found


def _blocked_by(task: Path) -> set[int]:
    (mask,) = re.findall(r"^SigBlk:\s([0-9a-f]+)$", (task / "status").read_text(), re.MULTILINE)
    bits = int(mask, 16)
    return {bit + 1 for bit in range(64) if bits >> bit & 1}


@in_a_process
def test_the_workers_of_populate_get_no_signals() -> None:
    wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD}
    for _ in range(20):
        if found := _signals_of_workers_during_populate():
            break
    assert found
    assert all(wanted <= blocked for blocked in found)


@in_a_process
def test_what_threads_protect_at_once_is_what_the_mapping_goes_by() -> None:
    rounds = 100_000
    with (
        posix_shm.open_anonymous_shm(direction="io", size=PAGE) as shm,
        shm.mmap() as mapping,
    ):

        def take_away() -> None:
            for _ in range(rounds):
                for protection in ("read", "none"):
                    with suppress(BufferError):  # the other one is at it
                        mapping.protect(protection)

        def write() -> None:
            for _ in range(rounds):
                with suppress(BufferError):
                    mapping.protect(["read", "write"])
                with suppress(BufferError, TypeError):  # which it is not, and never a SIGSEGV
                    mapping[0] = 1

        threads = [threading.Thread(target=action) for action in (take_away, write)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@in_a_process
def test_closing_a_mapping_during_a_long_copy_lets_that_finish() -> None:
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(LONG)
        mapping = shm.mmap()
        content = b"x" * LONG

        def copy() -> None:
            mapping[:] = content

        with _in_progress(copy, shm):
            mapping.close()
        with memoryview(shm) as view:
            assert (view[0], view[-1]) == (120, 120)


# ---- arguments that close what they are for ---------------------------------------------------


class _Closes:
    """A number that closes things when it is asked for; something else takes their place."""

    def __init__(self, number: int, *closed: SharedMemoryObject | Mapping) -> None:
        self.number = number
        self.closed = closed
        self.stack = ExitStack()

    def __index__(self) -> int:
        for thing in self.closed:
            thing.close()
        self.stack.enter_context(_decoys())
        return self.number


def _set_item(mapping: Any, key: object, value: object) -> None:
    mapping[key] = value


ON_MAPPINGS: dict[str, Callable[[Mapping, _Closes], object]] = {
    "item": lambda mapping, number: mapping[number],
    "slice_start": lambda mapping, number: mapping[number:],
    "slice_stop": lambda mapping, number: mapping[:number],
    "slice_step": lambda mapping, number: mapping[::number],
    "set_item": lambda mapping, number: _set_item(mapping, number, 1),
    "set_item_to": lambda mapping, number: _set_item(mapping, 0, number),
    "set_slice": lambda mapping, number: _set_item(mapping, slice(number, 2), b"x"),
    "flush": lambda mapping, number: mapping.flush(number),
    "flush_length": lambda mapping, number: mapping.flush(0, number),
    "advise": lambda mapping, number: mapping.advise("normal", number),
    "populate": lambda mapping, number: mapping.populate(workers=number),
}
ON_OBJECTS: dict[str, Callable[[SharedMemoryObject, _Closes], object]] = {
    "truncate": lambda shm, number: shm.truncate(number),
    "reserve": lambda shm, number: shm.reserve(number),
    "mmap": lambda shm, number: shm.mmap(number),
    "mmap_offset": lambda shm, number: shm.mmap(offset=number),
    "mmap_address": lambda shm, number: shm.mmap(addr=number),
    "chown": lambda shm, number: shm.chown(number),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", ON_MAPPINGS)
def test_an_index_that_closes_the_mapping_makes_the_call_a_value_error(call: str) -> None:
    with posix_shm.open_anonymous_shm(direction="io", size=SIZE) as shm:
        mapping = shm.mmap()
        number = _Closes(1, mapping)
        with pytest.raises(ValueError, match="closed"):
            ON_MAPPINGS[call](mapping, number)
        number.stack.close()
        with memoryview(shm) as view:
            assert not any(view)


@pytest.mark.parametrize("call", ON_MAPPINGS)
def test_an_index_that_closes_a_mapping_with_a_view_makes_the_call_a_value_error(
    call: str,
) -> None:
    with posix_shm.open_anonymous_shm(direction="io", size=SIZE) as shm:
        mapping = shm.mmap()
        with memoryview(mapping) as view:
            number = _Closes(1, mapping)
            with pytest.raises(ValueError, match="closed"):
                ON_MAPPINGS[call](mapping, number)
            number.stack.close()
            assert not any(view)


@pytest.mark.parametrize("call", ON_OBJECTS)
def test_an_index_that_closes_the_object_makes_the_call_a_value_error(call: str) -> None:
    shm = posix_shm.open_anonymous_shm(direction="io", size=SIZE)
    number = _Closes(1, shm)
    with pytest.raises(ValueError, match="closed"):
        ON_OBJECTS[call](shm, number)
    number.stack.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 brought __buffer__")
def test_a_buffer_that_closes_the_mapping_makes_the_assignment_a_value_error() -> None:
    with posix_shm.open_anonymous_shm(direction="io", size=SIZE) as shm:
        mapping = shm.mmap()

        class Closing:
            def __buffer__(self, flags: int) -> memoryview:
                mapping.close()
                return memoryview(b"abc")

        with pytest.raises(ValueError, match="closed"):
            _set_item(mapping, slice(0, 3), Closing())


# ---- handlers of signals that close what the interrupted call uses ----------------------------


@contextmanager
def _once_it_has(
    blocks: int, observer: SharedMemoryObject, action: Callable[[], None]
) -> Iterator[None]:
    """A handler does something while the block gives the object memory, or just after it."""
    done = False

    def handler(signum: int, frame: FrameType | None) -> None:
        nonlocal done
        action()
        done = True

    def watch() -> None:
        while observer.stat().st_blocks < blocks:
            time.sleep(0.0001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, handler)
    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    watcher.join()
    while not done:
        time.sleep(0.0001)


MOMENTS = (1, LONG // 512 // 2)


@in_a_process
def test_a_handler_may_close_the_object_that_is_being_reserved() -> None:
    for blocks in MOMENTS:
        shm = posix_shm.open_anonymous_shm(direction="io")
        with _observer(shm) as observer:
            with _once_it_has(blocks, observer, shm.close):
                shm.reserve(LONG)
            assert shm.closed
            assert observer.size == LONG


@in_a_process
def test_a_handler_may_close_the_mapping_that_is_being_populated() -> None:
    for blocks in MOMENTS:
        with posix_shm.open_anonymous_shm(direction="io") as shm:
            shm.truncate(LONG)
            mapping = shm.mmap()
            with _once_it_has(blocks, shm, mapping.close):
                mapping.populate(workers=2)
            assert mapping.closed
            assert shm.stat().st_blocks * 512 == LONG
            assert not shared_mappings()


# ---- closing at the same time -----------------------------------------------------------------


def _all_at_once(count: int, action: Callable[[], None]) -> None:
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        action()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@in_a_process
def test_closing_in_many_threads_at_once_closes_once() -> None:
    for _ in range(200):
        shm = posix_shm.open_anonymous_shm(direction="io", size=PAGE)
        fd = shm.fd
        with closing(shm.mmap()) as mapping:

            def close_all(shm: SharedMemoryObject = shm, mapping: Mapping = mapping) -> None:
                shm.close()
                mapping.close()
                mapping.unmap()

            _all_at_once(4, close_all)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert not shared_mappings()


@in_a_process
def test_of_many_threads_that_detach_at_once_one_gets_the_descriptor() -> None:
    for _ in range(200):
        shm = posix_shm.open_anonymous_shm()
        got: list[int] = []

        def detach(shm: SharedMemoryObject = shm, got: list[int] = got) -> None:
            with suppress(ValueError):
                got.append(shm.detach())

        _all_at_once(4, detach)
        (fd,) = got
        os.close(fd)
