"""Several interpreters in one process, forks with live mappings, and the end of an interpreter."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import posix_shm
import pytest

from .elsewhere import in_a_process
from .support import PAGE, path_of, run_python

SIZE = 4 * PAGE

# ---- sub-interpreters -------------------------------------------------------------------------


def _interpreters() -> Any:
    """The module that makes interpreters; each has a GIL of its own from Python 3.12 on."""
    for module in ("_interpreters", "_xxsubinterpreters"):
        try:
            return importlib.import_module(module)
        except ImportError:
            pass
    pytest.skip("this Python can't make interpreters")


def _run_in(interpreters: Any, interpreter: Any, code: str) -> None:
    """Runs code in an interpreter; raises if that raises, as 3.11 and 3.12 do by themselves."""
    failure = interpreters.run_string(interpreter, textwrap.dedent(code))
    assert failure is None, failure


@in_a_process
def test_an_interpreter_with_a_gil_of_its_own_can_use_the_module() -> None:
    interpreters = _interpreters()
    interpreter = interpreters.create()
    _run_in(
        interpreters,
        interpreter,
        f"""
        import posix_shm
        with posix_shm.open_anonymous_shm(direction="io", size={SIZE}) as shm:
            with shm.mmap() as mapping:
                mapping[:3] = b"abc"
                assert bytes(memoryview(mapping)[:3]) == b"abc"
            try:
                posix_shm.open_shm("/there-is-none-of-this-name")
            except posix_shm.ShmDoesNotExistError as error:
                assert error.name == "/there-is-none-of-this-name"
        """,
    )
    interpreters.destroy(interpreter)


@in_a_process
def test_the_types_of_interpreters_are_not_the_same() -> None:
    interpreters = _interpreters()
    interpreter = interpreters.create()
    _run_in(
        interpreters,
        interpreter,
        f"import posix_shm; assert id(posix_shm._shm.Mapping) != {id(posix_shm._shm.Mapping)}",
    )
    interpreters.destroy(interpreter)


@in_a_process
def test_many_interpreters_use_one_object_at_the_same_time(name: str) -> None:
    interpreters = _interpreters()
    count = 6
    with posix_shm.open_shm(name, direction="io", if_exists="error", size=count * PAGE) as shm:
        failures: list[BaseException] = []

        def run(number: int) -> None:
            interpreter = interpreters.create()
            try:
                _run_in(
                    interpreters,
                    interpreter,
                    f"""
                    import posix_shm
                    for round in range(200):
                        with posix_shm.open_shm({name!r}, direction="io") as shm:
                            with shm.mmap({PAGE}, offset={number * PAGE}) as mapping:
                                value = round % 256
                                mapping[:] = bytes([value]) * {PAGE}
                                with memoryview(mapping) as view:
                                    assert bytes(view) == bytes([value]) * {PAGE}
                    """,
                )
            except BaseException as error:
                failures.append(error)
            finally:
                interpreters.destroy(interpreter)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        with shm.mmap() as mapping:
            assert mapping[:] == bytes([199]) * (count * PAGE)
        shm.delete()


@in_a_process
def test_the_guard_works_in_every_interpreter_and_outlives_the_one_that_set_it_up() -> None:
    interpreters = _interpreters()
    code = f"""
        import posix_shm
        with posix_shm.open_anonymous_shm(direction="io", size={SIZE}) as shm:
            mapping = shm.mmap(guard=True)
            shm.truncate(0)
        assert not any(mapping[:])
        assert mapping.faulted
        mapping.close()
        """
    first = interpreters.create()
    _run_in(interpreters, first, code)
    with posix_shm.open_anonymous_shm(direction="io", size=SIZE) as shm:
        mapping = shm.mmap(guard=True)
        interpreters.destroy(first)
        shm.truncate(0)
    second = interpreters.create()
    _run_in(interpreters, second, code)
    assert not mapping.faulted
    assert not any(mapping[:])
    assert mapping.faulted
    interpreters.destroy(second)
    mapping.close()


@in_a_process
def test_an_interpreter_may_end_with_live_mappings_and_views() -> None:
    interpreters = _interpreters()
    for _ in range(5):
        interpreter = interpreters.create()
        _run_in(
            interpreters,
            interpreter,
            f"""
            import builtins, posix_shm
            shm = posix_shm.open_anonymous_shm(direction="io", size={SIZE})
            mapping = shm.mmap(guard=True)
            closed = shm.mmap()
            view, other = memoryview(mapping), memoryview(closed)[5:]
            closed.close()
            whole = memoryview(shm)
            cycle = [mapping, view, other, whole]
            cycle.append(cycle)
            builtins.kept = cycle
            shm.close()
            """,
        )
        interpreters.destroy(interpreter)


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
def test_a_child_shares_the_pages_of_live_mappings() -> None:
    with (
        posix_shm.open_anonymous_shm(direction="io", size=SIZE) as shm,
        shm.mmap() as mapping,
        shm.mmap(flags="private") as private,
        memoryview(mapping) as view,
    ):

        def child() -> None:
            mapping[0] = 1
            view[1] = 2
            private[2] = 3

        assert _in_a_child(child) == 0
        assert mapping[:3] == b"\1\2\0"


@in_a_process
def test_what_a_child_closes_and_unmaps_stays_open_and_mapped_in_its_parent() -> None:
    shm = posix_shm.open_anonymous_shm(direction="io", size=SIZE)
    mapping = shm.mmap(guard=True)

    def child() -> None:
        shm.close()
        mapping.unmap()

    assert _in_a_child(child) == 0
    assert shm.size == SIZE
    mapping[0] = 1
    with memoryview(shm) as view:
        assert view[0] == 1
    mapping.close()
    shm.close()


def test_a_child_that_exits_deletes_nothing(name: str) -> None:
    code = (
        "import os, sys, posix_shm\n"
        "shm = posix_shm.open_shm(sys.argv[1], direction='io', if_exists='error', size=4096)\n"
        "mapping = shm.mmap()\n"
        "if os.fork() == 0:\n"
        "    mapping[0] = 7\n"
        "    mapping.close(); shm.close(); sys.exit()\n"
        "os.wait()\n"
        "assert mapping[0] == 7\n"
        "mapping.close(); shm.close()\n"
    )
    run_python(code, name)
    assert path_of(name).read_bytes()[:1] == b"\7"


@in_a_process
def test_a_child_forked_while_threads_are_in_calls_can_use_and_close_everything() -> None:
    shm = posix_shm.open_anonymous_shm(direction="io", size=1 << 20)
    mapping = shm.mmap()
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            mapping[:] = mapping[:]
            _ = shm.size
            with memoryview(shm):
                pass

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()

    def child() -> None:
        assert shm.size == 1 << 20
        assert len(mapping[:]) == 1 << 20
        with memoryview(shm) as view:
            assert len(view) == 1 << 20
        mapping.close()
        shm.close()
        with posix_shm.open_anonymous_shm(direction="io", size=PAGE) as mine:
            mine.mmap().unmap()

    for _ in range(30):
        assert _in_a_child(child) == 0
    stop.set()
    for thread in threads:
        thread.join()
    mapping.unmap()
    shm.close()


# ---- the end ----------------------------------------------------------------------------------

_LIVE = """
import sys, threading, posix_shm
shm = posix_shm.open_anonymous_shm(direction="io", size=1 << 20)
mapping = shm.mmap(guard=True)
"""

ENDS = {
    "views": "view = memoryview(mapping); whole = memoryview(shm); shm.close()",
    "views_of_a_closed_mapping": "view = memoryview(mapping); mapping.close(); shm.close()",
    "a_cycle": """
