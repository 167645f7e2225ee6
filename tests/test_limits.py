"""Out of descriptors, addresses, memory or permission: a clean error; nothing is lost or left."""

from __future__ import annotations

import errno
import importlib
import itertools
import os
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import posix_shm
import pytest
from posix_shm import MapFlag, MmapError, ShmError, ShmExistsError, ShmPermissionError

from .elsewhere import in_a_dev_shm, in_a_process
from .support import PAGE, descriptors, exists, path_of, shared_mappings

MIB = 1 << 20
BIG = 64 * MIB
SIZE = 2 * PAGE + 1
OLD, NEW = "/old", "/new"  # where /dev/shm is the test's own
CONTENT = bytes(range(256)) * (PAGE // 256)


@contextmanager
def _limited(which: int, limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))


def _contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("/dev/shm").iterdir()}


def _enter_and_leave(context: Any) -> None:
    with context:
        pass


# Ways to get a descriptor or a mapping: of an object that exists, or of a new one.
OPENING: dict[str, Callable[[], None]] = {
    "input": lambda: posix_shm.open_shm(OLD).close(),
    "io": lambda: posix_shm.open_shm(OLD, direction="io").close(),
    "create_or_open": lambda: posix_shm.open_shm(
        OLD, direction="io", if_does_not_exist="create", size=SIZE
    ).close(),
    "anonymous": lambda: posix_shm.open_anonymous_shm().close(),
    "anonymous_input_with_size": lambda: posix_shm.open_anonymous_shm(size=SIZE).close(),
    "anonymous_io_with_size": lambda: posix_shm.open_anonymous_shm(
        direction="io", size=SIZE
    ).close(),
    "sealable": lambda: posix_shm.open_anonymous_shm(sealable=True, size=SIZE).close(),
    "and_mmap": lambda: _enter_and_leave(posix_shm.open_shm_and_mmap(OLD)),
    "anonymous_and_mmap": lambda: _enter_and_leave(
        posix_shm.open_anonymous_shm_and_mmap(SIZE, direction="io")
    ),
}
CREATING: dict[str, Callable[[], None]] = {
    "create": lambda: posix_shm.open_shm(NEW, direction="io", if_exists="error").close(),
    "create_input": lambda: posix_shm.open_shm(NEW, if_does_not_exist="create").close(),
    "create_with_size": lambda: posix_shm.open_shm(
        NEW, direction="io", if_exists="error", size=SIZE
    ).close(),
    "create_input_with_size": lambda: posix_shm.open_shm(
        NEW, if_does_not_exist="create", size=SIZE
    ).close(),
    "create_and_mmap": lambda: _enter_and_leave(
        posix_shm.open_shm_and_mmap(NEW, SIZE, direction="io", if_exists="error")
    ),
}
REPLACING: dict[str, Callable[[], None]] = {
    "supersede": lambda: posix_shm.open_shm(
        OLD, direction="io", if_exists="supersede", size=SIZE
    ).close(),
    "supersede_input": lambda: posix_shm.open_shm(
        OLD, if_exists="supersede", if_does_not_exist="create", size=SIZE
    ).close(),
    "truncate": lambda: posix_shm.open_shm(
        OLD, direction="io", if_exists="truncate", size=SIZE
    ).close(),
    "truncate_input": lambda: posix_shm.open_shm(OLD, if_exists="truncate", size=SIZE).close(),
    "supersede_and_mmap": lambda: _enter_and_leave(
        posix_shm.open_shm_and_mmap(OLD, SIZE, direction="io", if_exists="supersede")
    ),
}
DOORS = OPENING | CREATING | REPLACING


@contextmanager
def _the_old_object() -> Iterator[None]:
    """There is an object before, and nothing else; the test has to check what there is then."""
    path_of(OLD).write_bytes(CONTENT)
    try:
        yield
    finally:
        path_of(OLD).unlink()
        path_of(NEW).unlink(missing_ok=True)


# ---- descriptors ------------------------------------------------------------------------------


@in_a_dev_shm(MIB)
def test_a_call_without_enough_descriptors_raises_and_changes_nothing() -> None:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    for door, action in DOORS.items():
        with _the_old_object():
            before = _contents(), descriptors()
            available = 0
            while _lacks_descriptors(action, lowest_free + available):
                assert (_contents(), descriptors()) == before, door
                available += 1
            assert available > 0, door


