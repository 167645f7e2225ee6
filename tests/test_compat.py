"""posix_shm.compat.SharedMemory beside the standard library's class, and where it is better."""

from __future__ import annotations

import errno
import inspect
import os
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory

import pytest
from posix_shm import MmapError, ShmError, ShmExistsError, compat, open_shm
from posix_shm.compat import SharedMemory

from .support import PAGE, NameFactory, descriptors, exists, mode_of, path_of, run_python

# The standard library's class registers what it attaches to, and its tracker is a process of its
# own: it runs where it can do no harm.
BOTH = ["posix_shm.compat", "multiprocessing.shared_memory"]


@pytest.fixture
def bare(name: str) -> str:
    """A name as the standard library has them: without a slash."""
    return name[1:]


@pytest.fixture
def shm(bare: str) -> Iterator[SharedMemory]:
    """A new object of ten bytes."""
    with SharedMemory(bare, create=True, size=10) as made:
        yield made


def buffer_of(shm: SharedMemory) -> memoryview:
    """The bytes of an object that is open."""
    assert shm.buf is not None
    return shm.buf


# ---- the interface -----------------------------------------------------------------------------


def public_names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_it_has_what_the_class_of_the_standard_library_has() -> None:
    assert public_names(SharedMemory) == public_names(shared_memory.SharedMemory)
    ours = inspect.signature(SharedMemory).parameters
    theirs = inspect.signature(shared_memory.SharedMemory).parameters
    assert {name: (p.kind, p.default) for name, p in theirs.items()}.items() <= {
        name: (p.kind, p.default) for name, p in ours.items()
    }.items()
    assert set(ours) - set(theirs) <= {"track"}


PROGRAM = """
import pickle, sys
from {module} import SharedMemory

def failing(*arguments, **options):
    try:
        SharedMemory(*arguments, **options)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        return [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]

name = sys.argv[1]
shm = SharedMemory(name, create=True, size=10)
print(shm, shm.name, shm.size)
print(len(shm.buf), shm.buf.format, shm.buf.readonly, bytes(shm.buf))
shm.buf[:5] = b"hello"

print([failing(create=True, size=size) for size in (0, -1)], failing(name, size=-1), failing())
print([kind for kind in failing(name, True, 10) if "Exists" in kind])
print([kind for kind in failing(name + "-missing") if "NotFound" in kind])

other = SharedMemory(name, size=10_000)
again = pickle.loads(pickle.dumps(shm))
print(other.size, bytes(other.buf), again.name, again.size, bytes(again.buf))
other.close()
other.close()
print(other.buf, other.size, other.name, repr(other))

view = shm.buf
shm.close()
try:
    view[0]
except ValueError as error:
    print(error)
print(bytes(again.buf))
again.unlink()
try:
    again.unlink()
except FileNotFoundError:
    print("unlinked once only")
print(bytes(again.buf))
again.close()
"""


def test_a_program_does_the_same_with_one_import_changed(bare: str) -> None:
    ours, theirs = (
        run_python(PROGRAM.format(module=module), bare, options=()).stdout for module in BOTH
    )
    assert ours == theirs
    assert "hello" in ours


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_name_may_have_a_slash_and_is_shown_without(bare: str, slash: str) -> None:
    with SharedMemory(slash + bare, create=True, size=10) as shm:
        assert shm.name == bare
        assert exists(f"/{bare}")
        shm.unlink()


def test_a_new_object_is_for_its_owner_only(shm: SharedMemory) -> None:
    assert mode_of(f"/{shm.name}") == 0o600