class Holder: pass
holder = Holder(); holder.holder = holder; holder.view = memoryview(mapping)
holder.mapping = mapping; holder.shm = shm; shm.close()
""",
    "an_iterator_that_is_not_exhausted": "i = iter(memoryview(mapping)); next(i); shm.close()",
    "a_frame": """
def generate():
    with shm, mapping, memoryview(mapping) as view:
        yield view
g = generate(); next(g)
""",
    "a_mapping_that_faulted": "shm.truncate(0); assert mapping[5] == 0; shm.close()",
    "views_in_another_module": "sys.view = memoryview(mapping); sys.shm = shm; shm.close()",
    "a_finaliser_that_uses_it": """
class User:
    def __init__(self): self.shm, self.mapping = shm, mapping
    def __del__(self):
        self.mapping[0] = 1; self.mapping.close(); self.shm.close()
user = User()
""",
    "a_weak_reference_with_a_callback": """
import weakref
r = weakref.ref(mapping, lambda r: None); s = weakref.ref(shm, lambda s: None); shm.close()
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_an_interpreter_may_end_with(end: str) -> None:
    # Without -W error: at the end everything is finalised in any order, as with files.
    done = run_python(_LIVE + ENDS[end], options=())
    assert not done.stderr, done.stderr


@pytest.mark.parametrize("end", ["ndarray", "frombuffer", "a_pointer_that_is_kept"])
def test_an_interpreter_may_end_with_an_array_of(end: str) -> None:
    pytest.importorskip("numpy")
    make = {
        "ndarray": "mapping.ndarray(1 << 20)",
        "frombuffer": "np.frombuffer(mapping, 'u1')",
        "a_pointer_that_is_kept": "np.ndarray(1 << 20, 'u1', buffer=mapping)",
    }[end]
    code = f"{_LIVE}\nimport numpy as np\na = {make}; mapping.close(); shm.close(); a[5] = 3"
    done = run_python(code)
    assert not done.stderr, done.stderr


def test_an_interpreter_may_end_while_daemon_threads_use_everything() -> None:
    code = f"""{_LIVE}
started = threading.Barrier(5)
def use():
    started.wait()
    while True:
        mapping[:] = mapping[:]
        view = memoryview(mapping)
        other = memoryview(shm)
        shm.size
        posix_shm.open_anonymous_shm(size=4096).close()
for _ in range(4):
    threading.Thread(target=use, daemon=True).start()
started.wait()
mapping.populate(workers=2)
"""
    for _ in range(2):
        done = run_python(code, options=())
        assert not done.stderr, done.stderr


def test_an_open_object_at_the_end_is_closed_with_a_resource_warning() -> None:
    done = run_python(_LIVE, options=("-W", "default"))
    assert done.stderr.count("ResourceWarning: unclosed shared memory object") == 1


@in_a_process
def test_a_finaliser_may_make_the_object_alive_again() -> None:
    alive: list[posix_shm.SharedMemoryObject] = []

    class Immortal(posix_shm.SharedMemoryObject):
        def __del__(self) -> None:
            alive.append(self)

    shm = Immortal(posix_shm.open_anonymous_shm(direction="io", size=PAGE).detach())
    del shm
    (again,) = alive
    assert again.size == PAGE
    with closing(again):
        alive.clear()
    assert again.closed
    sys.stdout.flush()
    os._exit(0)  # its finaliser would run at the end