def _lacks_descriptors(action: Callable[[], None], limit: int) -> bool:
    with _limited(resource.RLIMIT_NOFILE, limit):
        try:
            action()
        except ShmError as error:
            if error.errno != errno.EMFILE:
                raise
            return True
    return False


@in_a_process
def test_mapping_and_using_an_object_needs_no_further_descriptor() -> None:
    with (
        posix_shm.open_anonymous_shm(direction="io", size=SIZE) as shm,
        _limited(resource.RLIMIT_NOFILE, 0),
        shm.mmap(guard=True) as mapping,
    ):
        mapping.populate(workers=2)
        with memoryview(mapping) as view, memoryview(shm) as other:
            view[0] = 1
            assert other[0] == 1
        assert shm.size == SIZE


# ---- addresses --------------------------------------------------------------------------------


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * PAGE


@contextmanager
def _few_addresses() -> Iterator[None]:
    with _limited(resource.RLIMIT_AS, _address_space() + 32 * MIB):
        yield


MAPPING: dict[str, Callable[[posix_shm.SharedMemoryObject], object]] = {
    "mmap": lambda shm: shm.mmap(),
    "guarded": lambda shm: shm.mmap(guard=True),
    "private": lambda shm: shm.mmap(flags="private"),
    "memoryview": memoryview,
}


@in_a_process
def test_a_mapping_that_finds_no_addresses_is_enomem() -> None:
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(BIG)
        before = shared_mappings()
        for door, make in MAPPING.items():
            with _few_addresses(), pytest.raises(MmapError) as caught:
                make(shm)
            assert caught.value.errno == errno.ENOMEM, door
            assert shared_mappings() == before, door
        assert shm.size == BIG
        with shm.mmap() as mapping:
            mapping[0] = 1


CREATING_AND_MAPPING: dict[str, Callable[[bool], Any]] = {
    "new": lambda reserve: posix_shm.open_shm_and_mmap(
        NEW, BIG, direction="io", if_exists="error", reserve=reserve
    ),
    "new_input": lambda reserve: posix_shm.open_shm_and_mmap(
        NEW, if_does_not_exist="create", size=BIG, reserve=reserve
    ),
    "supersede": lambda reserve: posix_shm.open_shm_and_mmap(
        OLD, BIG, direction="io", if_exists="supersede", reserve=reserve
    ),
    "anonymous": lambda reserve: posix_shm.open_anonymous_shm_and_mmap(
        BIG, direction="io", reserve=reserve
    ),
    "sealable": lambda reserve: posix_shm.open_anonymous_shm_and_mmap(
        BIG, sealable=True, reserve=reserve
    ),
}


@in_a_dev_shm(2 * BIG)
def test_an_object_that_cannot_be_mapped_is_not_made() -> None:
    with _the_old_object():
        before = _contents()
        for door, reserve in itertools.product(CREATING_AND_MAPPING, (True, False)):
            context = CREATING_AND_MAPPING[door](reserve)
            with _few_addresses(), pytest.raises(MmapError) as caught:
                context.__enter__()
            assert caught.value.errno == errno.ENOMEM, door
            assert _contents() == before, (door, reserve)


@in_a_process
def test_a_slice_that_finds_no_memory_is_a_memory_error_and_lets_the_mapping_go() -> None:
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(4 << 30)  # more than an allocator may have reserved before
        with shm.mmap() as mapping:
            with _few_addresses():
                for key in (slice(None), slice(None, None, -1)):
                    with pytest.raises(MemoryError):
                        _ = mapping[key]
            mapping.unmap()


@in_a_process
def test_taking_a_right_away_without_addresses_to_move_to_leaves_the_mapping_as_it_was() -> None:
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(BIG)
        with shm.mmap() as mapping:
            memoryview(mapping).release()
            address = mapping.address
            with _few_addresses(), pytest.raises(MmapError) as caught:
                mapping.protect("read")
            assert caught.value.errno == errno.ENOMEM
            assert mapping.address == address
            mapping[0] = 1
            assert mapping[0] == 1


@in_a_process
def test_populate_works_with_fewer_threads_than_asked_for() -> None:
    with (
        posix_shm.open_anonymous_shm(direction="io", size=64 * MIB) as shm,
        shm.mmap() as mapping,
        _limited(resource.RLIMIT_AS, _address_space() + MIB),
    ):
        mapping.populate(workers=64)
        mapping[-1] = 1