def test_a_name_of_its_own_is_a_new_one_each_time(
    names: NameFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = names(), names()
    fresh = iter([first, first, second])
    monkeypatch.setattr(compat, "fresh_name", lambda: next(fresh))
    with SharedMemory(create=True, size=10) as one, SharedMemory(create=True, size=10) as other:
        assert [one.name, other.name] == [first[1:], second[1:]]


def test_a_name_of_its_own_is_random() -> None:
    with SharedMemory(create=True, size=10) as one, SharedMemory(create=True, size=10) as other:
        assert one.name != other.name
        one.unlink()
        other.unlink()


@pytest.mark.parametrize("track", [False, True])
def test_track_is_accepted_and_has_no_effect(bare: str, track: bool) -> None:
    with SharedMemory(bare, create=True, size=10, track=track):
        assert exists(f"/{bare}")
    assert exists(f"/{bare}")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_by_name(shm: SharedMemory, protocol: int) -> None:
    with pickle.loads(pickle.dumps(shm, protocol)) as again:
        assert type(again) is SharedMemory
        buffer_of(shm)[0] = 7
        assert buffer_of(again)[0] == 7


class Derived(SharedMemory):
    """A class of a program."""


def test_a_derived_class_is_pickled_as_itself(bare: str) -> None:
    with Derived(bare, create=True, size=10) as shm, pickle.loads(pickle.dumps(shm)) as again:
        assert type(again) is Derived
        assert repr(again) == f"Derived({bare!r}, size=10)"


# ---- errors ------------------------------------------------------------------------------------


def test_an_empty_object_is_a_value_error(name: str) -> None:
    open_shm(name, direction="io", if_exists="error").close()
    before = descriptors()
    with pytest.raises(ValueError, match="empty"):
        SharedMemory(name)
    assert descriptors() == before
    assert exists(name)


def test_errors_are_those_of_the_library(shm: SharedMemory) -> None:
    with pytest.raises(ShmExistsError) as caught:
        SharedMemory(shm.name, create=True, size=10)
    assert caught.value.name == f"/{shm.name}"
    with pytest.raises(ShmError) as refused:
        SharedMemory("a/b", create=True, size=10)
    assert refused.value.errno == errno.EINVAL


def test_no_room_is_an_error_now_and_leaves_no_object(bare: str) -> None:
    with pytest.raises(ShmError) as caught:
        SharedMemory(bare, create=True, size=1 << 60)
    assert caught.value.errno == errno.ENOSPC
    assert not exists(f"/{bare}")


@pytest.mark.parametrize("create", [False, True])
def test_what_can_not_be_mapped_is_removed_if_it_is_new_and_only_then(
    name: str, create: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MmapError(errno.ENOMEM, "no memory")

    if not create:
        open_shm(name, direction="io", if_exists="error", size=10).close()
    monkeypatch.setattr("posix_shm.SharedMemoryObject.mmap", fail)
    before = descriptors()
    with pytest.raises(MmapError):
        SharedMemory(name, create=create, size=10)
    assert exists(name) is not create
    assert descriptors() == before


# ---- what is better ----------------------------------------------------------------------------

ATTACH = """
import sys
from posix_shm.compat import SharedMemory
shm = SharedMemory(sys.argv[1])
shm.buf[:5] = b"there"
"""


@pytest.mark.parametrize("end", ["", "shm.close()", "import os; os._exit(1)"])
def test_an_object_outlives_a_process_that_attaches_and_ends(shm: SharedMemory, end: str) -> None:
    run_python(ATTACH + end, shm.name, check=False)
    assert exists(f"/{shm.name}")
    assert bytes(buffer_of(shm)[:5]) == b"there"


def test_an_object_outlives_the_process_that_made_it(bare: str) -> None:
    code = "import sys; from posix_shm.compat import *; SharedMemory(sys.argv[1], True, 10)"
    assert run_python(code, bare).stderr == ""
    with SharedMemory(bare) as shm:
        assert shm.size == 10


def test_no_resource_tracker_is_started(bare: str) -> None:
    code = """
import sys
from posix_shm.compat import SharedMemory
with SharedMemory(sys.argv[1], create=True, size=10) as shm:
    shm.unlink()
assert not any(name.startswith("multiprocessing") for name in sys.modules)
"""
    run_python(code, bare)


def test_it_holds_no_descriptor(bare: str) -> None:
    before = descriptors()
    with SharedMemory(bare, create=True, size=10), SharedMemory(bare):
        assert descriptors() == before


def test_dropping_it_lets_go_of_the_pages_without_a_warning(bare: str) -> None:
    shm = SharedMemory(bare, create=True, size=10)
    mapping = weakref.ref(shm._mapping)
    del shm
    assert mapping() is None


@pytest.mark.parametrize(
    "take",
    [
        lambda shm: shm.buf[:5],
        lambda shm: memoryview(shm.buf),
        lambda shm: shm.buf.cast("h"),
        lambda shm: memoryview(pickle.PickleBuffer(shm.buf)),
    ],
    ids=["slice", "view", "cast", "export"],
)
def test_closing_leaves_live_views_what_they_see(
    shm: SharedMemory, take: Callable[[SharedMemory], memoryview]
) -> None:
    view = take(shm)
    buffer_of(shm)[:2] = b"\1\1"
    shm.close()
    assert shm.buf is None
    assert bytes(view[:2])[0] == 1
    with SharedMemory(shm.name) as other:
        buffer_of(other)[0] = 2
        assert bytes(view[:2])[0] == 2


def test_arrays_outlive_it_and_stale_pointers_read_zeros(bare: str) -> None:
    numpy = pytest.importorskip("numpy")
    shm = SharedMemory(bare, create=True, size=PAGE)
    held = numpy.ndarray((10,), "u1", shm.buf)
    held[:] = 7
    del shm
    assert held.tolist() == [7] * 10
    other = SharedMemory(bare)
    safe = numpy.frombuffer(other.buf, "u1")
    other.close()
    assert safe[:10].tolist() == [7] * 10
    third = SharedMemory(bare)
    stale = numpy.ndarray((10,), "u1", third.buf)
    third.close()
    assert stale.tolist() == [0] * 10


def test_leaving_a_with_block_closes_and_does_not_unlink(bare: str) -> None:
    with pytest.raises(KeyError), SharedMemory(bare, create=True, size=10) as shm:
        raise KeyError
    assert shm.buf is None
    assert exists(f"/{bare}")


def test_a_new_object_has_its_memory(shm: SharedMemory) -> None:
    assert path_of(f"/{shm.name}").stat().st_blocks > 0


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS rounds sizes up to a page")
def test_the_size_is_exact(bare: str) -> None:
    with SharedMemory(bare, create=True, size=PAGE + 1) as shm, SharedMemory(bare) as other:
        assert shm.size == other.size == len(buffer_of(other)) == PAGE + 1
        assert os.stat(path_of(f"/{bare}")).st_size == PAGE + 1
