"""A state machine over everything that can be done with objects, with a model beside it.

The model of an object is a bytearray.  Whatever Hypothesis thinks of is done to both, and after
each step every object must hold the bytes of its model, every name must refer to the right object,
and every live view must see the right bytes.

    POSIX_SHM_STEPS=100000 python -m pytest tests/test_state_machine.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import posix_shm
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from posix_shm import Mapping, MmapError, SharedMemoryObject, ShmError

from .support import PAGE, PREFIX, exists, path_of

T = TypeVar("T")

STEPS_PER_EXAMPLE = 50
SIZES = st.sampled_from([0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE + 5])
PICKS = st.integers(0, 10)
NAMES = st.integers(0, 2)


@dataclass(eq=False)
class Model:
    """An object: its bytes, and how many names and holders it has is of no matter."""

    inode: int
    content: bytearray

    def resize(self, size: int) -> None:
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))


@dataclass(eq=False)
class Handle:
    """An open SharedMemoryObject."""

    shm: SharedMemoryObject
    model: Model


@dataclass(eq=False)
class View:
    """A live view of the bytes from `offset` on of an object."""

    view: memoryview
    model: Model
    offset: int

    def reachable(self) -> int:
        """How many of its bytes the object still has."""
        return max(0, min(len(self.view), len(self.model.content) - self.offset))


@dataclass(eq=False)
class Mapped:
    """A Mapping, open or closed, and its views."""

    mapping: Mapping
    model: Model
    offset: int
    length: int
    guard: bool
    for_io: bool
    faulted: bool = False
    views: list[View] = field(default_factory=list)

    def reachable(self) -> int:
        """How many of its bytes the object still has."""
        return max(0, min(self.length, len(self.model.content) - self.offset))

    def first_page_without_memory(self) -> int:
        """The position after the last page that the object still has a part of."""
        pages = -(-len(self.model.content) // PAGE)
        return max(0, pages * PAGE - self.offset)

    def expected(self, start: int, stop: int) -> bytes:
        return bytes(self.model.content[self.offset + start : self.offset + stop])


def pick(things: list[T], number: int) -> T:
    """One of several things, by any number."""
    return things[number % len(things)]


class SharedMemory(RuleBasedStateMachine):
    """What can be done, and what must hold."""

    steps = 0
    machines = 0

    def __init__(self) -> None:
        super().__init__()
        SharedMemory.machines += 1
        self.prefix = f"{PREFIX}machine{SharedMemory.machines}-"
        self.names: dict[str, Model] = {}
        self.handles: list[Handle] = []
        self.mapped: list[Mapped] = []
        self.views: list[View] = []

    # ---- helpers ------------------------------------------------------------------------------

    def live_models(self) -> list[Model]:
        of_names = list(self.names.values())
        return list(dict.fromkeys(of_names + [handle.model for handle in self.handles]))

    def guarded(self) -> list[Mapped]:
        return [mapped for mapped in self.mapped if mapped.guard and not mapped.mapping.closed]

    def writable(self, mapped: Mapped) -> bool:
        return not mapped.mapping.readonly

    def add_handle(self, shm: SharedMemoryObject, model: Model | None) -> None:
        if model is None:
            found = shm.stat()
            model = Model(found.st_ino, bytearray(found.st_size))
        self.handles.append(Handle(shm, model))

    # ---- objects ------------------------------------------------------------------------------

    @initialize(size=SIZES)
    def begin_with_an_object(self, size: int) -> None:
        shm = posix_shm.open_shm(f"{self.prefix}0", direction="io", if_exists="error", size=size)
        self.add_handle(shm, None)
        self.names[f"{self.prefix}0"] = self.handles[-1].model

    @rule(
        number=NAMES,
        direction=st.sampled_from(["input", "io"]),
        if_exists=st.sampled_from(["error", "overwrite", "truncate", "supersede", None]),
        if_does_not_exist=st.sampled_from(["error", "create", None, ...]),
        size=st.none() | SIZES,
    )
    def open(
        self, number: int, direction: Any, if_exists: Any, if_does_not_exist: Any, size: int | None
    ) -> None:
        name = f"{self.prefix}{number}"
        old = self.names.get(name)
        shm: SharedMemoryObject | None
        if if_does_not_exist is ...:
            reads = direction == "input" or if_exists in {"overwrite", "truncate"}
            creates, returns_none = not reads, False
        else:
            creates, returns_none = if_does_not_exist == "create", if_does_not_exist is None
        try:
            shm = posix_shm.open_shm(
                name,
                direction=direction,
                if_exists=if_exists,
                if_does_not_exist=if_does_not_exist,
                size=size,
            )
        except posix_shm.ShmExistsError:
            assert old
            assert creates
            assert if_exists == "error"
            return
        except posix_shm.ShmDoesNotExistError:
            assert not old
            assert not creates
            assert not returns_none
            return
        if shm is None:
            assert (creates and if_exists is None) if old else returns_none
            return
        is_new = old is None or (creates and if_exists == "supersede")
        assert not (old and creates and if_exists in {"error", None})
        assert old or creates
        self.add_handle(shm, None if is_new else old)
        model = self.handles[-1].model
        self.names[name] = model
        assert shm.direction == direction
        assert shm.name == name
        if is_new:
            assert all(
                model.inode != other.inode for other in self.live_models() if other != model
            )
            assert shm.size == (size or 0)
        elif if_exists == "truncate":
            model.resize(0)
            model.resize(size or 0)

    @rule(direction=st.sampled_from(["input", "io"]), size=SIZES, sealable=st.booleans())
    def open_anonymous(self, direction: Any, size: int, sealable: bool) -> None:
        shm = posix_shm.open_anonymous_shm(direction=direction, size=size, sealable=sealable)
        assert shm.size == size
        self.add_handle(shm, None)

    @rule(number=NAMES)
    def delete(self, number: int) -> None:
        name = f"{self.prefix}{number}"
        if self.names.pop(name, None):
            posix_shm.delete_shm(name)
        else:
            with pytest.raises(posix_shm.ShmDoesNotExistError):
                posix_shm.delete_shm(name)

    @precondition(lambda self: self.handles)
    @rule(number=PICKS, size=SIZES)
    def truncate(self, number: int, size: int) -> None:
        handle = pick(self.handles, number)
        if handle.shm.direction == "input":
            with pytest.raises(ShmError):
                handle.shm.truncate(size)
        else:
            handle.shm.truncate(size)
            handle.model.resize(size)

    @precondition(lambda self: self.handles)
    @rule(number=PICKS, size=st.none() | SIZES)
    def reserve(self, number: int, size: int | None) -> None:
        handle = pick(self.handles, number)
        wanted = len(handle.model.content) if size is None else size
        if handle.shm.direction == "input" and wanted > 0:
            with pytest.raises(ShmError):
                handle.shm.reserve(size)
        else:
            handle.shm.reserve(size)
            handle.model.resize(max(wanted, len(handle.model.content)))
            assert handle.shm.stat().st_blocks * 512 >= wanted

    @precondition(lambda self: self.handles)
    @rule(number=PICKS)
    def close(self, number: int) -> None:
        handle = pick(self.handles, number)
        self.handles.remove(handle)
        handle.shm.close()
        assert handle.shm.closed
        with pytest.raises(ValueError, match="closed"):
            _ = handle.shm.size

    @precondition(lambda self: self.handles)
    @rule(number=PICKS)
    def detach_and_make(self, number: int) -> None:
        handle = pick(self.handles, number)
        old = handle.shm
        handle.shm = posix_shm.make_shm(old.detach(), old.name)
        assert old.closed

    @precondition(lambda self: self.handles and len(self.views) < 8)
    @rule(number=PICKS)
    def view_whole_object(self, number: int) -> None:
        handle = pick(self.handles, number)
        if handle.model.content:
            self.views.append(View(memoryview(handle.shm), handle.model, 0))
        else:
            with pytest.raises(BufferError):
                memoryview(handle.shm)

    # ---- mappings -----------------------------------------------------------------------------

    @precondition(lambda self: self.handles and len(self.mapped) < 8)
    @rule(
        number=PICKS,
        offset=SIZES,
        length=st.none() | SIZES,
        protections=st.sampled_from([None, "read", "write", ["read", "write"]]),
        guard=st.booleans(),
    )
    def map(
        self, number: int, offset: int, length: int | None, protections: Any, guard: bool
    ) -> None:
        handle = pick(self.handles, number)
        size = len(handle.model.content)
        wanted = size - offset if length is None else length
        for_io = handle.shm.direction == "io"
        try:
            mapping = handle.shm.mmap(length, offset=offset, protections=protections, guard=guard)
        except MmapError:
            writes = protections is not None and "write" in protections
            assert wanted <= 0 or offset + wanted > size or (writes and not for_io)
            return
        assert 0 < wanted <= size - offset
        assert len(mapping) == wanted
        mapped = Mapped(mapping, handle.model, offset, wanted, guard, for_io)
        self.mapped.append(mapped)

    @precondition(lambda self: self.mapped)
    @rule(number=PICKS, start=st.integers(0, 5000), length=st.integers(0, 9000))
    def read(self, number: int, start: int, length: int) -> None:
        mapped = pick(self.mapped, number)
        start = min(start, mapped.reachable())
        stop = min(start + length, mapped.reachable())
        if mapped.mapping.closed:
            with pytest.raises(ValueError, match="closed"):
                _ = mapped.mapping[start:stop]
        elif not mapped.faulted:
            expected = mapped.expected(start, stop)
            assert mapped.mapping[start:stop] == expected
            assert mapped.mapping[start:stop:7] == expected[::7]
            if expected:
                assert mapped.mapping[stop - 1] == expected[-1]

    @precondition(lambda self: self.mapped)
    @rule(number=PICKS, start=st.integers(0, 5000), value=st.binary(max_size=300))
    def write(self, number: int, start: int, value: bytes) -> None:
        mapped = pick(self.mapped, number)
        if mapped.faulted:
            return
        start = min(start, mapped.reachable())
        value = value[: mapped.reachable() - start]
        stop = start + len(value)
        if mapped.mapping.closed:
            with pytest.raises(ValueError, match="closed"):
                mapped.mapping[start:stop] = value
        elif not self.writable(mapped):
            with pytest.raises(TypeError):
                mapped.mapping[start:stop] = value
        else:
            mapped.mapping[start:stop] = value
            position = mapped.offset + start
            mapped.model.content[position : position + len(value)] = value

    @precondition(lambda self: self.guarded())
    @rule(number=PICKS, size=st.none() | SIZES)
    def touch_what_is_gone(self, number: int, size: int | None) -> None:
        mapped = pick(self.guarded(), number)
        for handle in self.handles:
            if size is not None and handle.model == mapped.model and handle.shm.direction == "io":
                handle.shm.truncate(size)
                handle.model.resize(size)
        position = mapped.first_page_without_memory()
        if position < mapped.length:
            value = mapped.mapping[position]
            assert mapped.faulted or value == 0
            mapped.faulted = True
        assert mapped.mapping.faulted == mapped.faulted

    @precondition(lambda self: self.mapped)
    @rule(
        number=PICKS,
        method=st.sampled_from(
            [
                lambda mapping: mapping.check(),
                lambda mapping: mapping.flush(),
                lambda mapping: mapping.advise("willneed"),
                lambda mapping: mapping.populate(),
                lambda mapping: mapping.populate(write=False),
            ]
        ),
    )
    def call(self, number: int, method: Callable[[Mapping], None]) -> None:
        mapped = pick(self.mapped, number)
        try:
            method(mapped.mapping)
        except ValueError:
            assert mapped.mapping.closed
        except MmapError:
            assert mapped.faulted or mapped.first_page_without_memory() < mapped.length
        else:
            assert not mapped.faulted

    @precondition(lambda self: self.mapped)
    @rule(number=PICKS, protections=st.sampled_from(["read", "read write"]))
    def protect(self, number: int, protections: str) -> None:
        mapped = pick(self.mapped, number)
        adds = "write" in protections and mapped.mapping.closed is False
        loses = "write" not in protections
        try:
            mapped.mapping.protect(protections.split())
        except ValueError:
            assert mapped.mapping.closed
        except BufferError:
            assert loses
            assert mapped.views
        except MmapError:
            assert mapped.faulted or (adds and not mapped.for_io)
        else:
            assert mapped.mapping.readonly == loses

    @precondition(lambda self: self.mapped)
    @rule(number=PICKS)
    def unmap(self, number: int) -> None:
        mapped = pick(self.mapped, number)
        was_closed = mapped.mapping.closed
        try:
            mapped.mapping.unmap()
        except BufferError:
            assert mapped.views
            assert mapped.mapping.closed == was_closed
        except MmapError:
            assert mapped.faulted
            assert mapped.mapping.closed
        else:
            assert mapped.mapping.closed
            assert not mapped.views

    @precondition(lambda self: self.mapped)
    @rule(number=PICKS)
    def close_mapping(self, number: int) -> None:
        mapped = pick(self.mapped, number)
        mapped.mapping.close()
        assert mapped.mapping.closed

    @precondition(lambda self: self.mapped)
    @rule(number=PICKS)
    def forget_mapping(self, number: int) -> None:
        """Its views live on without it."""
        self.mapped.remove(pick(self.mapped, number))

    # ---- views --------------------------------------------------------------------------------

    @precondition(lambda self: self.mapped and len(self.views) < 8)
    @rule(number=PICKS)
    def view(self, number: int) -> None:
        mapped = pick(self.mapped, number)
        if mapped.mapping.closed:
            with pytest.raises(ValueError, match="closed"):
                memoryview(mapped.mapping)
        elif not mapped.faulted:
            view = View(memoryview(mapped.mapping), mapped.model, mapped.offset)
            assert view.view.readonly != self.writable(mapped)
            mapped.views.append(view)
            self.views.append(view)

    @precondition(lambda self: self.views)
    @rule(number=PICKS, start=st.integers(0, 5000), value=st.binary(max_size=300))
    def write_to_view(self, number: int, start: int, value: bytes) -> None:
        view = pick(self.views, number)
        if self.is_blind(view):
            return
        start = min(start, view.reachable())
        value = value[: view.reachable() - start]
        if view.view.readonly:
            with pytest.raises(TypeError):
                view.view[start : start + len(value)] = value
        else:
            view.view[start : start + len(value)] = value
            position = view.offset + start
            view.model.content[position : position + len(value)] = value

    @precondition(lambda self: self.views)
    @rule(number=PICKS)
    def release(self, number: int) -> None:
        view = pick(self.views, number)
        self.views.remove(view)
        for mapped in self.mapped:
            with suppress(ValueError):
                mapped.views.remove(view)
        view.view.release()

    def is_blind(self, view: View) -> bool:
        """Whether its mapping faulted: pages of zeros may stand where the object's were."""
        return bool(getattr(view.view.obj, "faulted", False))

    # ---- what must hold -----------------------------------------------------------------------

    @invariant()
    def count(self) -> None:
        SharedMemory.steps += 1

    @invariant()
    def names_refer_to_their_objects(self) -> None:
        for number in range(3):
            name = f"{self.prefix}{number}"
            assert exists(name) == (name in self.names)
            if name in self.names:
                assert path_of(name).stat().st_ino == self.names[name].inode
                assert path_of(name).read_bytes() == self.names[name].content

    @invariant()
    def objects_hold_their_bytes(self) -> None:
        for handle in self.handles:
            size = len(handle.model.content)
            assert handle.shm.size == size
            assert os.pread(handle.shm.fd, size + 1, 0) == handle.model.content

    @invariant()
    def views_see_their_bytes(self) -> None:
        for view in self.views:
            if not self.is_blind(view):
                length = view.reachable()
                expected = view.model.content[view.offset : view.offset + length]
                assert view.view[:length] == expected

    @invariant()
    def only_what_was_touched_faulted(self) -> None:
        for mapped in self.mapped:
            assert mapped.mapping.faulted == mapped.faulted

    def teardown(self) -> None:
        for view in self.views:
            view.view.release()
        for mapped in self.mapped:
            mapped.mapping.close()
        for handle in self.handles:
            handle.shm.close()
        for name in self.names:
            path_of(name).unlink(missing_ok=True)


def test_everything_does_what_the_model_does() -> None:
    wanted = int(os.environ.get("POSIX_SHM_STEPS", "1000"))
    # Hypothesis stops before the last example when it has seen enough.
    while SharedMemory.steps < wanted:
        run_state_machine_as_test(
            SharedMemory,
            settings=settings(
                max_examples=max(5, min(wanted // STEPS_PER_EXAMPLE, 500)),
                stateful_step_count=STEPS_PER_EXAMPLE,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(f"{SharedMemory.steps} steps of {SharedMemory.machines} machines")