# ---- other limits -----------------------------------------------------------------------------


@in_a_dev_shm(MIB)
def test_a_limit_on_the_size_of_files_is_an_error_and_leaves_nothing() -> None:
    with _the_old_object(), posix_shm.open_shm(OLD, direction="io") as shm:
        before = _contents()
        with _limited(resource.RLIMIT_FSIZE, 2 * PAGE):
            for action in (
                lambda: shm.truncate(SIZE),
                lambda: shm.reserve(SIZE),
                *(DOORS[door] for door in DOORS if "size" in door or door in REPLACING),
            ):
                with pytest.raises(ShmError) as caught:
                    action()
                assert caught.value.errno == errno.EFBIG
                assert _contents() == before


def _be_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


@pytest.mark.not_under_sanitizers("AddressSanitizer makes mlock do nothing")
@in_a_process
def test_more_locked_memory_than_allowed_is_an_error() -> None:
    _be_nobody()
    with (
        posix_shm.open_anonymous_shm(direction="io", size=4 * PAGE) as shm,
        shm.mmap() as mapping,
        _limited(resource.RLIMIT_MEMLOCK, PAGE),
    ):
        with pytest.raises(MmapError) as caught:
            mapping.lock()
        assert caught.value.errno in {errno.ENOMEM, errno.EPERM}
        with pytest.raises(MmapError) as caught:
            shm.mmap(flags=MapFlag.SHARED | MapFlag.LOCKED)
        assert caught.value.errno in {errno.EAGAIN, errno.EPERM}
        mapping[0] = 1


@in_a_process
def test_populate_works_where_no_further_thread_is_allowed() -> None:
    _be_nobody()
    with (
        posix_shm.open_anonymous_shm(direction="io", size=64 * MIB) as shm,
        shm.mmap() as mapping,
        _limited(resource.RLIMIT_NPROC, 0),
    ):
        mapping.populate(workers=4)
        mapping[-1] = 1


# ---- memory of the interpreter ----------------------------------------------------------------


def _use_everything() -> None:
    with posix_shm.open_shm(OLD, direction="io") as shm:
        assert shm.size == len(CONTENT)
        shm.stat()
        with shm.mmap(guard=True) as mapping:
            assert mapping[1] == CONTENT[1]
            assert mapping[1:3] == CONTENT[1:3]
            assert mapping[::-1] == CONTENT[::-1]
            mapping[1:3] = mapping[1:3]
            mapping[::2] = memoryview(mapping)[::2].tobytes()
            mapping.populate(workers=2)
            mapping.protect("read")
            repr(mapping)
        with memoryview(shm) as view:
            assert view[1] == CONTENT[1]
        repr(shm)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


@pytest.mark.parametrize("door", [*DOORS, "use"])
@in_a_dev_shm(MIB)
def test_wherever_the_interpreter_runs_out_of_memory_nothing_is_lost_or_left(door: str) -> None:
    try:
        testcapi: Any = importlib.import_module("_testcapi")
    except ImportError:
        pytest.skip("this Python has no _testcapi, which makes allocations fail")
    # Of an object that is opened already when there is no memory for what follows.
    warnings.simplefilter("ignore", ResourceWarning)
    action = _use_everything if door == "use" else DOORS[door]
    with _the_old_object():
        action()
        allocation = failures = last_failure = 0
        while allocation < last_failure + 20:
            path_of(OLD).write_bytes(CONTENT)
            path_of(NEW).unlink(missing_ok=True)
            before = descriptors(), shared_mappings()
            testcapi.set_nomemory(allocation, allocation + 1)
            try:
                action()
            except Exception as error:
                testcapi.remove_mem_hooks()
                if not _is_out_of_memory(error):
                    raise
                failures += 1
                last_failure = allocation
            finally:
                testcapi.remove_mem_hooks()
            assert (descriptors(), shared_mappings()) == before
            assert last_failure != allocation or _contents() == {OLD[1:]: CONTENT}, allocation
            allocation += 1
        assert failures > 0


# ---- a failed attach --------------------------------------------------------------------------


@pytest.fixture
def existing(name: str) -> str:
    """The name of an object that a failing call may not change."""
    path_of(name).write_bytes(CONTENT)
    return name


