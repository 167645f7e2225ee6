"""The context managers: what they bind, what they leave, and which exception comes out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import posix_shm
import pytest

from .support import PAGE, exists, path_of, run_python

CONTENT = b"what was there before"
LENGTH = 3 * PAGE
TOO_MUCH = 1 << 60

Shm = posix_shm.SharedMemoryObject
Mapping = posix_shm.Mapping


class BodyError(Exception):
    """Raised in the body of a ``with`` block."""


@pytest.fixture
def existing(name: str) -> str:
    """The name of an object that exists."""
    path_of(name).write_bytes(CONTENT)
    return name


# Everything that is bound is an object, or has one in it.
Opener = Callable[[str], AbstractContextManager[Any]]
OPENERS: dict[str, Opener] = {
    "open_shm": lambda name: posix_shm.open_shm(name, direction="io", if_exists="error"),
    "opened_shm": lambda name: posix_shm.opened_shm(name, direction="io", if_exists="error"),
    "open_anonymous_shm": lambda name: posix_shm.open_anonymous_shm(direction="io"),
    "open_shm_and_mmap": lambda name: posix_shm.open_shm_and_mmap(
        name, LENGTH, direction="io", if_exists="error"
    ),
    "open_anonymous_shm_and_mmap": lambda name: posix_shm.open_anonymous_shm_and_mmap(
        LENGTH, direction="io"
    ),
}
openers = pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
MAPPERS = {name: opener for name, opener in OPENERS.items() if name.endswith("_and_mmap")}
mappers = pytest.mark.parametrize("opener", MAPPERS.values(), ids=MAPPERS.keys())


def parts(bound: Any) -> tuple[Shm, Mapping | None]:
    """The object and the mapping, if there is one, that a context manager binds."""
    return bound if isinstance(bound, tuple) else (bound, None)


def run(context: AbstractContextManager[Any], *body: Callable[[Any], None]) -> None:
    """A ``with`` block whose steps get what it binds."""
    with context as bound:
        for step in body:
            step(bound)


class Watch:
    """A step of a body that remembers what was bound."""

    def __call__(self, bound: Any) -> None:
        self.shm, self.mapping = parts(bound)

    def check_closed(self) -> None:
        """All that was bound is closed."""
        assert self.shm.closed
        assert self.mapping is None or self.mapping.closed


def fail(bound: Any) -> None:
    """A step of a body."""
    raise BodyError


def spoil_the_descriptor(bound: Any) -> None:
    """A step of a body after which ``close()`` will fail."""
    os.close(parts(bound)[0].fd)


def fault(bound: Any) -> None:
    """A step of a body that touches pages which are gone."""
    shm, mapping = bound
    shm.truncate(0)
    with memoryview(mapping) as view:
        assert view[0] == 0


# ---- the way out ------------------------------------------------------------------------------


@openers
def test_leaving_the_block_closes_the_object_and_the_mapping(name: str, opener: Opener) -> None:
    with opener(name) as bound:
        shm, mapping = parts(bound)
        assert not shm.closed
        assert mapping is None or not mapping.closed
        fd = shm.fd
    assert shm.closed
    assert mapping is None or mapping.closed
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)


@openers
def test_an_exception_of_the_body_comes_out_and_all_is_closed(name: str, opener: Opener) -> None:
    watch = Watch()
    with pytest.raises(BodyError) as caught:
        run(opener(name), watch, fail)
    assert caught.value.__context__ is None
    watch.check_closed()


@openers
def test_leaving_the_block_deletes_nothing(name: str, opener: Opener) -> None:
    with opener(name) as bound:
        named = parts(bound)[0].name is not None
    assert exists(name) == named


@openers
def test_what_is_closed_in_the_body_may_be_left(name: str, opener: Opener) -> None:
    with opener(name) as bound:
        shm, mapping = parts(bound)
        shm.close()
        if mapping is not None:
            mapping.unmap()
    assert shm.closed


@openers
def test_an_exception_of_the_clean_up_never_replaces_one_of_the_body(
    name: str, opener: Opener
) -> None:
    watch = Watch()
    with pytest.raises(BodyError):
        run(opener(name), watch, spoil_the_descriptor, fail)
    watch.check_closed()


@openers
def test_an_error_of_the_clean_up_is_raised_if_the_body_was_well(
    name: str, opener: Opener
) -> None:
    watch = Watch()
    with pytest.raises(posix_shm.ShmError) as caught:
        run(opener(name), watch, spoil_the_descriptor)
    assert caught.value.errno == errno.EBADF
    watch.check_closed()


@mappers
@pytest.mark.parametrize("fails", [True, False], ids=["body-raises", "body-is-well"])
def test_a_live_view_is_no_error_on_the_way_out(name: str, opener: Opener, fails: bool) -> None:
    watch = Watch()
    views = []

    def take_a_view(bound: Any) -> None:
        views.append(memoryview(bound[1]))

    if fails:
        with pytest.raises(BodyError):
            run(opener(name), watch, take_a_view, fail)
    else:
        run(opener(name), watch, take_a_view)
    watch.check_closed()
    with views.pop() as view:
        view[0] = 7
        assert view[0] == 7


@pytest.fixture
def guarded() -> AbstractContextManager[Any]:
    """Binds an object and a guarded mapping of it."""
    return posix_shm.open_anonymous_shm_and_mmap(LENGTH, direction="io", guard=True)


def test_a_fault_of_a_guarded_mapping_is_an_error_on_the_way_out(
    guarded: AbstractContextManager[Any],
) -> None:
    watch = Watch()
    with pytest.raises(posix_shm.MmapError) as caught:
        run(guarded, watch, fault)
    assert caught.value.errno == errno.EFAULT
    watch.check_closed()


def test_a_fault_of_a_guarded_mapping_never_replaces_the_bodys_exception(
    guarded: AbstractContextManager[Any],
) -> None:
    watch = Watch()
    with pytest.raises(BodyError):
        run(guarded, watch, fault, fail)
    watch.check_closed()


@mappers
def test_the_mapping_outlives_neither_the_block_nor_the_exit_of_the_object(
    name: str, opener: Opener
) -> None:
    with opener(name) as (shm, mapping):
        shm.close()
        mapping[0] = 1
        assert mapping[0] == 1
    with pytest.raises(ValueError, match="closed"):
        mapping[0]


def test_with_shm_mmap_closes_the_mapping_and_not_the_object(name: str) -> None:
    with posix_shm.open_shm(name, direction="io", if_exists="error", size=1) as shm:
        with shm.mmap() as mapping:
            mapping[0] = 1
        assert mapping.closed
        assert not shm.closed


def test_a_closed_object_cannot_be_entered() -> None:
    shm = posix_shm.open_anonymous_shm()
    shm.close()
    with pytest.raises(ValueError, match="closed"):
        shm.__enter__()


# ---- opened_shm -------------------------------------------------------------------------------


def test_opened_shm_passes_every_option_on(name: str) -> None:
    path_of(name).write_bytes(CONTENT)
    before = path_of(name).stat().st_ino
    with posix_shm.opened_shm(
        name[1:],
        direction="io",
        if_exists="supersede",
        if_does_not_exist="create",
        permissions=0o640,
        size=LENGTH,
    ) as shm:
        assert shm is not None
        assert (shm.name, shm.direction, shm.size) == (name, "io", LENGTH)
        assert shm.stat().st_mode & 0o777 == 0o640
        assert shm.stat().st_ino != before


def test_opened_shm_has_the_defaults_of_open_shm(existing: str) -> None:
    with posix_shm.opened_shm(existing) as shm:
        assert shm is not None
        assert shm.direction == "input"
        assert bytes(memoryview(shm)) == CONTENT


def test_opened_shm_binds_none_where_open_shm_returns_none(existing: str) -> None:
    with posix_shm.opened_shm(existing, if_exists=None, if_does_not_exist="create") as shm:
        assert shm is None
    posix_shm.delete_shm(existing)
    with posix_shm.opened_shm(existing, if_does_not_exist=None) as shm:
        assert shm is None
    assert not exists(existing)


def test_opened_shm_raises_what_open_shm_raises(name: str) -> None:
    with pytest.raises(posix_shm.ShmDoesNotExistError):
        run(posix_shm.opened_shm(name))
    with pytest.raises(ValueError, match="bogus"):
        run(posix_shm.opened_shm(name, if_does_not_exist="create", permissions="bogus"))
    assert not exists(name)


# ---- open_shm_and_mmap: what it binds and which size it gives ---------------------------------


def test_without_a_length_all_of_an_object_is_mapped_as_it_is(existing: str) -> None:
    for direction in ("input", "io"):
        options: dict[str, Any] = {"direction": direction}
        with posix_shm.open_shm_and_mmap(existing, **options) as (shm, mapping):
            assert (shm.name, shm.direction, shm.size) == (existing, direction, len(CONTENT))
            assert mapping[:] == CONTENT
            assert mapping.readonly == (direction == "input")


def test_the_default_direction_is_input(existing: str) -> None:
    with posix_shm.open_shm_and_mmap(existing) as (shm, mapping):
        assert shm.direction == "input"
        assert mapping.readonly


@pytest.mark.parametrize("offset", [0, 5, PAGE, PAGE + 5])
@pytest.mark.parametrize("truncate", [None, True])
@pytest.mark.parametrize("before", [0, 1, PAGE, 10 * PAGE], ids="{} bytes".format)
def test_with_a_length_for_io_the_object_gets_exactly_length_and_offset(
    name: str, before: int, truncate: bool | None, offset: int
) -> None:
    path_of(name).write_bytes(b"x" * before)
    with posix_shm.open_shm_and_mmap(
        name, LENGTH, truncate=truncate, direction="io", offset=offset
    ) as (shm, mapping):
        assert shm.size == LENGTH + offset
        assert len(mapping) == LENGTH
        assert mapping.offset == offset
        whole = (b"x" * before).ljust(LENGTH + offset, b"\0")[: LENGTH + offset]
        assert path_of(name).read_bytes() == whole
        assert mapping[:] == whole[offset:]


@pytest.mark.parametrize("truncate", [None, False])
def test_with_a_length_for_input_the_object_keeps_its_size(
    existing: str, truncate: bool | None
) -> None:
    with posix_shm.open_shm_and_mmap(existing, 4, truncate=truncate, offset=5) as (shm, mapping):
        assert shm.size == len(CONTENT)
        assert mapping[:] == CONTENT[5:9]


def test_truncate_false_leaves_the_size_alone(existing: str) -> None:
    with posix_shm.open_shm_and_mmap(existing, 4, truncate=False, direction="io") as (shm, _):
        assert shm.size == len(CONTENT)


def test_truncate_false_maps_nothing_that_is_not_there(existing: str) -> None:
    with pytest.raises(posix_shm.MmapError) as caught:
        run(posix_shm.open_shm_and_mmap(existing, LENGTH, truncate=False, direction="io"))
    assert caught.value.errno == errno.ENXIO
    assert path_of(existing).read_bytes() == CONTENT


def test_an_object_for_input_cannot_be_truncated(existing: str) -> None:
    with pytest.raises(posix_shm.ShmError) as caught:
        run(posix_shm.open_shm_and_mmap(existing, LENGTH, truncate=True))
    assert "input" in "".join(caught.value.__notes__)
    assert path_of(existing).read_bytes() == CONTENT


def test_an_object_made_for_input_has_its_size_from_the_start(name: str) -> None:
    with posix_shm.open_shm_and_mmap(name, if_does_not_exist="create", size=LENGTH) as (
        shm,
        mapping,
    ):
        assert shm.direction == "input"
        assert mapping[:] == bytes(LENGTH)


def test_a_size_is_of_the_object_and_a_length_of_the_mapping(name: str) -> None:
    with posix_shm.open_shm_and_mmap(
        name, PAGE, truncate=False, direction="io", if_exists="error", size=LENGTH
    ) as (shm, mapping):
        assert shm.size == LENGTH
        assert len(mapping) == PAGE


@pytest.mark.parametrize("if_exists", ["supersede", "truncate"])
def test_every_option_of_opening_counts(existing: str, if_exists: Any) -> None:
    before = path_of(existing).stat().st_ino
    with posix_shm.open_shm_and_mmap(
        existing,
        LENGTH,
        direction="io",
        if_exists=if_exists,
        if_does_not_exist="create",
        permissions="user-all",
    ) as (shm, mapping):
        superseded = if_exists == "supersede"
        assert (shm.stat().st_ino != before) == superseded
        assert (shm.stat().st_mode & 0o777 == 0o700) == superseded
        assert mapping[:] == bytes(LENGTH)


@pytest.mark.parametrize(
    "function",
    [posix_shm.open_anonymous_shm_and_mmap, posix_shm.open_shm_and_mmap],
    ids=lambda function: function.__name__,
)
def test_every_option_of_mapping_counts(
    names: Callable[[], str], function: Callable[..., AbstractContextManager[Any]]
) -> None:
    def new() -> list[str]:
        return [names()] if function is posix_shm.open_shm_and_mmap else []

    options: dict[str, Any] = {"direction": "io"}
    if function is posix_shm.open_shm_and_mmap:
        options["if_exists"] = "error"
    with function(*new(), LENGTH, **options) as (_, elsewhere):
        free_address = elsewhere.address
    del elsewhere
    with function(
        *new(),
        PAGE,
        addr=free_address,
        protections="read",
        flags=["private", "noreserve", "fixed"],
        offset=PAGE,
        guard=True,
        **options,
    ) as (_, mapping):
        assert mapping.address == free_address
        assert mapping.protections == posix_shm.Protection.READ
        assert posix_shm.MapFlag.PRIVATE in mapping.flags
        assert mapping.offset == PAGE
        mapping.check()


@pytest.mark.parametrize("reserve", [True, False])
@pytest.mark.parametrize("named", [True, False], ids=["named", "anonymous"])
def test_reserve_commits_the_memory(name: str, named: bool, reserve: bool) -> None:
    length = 1 << 20
    context = (
        posix_shm.open_shm_and_mmap(
            name, length, direction="io", if_exists="error", reserve=reserve
        )
        if named
        else posix_shm.open_anonymous_shm_and_mmap(length, direction="io", reserve=reserve)
    )
    with context as (shm, _):
        assert shm.stat().st_blocks * 512 == (length if reserve else 0)


@mappers
def test_reserving_is_the_default(name: str, opener: Opener) -> None:
    with opener(name) as (shm, _):
        assert shm.stat().st_blocks * 512 == LENGTH


@pytest.mark.parametrize("length", [None, LENGTH])
def test_the_memory_of_an_object_that_exists_is_committed_too(
    name: str, length: int | None
) -> None:
    path_of(name).touch()
    os.truncate(path_of(name), LENGTH)
    assert path_of(name).stat().st_blocks == 0
    with posix_shm.open_shm_and_mmap(name, length, direction="io") as (shm, _):
        assert shm.stat().st_blocks * 512 == LENGTH


def test_an_object_for_input_is_mapped_although_it_cannot_be_reserved(name: str) -> None:
    path_of(name).touch()
    os.truncate(path_of(name), LENGTH)
    with posix_shm.open_shm_and_mmap(name, reserve=True) as (_, mapping):
        assert mapping[:] == bytes(LENGTH)


def test_none_and_none_are_bound_where_open_shm_returns_none(existing: str) -> None:
    with posix_shm.open_shm_and_mmap(
        existing, LENGTH, direction="io", if_exists=None, if_does_not_exist="create"
    ) as bound:
        assert bound == (None, None)
    assert path_of(existing).read_bytes() == CONTENT
    posix_shm.delete_shm(existing)
    with posix_shm.open_shm_and_mmap(
        existing, LENGTH, direction="io", if_does_not_exist=None
    ) as bound:
        assert bound == (None, None)
    assert not exists(existing)


def test_an_exception_of_the_body_comes_out_where_nothing_is_bound(name: str) -> None:
    with pytest.raises(BodyError):
        run(posix_shm.open_shm_and_mmap(name, LENGTH, if_does_not_exist=None), fail)
    with pytest.raises(BodyError), posix_shm.opened_shm(name, if_does_not_exist=None):
        raise BodyError


# ---- open_anonymous_shm_and_mmap --------------------------------------------------------------


def test_an_anonymous_object_is_as_long_as_length_and_offset() -> None:
    with posix_shm.open_anonymous_shm_and_mmap(LENGTH, direction="io", offset=5) as (
        shm,
        mapping,
    ):
        assert shm.name is None
        assert shm.size == LENGTH + 5
        assert len(mapping) == LENGTH
        mapping[:] = b"x" * LENGTH


def test_an_anonymous_object_for_input_is_as_long_as_size_says() -> None:
    with posix_shm.open_anonymous_shm_and_mmap(LENGTH, size=LENGTH) as (shm, mapping):
        assert shm.direction == "input"
        assert mapping.readonly
        assert mapping[:] == bytes(LENGTH)


def test_an_anonymous_object_for_input_is_empty_without_a_size() -> None:
    with pytest.raises(posix_shm.MmapError) as caught:
        run(posix_shm.open_anonymous_shm_and_mmap(LENGTH))
    assert caught.value.errno == errno.ENXIO


def test_an_anonymous_object_has_its_permissions_and_may_be_sealable() -> None:
    with posix_shm.open_anonymous_shm_and_mmap(
        LENGTH, direction="io", permissions="user-all", sealable=True
    ) as (shm, mapping):
        assert shm.stat().st_mode & 0o777 == 0o700
        shm.seal("shrink")
        mapping[0] = 1


def test_an_anonymous_object_without_an_attempt_is_an_error() -> None:
    with pytest.raises(posix_shm.ShmExistsError):
        run(posix_shm.open_anonymous_shm_and_mmap(LENGTH, direction="io", attempts=0))


# ---- the way in fails -------------------------------------------------------------------------

VALID: dict[str, Any] = {
    "length": LENGTH,
    "direction": "io",
    "if_does_not_exist": "create",
}
# What cannot be, whatever there is: nothing is touched.
INVALID: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "length-0": ({"length": 0}, posix_shm.MmapError),
    "length-negative": ({"length": -1}, posix_shm.MmapError),
    "length-huge": ({"length": 1 << 70}, OverflowError),
    "length-str": ({"length": "1"}, TypeError),
    "length-float": ({"length": 1.0}, TypeError),
    "offset-negative": ({"offset": -1}, posix_shm.MmapError),
    "offset-huge": ({"offset": 1 << 70}, OverflowError),
    "offset-str": ({"offset": "1"}, TypeError),
    "addr-str": ({"addr": "1"}, TypeError),
    "addr-huge": ({"addr": 1 << 70}, OverflowError),
    "protections-word": ({"protections": "bogus"}, ValueError),
    "protections-none": ({"protections": ["none", "read"]}, ValueError),
    "protections-type": ({"protections": 1.5}, TypeError),
    "flags-word": ({"flags": "bogus"}, ValueError),
    "flags-type": ({"flags": None}, TypeError),
    "truncate-without-length": ({"length": None, "truncate": True}, ValueError),
    "direction": ({"direction": "bogus"}, ValueError),
    "permissions": ({"permissions": "bogus"}, ValueError),
    "size-negative": ({"length": None, "size": -1}, posix_shm.ShmError),
    "size-type": ({"length": None, "size": "1"}, TypeError),
}
invalid = pytest.mark.parametrize(("options", "error"), INVALID.values(), ids=INVALID.keys())


@invalid
@pytest.mark.parametrize("if_exists", ["overwrite", "truncate", "supersede"])
def test_an_invalid_argument_leaves_an_object_that_exists_as_it_was(
    existing: str, if_exists: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    before = path_of(existing).stat().st_ino
    with pytest.raises(error):
        run(posix_shm.open_shm_and_mmap(existing, **VALID | options, if_exists=if_exists))
    assert path_of(existing).stat().st_ino == before
    assert path_of(existing).read_bytes() == CONTENT


@invalid
def test_an_invalid_argument_makes_no_object(
    name: str, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(posix_shm.open_shm_and_mmap(name, **VALID | options))
    assert not exists(name)


# What can be, but not here: the step that fails is the mapping.
UNMAPPABLE: dict[str, tuple[dict[str, Any], int]] = {
    "empty": ({"length": None}, errno.EINVAL),
    "too-short": ({"truncate": False}, errno.ENXIO),
    "write-to-input": (
        {"direction": "input", "size": LENGTH, "protections": "write"},
        errno.EACCES,
    ),
    "neither-shared-nor-private": ({"flags": 0}, errno.EINVAL),
}
unmappable = pytest.mark.parametrize(
    ("options", "error"), UNMAPPABLE.values(), ids=UNMAPPABLE.keys()
)


@unmappable
def test_an_object_that_cannot_be_mapped_is_deleted_if_the_call_made_it(
    name: str, options: dict[str, Any], error: int
) -> None:
    with pytest.raises(posix_shm.MmapError) as caught:
        run(posix_shm.open_shm_and_mmap(name, **VALID | options))
    assert caught.value.errno == error
    assert not exists(name)


@unmappable
@pytest.mark.parametrize("if_exists", ["overwrite", "supersede"])
def test_an_object_that_cannot_be_mapped_leaves_what_existed(
    name: str, if_exists: Any, options: dict[str, Any], error: int
) -> None:
    path_of(name).touch()
    if "size" in options:
        os.truncate(path_of(name), LENGTH)
    before = path_of(name).stat().st_ino
    with pytest.raises(posix_shm.MmapError) as caught:
        run(posix_shm.open_shm_and_mmap(name, **VALID | options, if_exists=if_exists))
    assert caught.value.errno == error
    assert path_of(name).stat().st_ino == before


# Something else happens to the name between the opening and the mapping, which fails.
MEANWHILE = """
import os, sys, posix_shm
name, what, path = sys.argv[1:4]

