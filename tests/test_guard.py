"""Guarded mappings: what a peer takes away reads as zeros, and nobody dies of it."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType

import posix_shm
import pytest
from posix_shm import Mapping, MmapError, SharedMemoryObject

from .elsewhere import hunt, in_a_process, run
from .support import PAGE

PAGES = 64
SIZE = PAGES * PAGE
FILL = 0xA5


def _object(pages: int = PAGES, fill: int = FILL) -> SharedMemoryObject:
    """A nameless object full of one byte."""
    shm = posix_shm.open_anonymous_shm(direction="io", size=pages * PAGE)
    with shm.mmap() as mapping:
        mapping[:] = bytes([fill]) * (pages * PAGE)
    return shm


def _gone(pages: int = PAGES, guard: bool = True) -> Mapping:
    """A mapping of an object that a peer has made empty."""
    with _object(pages) as shm:
        mapping = shm.mmap(guard=guard)
        shm.truncate(0)
    return mapping


def _assert_fault(caught: pytest.ExceptionInfo[MmapError]) -> None:
    assert caught.value.errno == errno.EFAULT


# ---- a peer that shrinks the object -----------------------------------------------------------


Reader = Callable[[], set[int]]


def _items(mapping: Mapping) -> Reader:
    return lambda: {mapping[i] for i in range(0, SIZE, PAGE // 4)}


def _slice(mapping: Mapping) -> Reader:
    return lambda: set(mapping[::64])


def _memoryview(mapping: Mapping) -> Reader:
    view = memoryview(mapping)
    return lambda: set(bytes(view))


def _ndarray(mapping: Mapping) -> Reader:
    array = mapping.ndarray(SIZE)
    return lambda: set(array[::64].tolist())


# Each makes a function that reads all pages in its way.
READERS = [_items, _slice, _memoryview, _ndarray]

_TRUNCATE = """
import sys, posix_shm
with posix_shm.open_shm(sys.argv[1], direction="io") as shm:
    print("open", flush=True)
    sys.stdin.readline()
    shm.truncate(0)