ATTACHING: dict[str, tuple[Callable[[str], Any], type[Exception], int | None]] = {
    "longer_than_it_is": (
        lambda name: posix_shm.open_shm_and_mmap(name, 2 * len(CONTENT)),
        MmapError,
        errno.ENXIO,
    ),
    "beyond_its_end": (
        lambda name: posix_shm.open_shm_and_mmap(name, offset=len(CONTENT) + 1),
        MmapError,
        errno.ENXIO,
    ),
    "nothing": (lambda name: posix_shm.open_shm_and_mmap(name, 0), MmapError, errno.EINVAL),
    "writable_for_input": (
        lambda name: posix_shm.open_shm_and_mmap(name, protections="write"),
        MmapError,
        errno.EACCES,
    ),
    "that_it_may_not_exist": (
        lambda name: posix_shm.open_shm_and_mmap(name, PAGE, direction="io", if_exists="error"),
        ShmExistsError,
        errno.EEXIST,
    ),
    "of_an_unknown_kind": (
        lambda name: posix_shm.open_shm_and_mmap(name, flags="sharred"),
        ValueError,
        None,
    ),
}


@pytest.mark.parametrize("attempt", ATTACHING)
def test_a_failed_attach_changes_and_deletes_nothing(attempt: str, existing: str) -> None:
    attach, expected, error = ATTACHING[attempt]
    inode = path_of(existing).stat().st_ino
    with pytest.raises(expected) as caught:
        _enter_and_leave(attach(existing))
    assert getattr(caught.value, "errno", None) == error
    assert path_of(existing).read_bytes() == CONTENT
    assert path_of(existing).stat().st_ino == inode


def test_a_failed_attach_to_an_empty_object_does_not_delete_it(name: str) -> None:
    path_of(name).touch()
    with pytest.raises(MmapError) as caught:
        _enter_and_leave(posix_shm.open_shm_and_mmap(name))
    assert caught.value.errno == errno.EINVAL
    assert exists(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="an object of another user needs root")
@in_a_dev_shm(MIB)
def test_an_attach_without_permission_changes_nothing() -> None:
    path_of(OLD).write_bytes(CONTENT)
    path_of(OLD).chmod(0o600)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _be_nobody()
            for door in ("input", "io", "create_or_open", "and_mmap", *REPLACING):
                with pytest.raises(ShmPermissionError):
                    DOORS[door]()
            with pytest.raises(ShmPermissionError):
                posix_shm.delete_shm(OLD)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert _contents() == {OLD[1:]: CONTENT}
    path_of(OLD).unlink()


@pytest.mark.parametrize("event", ["posix_shm.open", "posix_shm.mmap"])
@pytest.mark.parametrize("door", ["create_and_mmap", "supersede_and_mmap"])
@in_a_dev_shm(MIB)
def test_a_call_that_an_audit_hook_refuses_changes_nothing(door: str, event: str) -> None:
    refused = []

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name == event:
            refused.append(arguments)
            raise PermissionError("the hook does not want it")

    with _the_old_object():
        before = _contents()
        sys.addaudithook(hook)
        with pytest.raises(PermissionError, match="the hook"):
            DOORS[door]()
        assert refused
        assert _contents() == before


@in_a_dev_shm(MIB)
def test_a_creation_that_fails_late_never_deletes_what_got_its_name_meanwhile() -> None:
    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name == "posix_shm.mmap":
            path_of(NEW).unlink(missing_ok=True)
            path_of(NEW).write_bytes(CONTENT)
            raise PermissionError("the hook does not want it")

    sys.addaudithook(hook)
    with pytest.raises(PermissionError, match="the hook"):
        DOORS["create_and_mmap"]()
    assert _contents() == {NEW[1:]: CONTENT}
    path_of(NEW).unlink()


def test_closing_twice_never_closes_a_descriptor_that_was_reused() -> None:
    shm = posix_shm.open_anonymous_shm()
    fd = shm.fd
    shm.close()
    with closing(posix_shm.open_anonymous_shm()) as other:
        assert other.fd == fd
        shm.close()
        assert other.size == 0


@in_a_process
def test_an_object_can_be_viewed_where_twice_its_size_does_not_fit() -> None:
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(BIG + PAGE)
        room = _address_space() + BIG + 16 * MIB
        with _limited(resource.RLIMIT_AS, room), memoryview(shm) as view:
            view[-1] = 1
            assert view.nbytes == BIG + PAGE