def meanwhile(event, args):
    if event == "posix_shm.mmap":
        os.unlink(path)
        if what == "superseded":
            with open(path, "xb") as other:
                other.write(b"somebody else's")

sys.addaudithook(meanwhile)
try:
    with posix_shm.open_shm_and_mmap(
        name, if_does_not_exist="create", size=100, protections="write"
    ):
        pass
except posix_shm.MmapError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("what", ["superseded", "deleted"])
def test_a_failing_call_leaves_alone_what_has_the_name_by_then(name: str, what: str) -> None:
    done = run_python(MEANWHILE, name, what, str(path_of(name)))
    assert done.stdout == f"{errno.EACCES}\n", "the error is another one"
    assert exists(name) == (what == "superseded")
    if what == "superseded":
        assert path_of(name).read_bytes() == b"somebody else's"


# Ways to ask for more than there is.
GREEDY: dict[str, dict[str, Any]] = {
    "overwrite-length": {"length": TOO_MUCH},
    "truncate-length": {"length": TOO_MUCH, "if_exists": "truncate"},
    "truncate-size": {"size": TOO_MUCH, "if_exists": "truncate"},
    "supersede-length": {"length": TOO_MUCH, "if_exists": "supersede"},
    "supersede-size": {"size": TOO_MUCH, "if_exists": "supersede"},
}


