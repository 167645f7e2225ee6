"""Python subclasses of the two classes, and what Python may attach to any object."""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from typing import Self

import pytest
from posix_shm import (
    Mapping,
    SharedMemoryObject,
    ShmError,
    is_open_shm,
    is_shm,
    open_anonymous_shm,
    open_anonymous_shm_and_mmap,
)

from .support import PAGE, path_of, run_python


class Plain(SharedMemoryObject):
    """A subclass that adds nothing: it has a __dict__."""


class Slotted(SharedMemoryObject):
    """A subclass with a slot, and no __dict__."""

    __slots__ = ("label",)
    label: str


class Labelled(SharedMemoryObject):
    """A subclass with arguments of its own."""

    label: str

    def __new__(cls, fd: int, name: str | None = None, *, label: str) -> Self:
        self = super().__new__(cls, fd, name)
        self.label = label
        return self

    def __init__(self, fd: int, name: str | None = None, *, label: str) -> None:
        super().__init__()
        self.initialised = label


def descriptor(size: int = 100) -> int:
    """Of a new anonymous object."""
    return open_anonymous_shm(direction="io", size=size).detach()


@pytest.mark.parametrize("kind", [Plain, Slotted])
def test_a_subclass_is_made_as_make_shm_makes_one(kind: type[SharedMemoryObject]) -> None:
    with kind(fd=descriptor(), name="label") as shm:
        assert type(shm) is kind
        assert is_shm(shm)
        assert is_open_shm(shm)
        assert (shm.name, shm.size, shm.direction) == ("/label", 100, "io")
        assert kind.__name__ in repr(shm)