"""


@contextmanager
def _peer(name: str) -> Iterator[Callable[[], None]]:
    """Another process, that makes the object empty when it is told to."""
    command = [sys.executable, "-c", _TRUNCATE, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        peer.stdout.readline()
        yield lambda: _tell(peer)
    assert peer.returncode == 0


def _tell(peer: subprocess.Popen[bytes]) -> None:
    assert peer.stdin is not None
    peer.stdin.write(b"\n")
    peer.stdin.flush()


@in_a_process
def test_a_peer_truncates_to_nothing_while_eight_threads_read(name: str) -> None:
    shm = posix_shm.open_shm(name, direction="io", if_exists="error", size=SIZE)
    other = _object(fill=1)
    read_all = threading.Barrier(len(READERS) * 2 + 1)
    with ExitStack() as stack:
        hit = [stack.enter_context(closing(shm.mmap(guard=True))) for _ in READERS]
        untouched = stack.enter_context(closing(shm.mmap(guard=True)))
        safe = [stack.enter_context(closing(other.mmap(guard=True))) for _ in READERS]
        hit[0][:] = bytes([FILL]) * SIZE
        seen: dict[Mapping, set[int]] = {mapping: set() for mapping in hit + safe}

        def read(read: Reader, mapping: Mapping, until: Mapping) -> None:
            seen[mapping] |= read()
            read_all.wait()
            while not until.faulted:
                seen[mapping] |= read()
            seen[mapping] |= read()

        threads = [
            threading.Thread(target=read, args=(reader(mapping), mapping, until))
            for mappings in (hit, safe)
            for reader, mapping, until in zip(READERS, mappings, hit, strict=True)
        ]
        with _peer(name) as truncate:
            for thread in threads:
                thread.start()
            read_all.wait()
            truncate()
            for thread in threads:
                thread.join()
        assert all(mapping.faulted for mapping in hit)
        assert all(seen[mapping] == {FILL, 0} for mapping in hit)
        assert not untouched.faulted
        assert not any(mapping.faulted for mapping in safe)
        assert all(seen[mapping] == {1} for mapping in safe)
        untouched.check()
    other.close()
    shm.close()
    shm.delete()


@pytest.mark.parametrize("flags", ["shared", "private"])
@pytest.mark.parametrize("reader", READERS)
def test_every_way_to_read_gives_zeros(reader: Callable[[Mapping], Reader], flags: str) -> None:
    with _object() as shm, closing(shm.mmap(guard=True, flags=flags)) as mapping:
        read = reader(mapping)
        shm.truncate(0)
        assert not mapping.faulted
        assert read() == {0}
        assert mapping.faulted


def test_a_pointer_that_numpy_kept_reads_zeros() -> None:
    np = pytest.importorskip("numpy")
    with _object() as shm, closing(shm.mmap(guard=True)) as mapping:
        array = np.ndarray(SIZE, "u1", buffer=mapping)
        shm.truncate(0)
        assert not array.any()
        assert mapping.faulted


def test_what_is_written_where_nothing_is_left_can_be_read_back_and_goes_nowhere() -> None:
    with _object() as shm, closing(shm.mmap(guard=True)) as mapping:
        shm.truncate(0)
        mapping[5] = 7
        mapping[PAGE : PAGE + 3] = b"abc"
        assert mapping.faulted
        assert mapping[5] == 7
        assert mapping[PAGE : PAGE + 3] == b"abc"
        shm.truncate(SIZE)
        with shm.mmap() as fresh:
            assert bytes(fresh) == bytes(SIZE)


def test_pages_that_are_still_there_keep_their_bytes() -> None:
    with _object() as shm, closing(shm.mmap(guard=True)) as mapping:
        shm.truncate(SIZE // 2)
        assert mapping[:] == bytes([FILL]) * (SIZE // 2) + bytes(SIZE // 2)
        assert mapping.faulted


def test_shrinking_inside_the_last_page_is_no_fault() -> None:
    with _object() as shm, shm.mmap(guard=True) as mapping:
        shm.truncate(SIZE - PAGE + 1)
        assert mapping[-PAGE:] == bytes([FILL]) + bytes(PAGE - 1)
        assert not mapping.faulted


def test_a_mapping_that_is_not_touched_where_nothing_is_left_has_not_faulted() -> None:
    with _object() as shm, shm.mmap(guard=True) as mapping:
        shm.truncate(PAGE)
        assert mapping[0] == FILL
        assert not mapping.faulted


def test_an_offset_inside_a_page_is_guarded_as_any_other() -> None:
    with _object() as shm, closing(shm.mmap(10, offset=PAGE + 100, guard=True)) as mapping:
        shm.truncate(0)
        assert mapping[:] == bytes(10)
        assert mapping.faulted


def test_a_mapping_that_is_not_guarded_never_says_that_it_faulted() -> None:
    with _object() as shm, shm.mmap() as mapping:
        mapping.check()
        assert not mapping.faulted


def test_a_system_call_on_pages_that_are_gone_is_an_error_and_kills_nobody() -> None:
    reader, writer = os.pipe()
    with (
        closing(_gone()) as mapping,
        memoryview(mapping) as view,
        pytest.raises(OSError, match=os.strerror(errno.EFAULT)),
    ):
        os.write(writer, view)
    os.close(reader)
    os.close(writer)


@in_a_process
def test_more_holes_than_the_kernel_allows_mappings_read_as_zeros() -> None:
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    pages = 2 * limit + 2
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(pages * PAGE)
        with closing(shm.mmap(guard=True)) as mapping:
            shm.truncate(0)
            assert not any(mapping[:: 2 * PAGE])
            assert mapping.faulted


# ---- how a mapping says so --------------------------------------------------------------------


METHODS: dict[str, Callable[[Mapping], object]] = {
    "check": lambda mapping: mapping.check(),
    "flush": lambda mapping: mapping.flush(),
    "advise": lambda mapping: mapping.advise("normal"),
    "protect": lambda mapping: mapping.protect("read"),
    "lock": lambda mapping: mapping.lock(),
    "unlock": lambda mapping: mapping.unlock(),
    "populate": lambda mapping: mapping.populate(),
    "ndarray": lambda mapping: mapping.ndarray(SIZE),
    "unmap": lambda mapping: mapping.unmap(),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_a_mapping_that_faulted_raises(method: str) -> None:
    with closing(_gone()) as mapping:
        assert mapping[0] == 0
        with pytest.raises(MmapError) as caught:
            METHODS[method](mapping)
        _assert_fault(caught)
        assert caught.value.__notes__


def test_a_method_during_which_a_mapping_faults_raises() -> None:
    with closing(_gone()) as mapping:
        with pytest.raises(MmapError) as caught:
            mapping.populate()
        _assert_fault(caught)


def test_leaving_the_with_block_of_a_mapping_that_faulted_raises() -> None:
    mapping = _gone()
    with pytest.raises(MmapError) as caught, mapping:
        _ = mapping[0]
    _assert_fault(caught)
    assert mapping.closed


def test_leaving_the_with_block_never_hides_an_exception_of_its_body() -> None:
    mapping = _gone()
    with pytest.raises(ZeroDivisionError), mapping:
        _ = mapping[0] // 0
    assert mapping.closed
    assert mapping.faulted


def test_a_combined_with_block_says_so_too(name: str) -> None:
    context = posix_shm.open_shm_and_mmap(
        name, SIZE, direction="io", if_exists="error", guard=True
    )
    shm, mapping = context.__enter__()
    shm.truncate(0)
    assert mapping[0] == 0
    with pytest.raises(MmapError) as caught:
        context.__exit__(None, None, None)
    _assert_fault(caught)
    assert shm.closed
    assert mapping.closed


def test_a_fault_after_the_mapping_was_closed_is_still_told() -> None:
    mapping = _gone()
    with memoryview(mapping) as view:
        mapping.close()
        assert not mapping.faulted
        assert view[0] == 0
    assert mapping.faulted
    with pytest.raises(MmapError) as caught:
        mapping.check()
    _assert_fault(caught)


# ---- what else can be done with one -----------------------------------------------------------


def test_the_guard_stays_when_the_protections_change() -> None:
    with _object() as shm, closing(shm.mmap(guard=True)) as mapping:
        memoryview(mapping).release()  # so that the pages move
        mapping.protect("read")
        mapping.protect(["read", "write"])
        shm.truncate(0)
        mapping[3] = 1
        assert mapping[:4] == b"\0\0\0\1"
        assert mapping.faulted


def test_pages_of_zeros_get_the_protections_of_the_mapping() -> None:
    with _object() as shm, closing(shm.mmap(guard=True)) as mapping:
        mapping.protect("read")
        shm.truncate(0)
        assert mapping[0] == 0
        assert _rights_at(mapping.address) == "r--"


def _rights_at(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return line.split()[1][:3]
    raise AssertionError("nothing is mapped there")


def test_a_stale_pointer_into_a_guarded_mapping_reads_zeros_after_unmap() -> None:
    np = pytest.importorskip("numpy")
    with _object() as shm:
        mapping = shm.mmap(guard=True)
        array = np.ndarray(SIZE, "u1", buffer=mapping)
        mapping.unmap()
        shm.truncate(0)
        assert not array.any()
        assert not mapping.faulted


def test_addresses_that_were_guarded_are_not_guarded_later(name: str) -> None:
    done = run(_unguarded_where_a_guard_was)
    assert done.returncode == -signal.SIGBUS, done.stdout + done.stderr


def _unguarded_where_a_guard_was() -> None:
    with _object() as shm:
        with shm.mmap(guard=True) as guarded:
            address = guarded.address
        with shm.mmap(addr=address, flags=["shared", "fixed"]) as mapping:
            shm.truncate(0)
            _ = mapping[0]


# ---- who else gets the signal -----------------------------------------------------------------


def _touch_unguarded(guards: int = 0) -> None:
    with ExitStack() as stack:
        shm = stack.enter_context(_object())
        for _ in range(guards):
            stack.enter_context(shm.mmap(guard=True))
        mapping = stack.enter_context(shm.mmap())
        shm.truncate(0)
        _ = mapping[0]


@pytest.mark.parametrize("guards", [0, 100])
def test_an_unguarded_address_dies_of_sigbus_as_before(guards: int) -> None:
    done = run(_touch_unguarded, {"guards": guards})
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert not done.stderr


def _touch_unguarded_after_a_guarded_fault() -> None:
    with closing(_gone()) as guarded:
        assert guarded[0] == 0
    _touch_unguarded(guards=1)


def test_an_unguarded_address_dies_of_sigbus_after_a_guarded_fault_too() -> None:
    done = run(_touch_unguarded_after_a_guarded_fault)
    assert done.returncode == -signal.SIGBUS, done.stderr


GUARD, ENABLE, DISABLE, IGNORE, HANDLE = "guard", "enable", "disable", "ignore", "handle"


def _prepare(steps: str, stack: ExitStack) -> list[Mapping]:
    """Does steps in their order, and returns the guarded mappings: of what is empty by now."""
    mappings = []
    with _object() as shm:
        for step in steps.split():
            if step == GUARD:
                mappings.append(stack.enter_context(closing(shm.mmap(guard=True))))
            elif step == ENABLE:
                faulthandler.enable()
            elif step == DISABLE:
                faulthandler.disable()
            elif step == IGNORE:
                signal.signal(signal.SIGBUS, signal.SIG_IGN)
            else:
                assert step == HANDLE
                signal.signal(signal.SIGBUS, _note_signal)
        shm.truncate(0)
    return mappings


_noted: list[int] = []


def _note_signal(signum: int, frame: FrameType | None) -> None:
    _noted.append(signum)


def _touch_after(steps: str) -> None:
    with ExitStack() as stack:
        for mapping in _prepare(steps, stack):
            assert not any(mapping[:])
            assert mapping.faulted
        sys.stderr.write("guarded faults are over\n")
        sys.stderr.flush()
        _touch_unguarded()


FAULTHANDLER_ORDERS = [
    "enable guard",
    "guard enable guard",
    "enable guard disable enable guard guard",
]


@pytest.mark.parametrize("steps", FAULTHANDLER_ORDERS)
def test_faulthandler_reports_an_unguarded_fault_and_only_that(steps: str) -> None:
    done = run(_touch_after, {"steps": steps})
    assert done.returncode == -signal.SIGBUS, done.stderr
    before, _, report = done.stderr.partition("guarded faults are over\n")
    assert not before
    assert report.count("Fatal Python error: Bus error") == 1
    assert "_touch_unguarded" in report


@pytest.mark.parametrize("steps", ["guard enable", "guard enable guard enable"])
def test_a_guarded_fault_is_survived_if_faulthandler_was_enabled_after_the_guard(
    steps: str,
) -> None:
    done = run(_touch_after, {"steps": steps})
    assert done.returncode == -signal.SIGBUS, done.stderr
    _, reached, _ = done.stderr.partition("guarded faults are over\n")
    assert reached, done.stderr


@pytest.mark.parametrize("steps", ["enable guard disable guard", "guard enable disable", "guard"])
def test_without_faulthandler_an_unguarded_fault_dies_silently(steps: str) -> None:
    done = run(_touch_after, {"steps": steps})
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stderr == "guarded faults are over\n"


@pytest.mark.parametrize("steps", ["ignore guard", "guard ignore guard"])
def test_ignoring_the_signal_saves_nobody_from_an_unguarded_fault(steps: str) -> None:
    done = run(_touch_after, {"steps": steps})
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stderr == "guarded faults are over\n"


def _send_after(steps: str) -> None:
    with ExitStack() as stack:
        mappings = _prepare(steps, stack)
        os.kill(os.getpid(), signal.SIGBUS)
        sys.stderr.write("it lives\n")
        for mapping in mappings:
            assert not any(mapping[:])
        noted = len(_noted)
    assert noted == ("handle" in steps)


@pytest.mark.parametrize("steps", ["guard"])
def test_a_signal_that_was_sent_kills_by_default(steps: str) -> None:
    done = run(_send_after, {"steps": steps})
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert not done.stderr


@pytest.mark.parametrize("steps", ["enable guard", "guard enable guard"])
def test_a_signal_that_was_sent_is_reported_by_faulthandler(steps: str) -> None:
    done = run(_send_after, {"steps": steps})
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stderr.count("Fatal Python error: Bus error") == 1
    assert "it lives" not in done.stderr


@pytest.mark.parametrize("steps", ["ignore guard", "guard ignore guard"])
def test_a_signal_that_was_sent_is_ignored_if_it_was_ignored_before(steps: str) -> None:
    done = run(_send_after, {"steps": steps})
    assert done.returncode == 0, done.stderr
    assert done.stderr == "it lives\n"


@pytest.mark.parametrize("steps", ["handle guard", "guard handle guard", "handle guard guard"])
def test_a_signal_that_was_sent_reaches_a_handler_in_python(steps: str) -> None:
    done = run(_send_after, {"steps": steps})
    assert done.returncode == 0, done.stderr
    assert done.stderr == "it lives\n"


@in_a_process
def test_signals_sent_to_many_threads_at_once_all_reach_a_handler_in_python() -> None:
    signal.signal(signal.SIGBUS, _note_signal)
    with _object() as shm, shm.mmap(guard=True):

        def send() -> None:
            for _ in range(2000):
                signal.pthread_kill(threading.get_ident(), signal.SIGBUS)

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert _noted


@in_a_process
def test_a_guarded_fault_never_reaches_a_handler_in_python() -> None:
    signal.signal(signal.SIGBUS, _note_signal)
    with closing(_gone()) as mapping:
        assert not any(mapping[:])
    assert not _noted
    assert signal.getsignal(signal.SIGBUS) is _note_signal


# ---- many of them -----------------------------------------------------------------------------


@in_a_process
def test_a_thousand_guarded_mappings_at_once_fault_each_for_itself() -> None:
    with _object(pages=1) as shrinking, _object(pages=1) as staying, ExitStack() as stack:
        hit = [stack.enter_context(closing(shrinking.mmap(guard=True))) for _ in range(500)]
        safe = [stack.enter_context(closing(staying.mmap(guard=True))) for _ in range(500)]
        shrinking.truncate(0)
        for mapping, other in zip(hit[::2], safe[::2], strict=True):
            assert (mapping[0], other[0]) == (0, FILL)
        assert [mapping.faulted for mapping in hit] == [True, False] * 250
        assert not any(mapping.faulted for mapping in safe)


def test_guarded_mappings_come_and_go_while_others_fault() -> None:
    hunt("guard", "--seconds", "2")


# ---- fork -------------------------------------------------------------------------------------


def _in_a_child(action: Callable[[], None]) -> int:
    """The exit code, or minus the signal, of a forked child that does this."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(60)
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@in_a_process
def test_a_forked_child_is_guarded_and_faults_for_itself() -> None:
    with _object() as shm, closing(shm.mmap(guard=True)) as mapping:

        def child() -> None:
            shm.truncate(0)
            assert not any(mapping[:])
            assert mapping.faulted
            mapping.close()

        assert _in_a_child(child) == 0
        assert not mapping.faulted
        assert not any(mapping[:])
        assert mapping.faulted