@pytest.mark.parametrize("options", GREEDY.values(), ids=GREEDY.keys())
@pytest.mark.parametrize("there", [True, False], ids=["existing", "missing"])
def test_no_room_is_an_error_that_leaves_everything_as_it_was(
    name: str, options: dict[str, Any], there: bool
) -> None:
    if there:
        path_of(name).write_bytes(CONTENT)
        before = path_of(name).stat().st_ino
    with pytest.raises(posix_shm.ShmError) as caught:
        run(
            posix_shm.open_shm_and_mmap(
                name, direction="io", if_does_not_exist="create", **options
            )
        )
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.name == name
    assert exists(name) == there
    if there:
        assert path_of(name).stat().st_ino == before
        assert path_of(name).stat().st_size == len(CONTENT)
        assert path_of(name).read_bytes() == CONTENT


def test_a_size_is_of_new_objects_only(existing: str) -> None:
    with posix_shm.open_shm_and_mmap(
        existing, direction="io", if_does_not_exist="create", size=TOO_MUCH
    ) as (_, mapping):
        assert mapping[:] == CONTENT


def test_no_room_for_an_anonymous_object_is_an_error() -> None:
    with pytest.raises(posix_shm.ShmError) as caught:
        run(posix_shm.open_anonymous_shm_and_mmap(TOO_MUCH, direction="io"))
    assert caught.value.errno == errno.ENOSPC