@pytest.mark.parametrize("kind", [Plain, Slotted])
def test_a_subclass_does_what_its_base_does(kind: type[SharedMemoryObject]) -> None:
    with kind(descriptor()) as shm:
        shm.truncate(PAGE)
        shm.reserve()
        shm.chmod("user-all")
        shm.chown()
        assert shm.stat().st_size == PAGE
        with shm.mmap() as m:
            m[0] = 1
            assert bytes(shm)[:2] == b"\1\0"
        with memoryview(shm) as view:
            assert view.obj is shm
        with pytest.raises(ShmError):
            shm.truncate(-1)
    for use in (shm.fileno, shm.stat, lambda: memoryview(shm)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_subclass_that_is_given_no_descriptor_is_an_error_of_the_right_class() -> None:
    with pytest.raises(ShmError):
        Plain(-1)
    with pytest.raises(TypeError):
        Plain()  # type: ignore[call-arg]


def test_a_subclass_may_have_a_dict_or_slots() -> None:
    with Plain(descriptor()) as plain, Slotted(descriptor()) as slotted:
        plain.anything = 1  # type: ignore[attr-defined]
        slotted.label = "a"
        assert (vars(plain), slotted.label) == ({"anything": 1}, "a")
        with pytest.raises(AttributeError):
            slotted.anything = 1  # type: ignore[attr-defined]
        assert not hasattr(slotted, "__dict__")


def test_a_subclass_may_have_arguments_of_its_own() -> None:
    with Labelled(descriptor(), "a", label="b") as shm:
        assert (shm.name, shm.label, shm.initialised) == ("/a", "b", "b")


def test_a_subclass_may_extend_what_it_overrides() -> None:
    class Counting(SharedMemoryObject):
        closes = 0

        def close(self) -> None:
            type(self).closes += 1
            super().close()

        @property
        def size(self) -> int:
            return super().size * 2

    shm = Counting(descriptor(10))
    assert shm.size == 20
    shm.close()
    assert (Counting.closes, shm.closed) == (1, True)


def test_the_classes_themselves_have_no_dict() -> None:
    with open_anonymous_shm_and_mmap(10, direction="io") as (shm, m):
        assert not hasattr(shm, "__dict__")
        assert not hasattr(m, "__dict__")


def test_a_subclass_may_have_other_bases() -> None:
    class Mixin:
        def double(self) -> int:
            return 2 * self.size  # type: ignore[attr-defined, no-any-return]

    class Mixed(Mixin, SharedMemoryObject):
        pass

    with Mixed(descriptor(10)) as shm:
        assert shm.double() == 20


def test_nothing_is_derived_from_mapping_which_only_mmap_makes() -> None:
    with pytest.raises(TypeError, match="base type"):
        type("Ours", (Mapping,), {})
    with pytest.raises(TypeError):
        Mapping()
    with pytest.raises(TypeError):
        object.__new__(Mapping)


# ---- weak references ------------------------------------------------------------------------


def test_both_classes_take_weak_references() -> None:
    with open_anonymous_shm(direction="io", size=10) as shm:
        m = shm.mmap()
        gone: list[str] = []
        reference = weakref.ref(m, lambda _: gone.append("mapping"))
        assert reference() is m
        assert weakref.ref(shm)() is shm
        m.close()
        del m
        gc.collect()
        assert gone == ["mapping"]
        assert reference() is None


@pytest.mark.parametrize("make", [Plain, Slotted, SharedMemoryObject])
def test_a_weak_reference_is_dead_when_the_object_is(make: type[SharedMemoryObject]) -> None:
    shm = make(descriptor())
    shm.close()
    gone: list[bool] = []
    reference = weakref.ref(shm, lambda _: gone.append(True))
    weak = weakref.WeakSet([shm])
    del shm
    gc.collect()
    assert (reference(), gone, len(weak)) == (None, [True], 0)


def test_objects_and_mappings_are_equal_to_themselves_only_and_hashable() -> None:
    with open_anonymous_shm(direction="io", size=10) as shm, shm.mmap() as one, shm.mmap() as two:
        assert one != two
        assert len({shm, one, two, one}) == 3


# ---- the end of one -------------------------------------------------------------------------


def test_a_subclass_in_a_cycle_is_closed_with_a_warning_when_it_is_collected() -> None:
    shm = Plain(descriptor(), "cycle")
    fd = shm.fd
    shm.itself = shm  # type: ignore[attr-defined]
    del shm
    with pytest.warns(ResourceWarning, match="cycle"):
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_finaliser_that_closes_leaves_no_warning() -> None:
    class Closing(SharedMemoryObject):
        def __del__(self) -> None:
            self.close()

    shm = Closing(descriptor())
    fd = shm.fd
    del shm
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_finaliser_that_does_nothing_still_closes_the_descriptor_with_a_warning() -> None:
    class Silent(SharedMemoryObject):
        def __del__(self) -> None:
            pass

    held = [Silent(descriptor(), "silent")]
    fd = held[0].fd
    with pytest.warns(ResourceWarning, match="silent"):
        held.clear()
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_finaliser_that_keeps_the_object_keeps_it_open() -> None:
    run_python("""
import gc, os, weakref
from posix_shm import SharedMemoryObject, open_anonymous_shm

kept = []

class Resurrecting(SharedMemoryObject):
    def __del__(self):
        kept.append(self)

for _ in range(200):
    shm = Resurrecting(open_anonymous_shm(direction="io", size=10).detach())
    fd = shm.fd
    del shm
    gc.collect(0)
    (back,) = kept
    assert not back.closed and back.fd == fd and back.size == 10
    with memoryview(back) as view:
        view[0] = 1
    back.close()
    kept.clear()
    del back
    gc.collect(0)
    kept.clear()
""")


def test_a_finaliser_that_fails_does_no_harm() -> None:
    done = run_python("""
import os
from posix_shm import SharedMemoryObject, open_anonymous_shm

class Failing(SharedMemoryObject):
    def __del__(self):
        self.close()
        raise KeyError("mine")

shm = Failing(open_anonymous_shm().detach())
fd = shm.fd
del shm
try:
    os.fstat(fd)
except OSError:
    print("closed")
""")
    assert done.stdout == "closed\n"
    assert "mine" in done.stderr


def test_classes_of_ours_can_come_and_go() -> None:
    # A type with a reference too many or too few is not collected, or crashes.  In a process that
    # never had a thread: after that, Python 3.13 without a GIL collects no type at all.
    run_python("""
import gc, weakref
from posix_shm import SharedMemoryObject, open_anonymous_shm
references = []
for _ in range(50):
    kind = type("Temporary", (SharedMemoryObject,), {})
    shm = kind(open_anonymous_shm().detach())
    shm.itself = kind
    shm.close()
    references.append(weakref.ref(kind))
    del kind, shm
gc.collect()
left = [reference for reference in references if reference() is not None]
assert left == [], left
""")


def test_an_exception_in_a_subclass_constructor_closes_the_descriptor(name: str) -> None:
    class Refusing(SharedMemoryObject):
        def __init__(self, fd: int, name: str | None = None) -> None:
            raise KeyError(name)

    fd = descriptor()
    with pytest.warns(ResourceWarning), contextlib.suppress(KeyError):
        Refusing(fd, name)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert not path_of(name).exists()