@in_a_process
def test_a_child_forked_from_among_faulting_threads_can_end_every_guard() -> None:
    np = pytest.importorskip("numpy")
    length = 1 << 33
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(length)
        mappings = [shm.mmap(guard=True) for _ in range(2)]
        shm.truncate(0)

    def fault(mapping: Mapping) -> None:
        # Holds no view, and lets the GIL go.
        np.ndarray(length, "u1", buffer=mapping)[::PAGE].sum()

    for mapping in mappings:
        threading.Thread(target=fault, args=(mapping,), daemon=True).start()

    def child() -> None:
        for mapping in mappings:
            mapping.close()
        with closing(_gone()) as mine:
            assert mine[0] == 0

    for _ in range(30):
        assert _in_a_child(child) == 0
    sys.stdout.flush()
    os._exit(0)  # the threads have a long way to go


# ---- limits -----------------------------------------------------------------------------------


@in_a_process
def test_a_guarded_fault_needs_no_more_address_space() -> None:
    mapping = _gone()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used, hard))
    assert not any(mapping[i] for i in range(0, SIZE, PAGE))
    assert mapping.faulted
    mapping.close()


# ---- handlers in C ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a library of `handlers.c`."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("handlers") / "handlers.so"
    source = Path(__file__).with_name("handlers.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def _load(path: str) -> ctypes.CDLL:
    library = ctypes.CDLL(path)
    library.touch.argtypes = [ctypes.c_void_p]
    library.report.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.errno_changes.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    return library


in_c = pytest.mark.not_under_sanitizers("AddressSanitizer has handlers and stacks of its own")


@in_c
@in_a_process
def test_a_guarded_fault_does_not_change_errno(handlers: str) -> None:
    library = _load(handlers)
    # More holes than mappings are allowed: some of the handler's own calls fail.
    pages = 2 * int(Path("/proc/sys/vm/max_map_count").read_text()) + 2
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        shm.truncate(pages * PAGE)
        with closing(shm.mmap(guard=True)) as mapping:
            shm.truncate(0)
            assert not library.errno_changes(mapping.address, pages // 2, 2 * PAGE)
            assert mapping.faulted


@in_c
@in_a_process
def test_a_handler_that_leaves_by_a_jump_gets_every_later_signal_too(handlers: str) -> None:
    library = _load(handlers)
    assert library.install_here() == 0
    with _object() as shm, shm.mmap(guard=True), shm.mmap() as mapping:
        shm.truncate(0)
        for count in range(1, 5):
            library.touch(mapping.address)
            assert library.handled() == count
        for count in range(5, 8):
            library.raise_here()
            assert library.handled() == count


@in_c
@in_a_process
def test_a_previous_handler_runs_on_its_stack_and_with_its_mask(handlers: str) -> None:
    library = _load(handlers)
    assert library.install() == 0
    with _object() as shm, shm.mmap(guard=True), shm.mmap() as mapping:
        shm.truncate(0)
        library.touch(mapping.address)
        assert library.handled() == 1
        assert library.handled_on_stack()
        assert library.handled_with_mask() == 1


def _catches_sigbus() -> bool:
    status = Path("/proc/self/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGBUS - 1) & 1)


BUS_ADRALN, BUS_ADRERR, BUS_MCEERR_AO = 1, 2, 5


@in_c
@pytest.mark.parametrize("handle", [False, True])
@in_a_process
def test_a_fault_that_comes_when_its_guard_has_just_ended_reaches_nobody(
    handlers: str, handle: bool
) -> None:
    library = _load(handlers)
    if handle:
        assert library.install_here() == 0
    with _object() as shm:
        with shm.mmap(guard=True) as mapping:
            memoryview(mapping).release()  # so that zeros are left there
            address = mapping.address
            mapping.unmap()
            library.report(BUS_ADRERR, address)
            assert library.handled() == 0
            assert _catches_sigbus()
        with closing(shm.mmap(guard=True)) as other:
            shm.truncate(0)
            assert other[0] == 0


@in_c
@pytest.mark.parametrize("code", [BUS_ADRALN, BUS_MCEERR_AO])
@in_a_process
def test_what_is_no_missing_page_goes_to_the_previous_handler_even_in_a_guarded_range(
    handlers: str, code: int
) -> None:
    library = _load(handlers)
    assert library.install_here() == 0
    with _object() as shm, shm.mmap(guard=True) as mapping:
        library.report(code, mapping.address)
        assert library.handled() == 1
        assert not mapping.faulted
        assert mapping[0] == FILL