def test_without_reserving_a_sparse_object_may_be_longer_than_memory(name: str) -> None:
    length = 1 << 40
    with posix_shm.open_shm_and_mmap(
        name, length, direction="io", if_exists="error", reserve=False
    ) as (shm, mapping):
        assert shm.size == len(mapping) == length
        mapping[-1] = 1
        assert mapping[-1] == 1
        assert shm.stat().st_blocks * 512 <= 2 * PAGE


@pytest.mark.parametrize("function", ["opened_shm", "open_shm_and_mmap"])
def test_opening_errors_come_out_and_nothing_is_made(name: str, function: str) -> None:
    with pytest.raises(posix_shm.ShmDoesNotExistError):
        run(getattr(posix_shm, function)(name))
    path_of(name).write_bytes(CONTENT)
    with pytest.raises(posix_shm.ShmExistsError):
        run(getattr(posix_shm, function)(name, if_exists="error", if_does_not_exist="create"))
    assert path_of(name).read_bytes() == CONTENT


# ---- numbers ----------------------------------------------------------------------------------


def test_ints_of_numpy_are_added_as_ints(name: str) -> None:
    with posix_shm.open_shm(name, direction="io", if_exists="error", size=4096):
        pass
    np = pytest.importorskip("numpy")
    with posix_shm.open_shm_and_mmap(
        name, np.uint8(200), direction="io", offset=np.uint8(100), addr=np.uint64(0)
    ) as (shm, mapping):
        assert (shm.size, len(mapping), mapping.offset) == (300, 200, 100)


@pytest.mark.parametrize("parameter", ["length", "offset", "addr", "size"])
def test_what_is_no_int_is_a_type_error_before_an_object_is_touched(
    name: str, parameter: str
) -> None:
    arguments: dict[str, Any] = {"length": 10, parameter: 1.0}
    with pytest.raises(TypeError), posix_shm.open_shm_and_mmap(name, direction="io", **arguments):
        pass
    assert not exists(name)
