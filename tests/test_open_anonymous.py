"""``open_anonymous_shm``, ``make_shm``, ``is_shm``, ``is_open_shm``."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import posix_shm
import pytest

from .support import path_of, run_python

SIZE = 5000
TOO_MUCH = 1 << 60

# Every kind of object without a name.
KINDS: dict[str, dict[str, Any]] = {
    "input": {},
    "io": {"direction": "io"},
    "sealable": {"sealable": True},
}
kinds = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())


@pytest.fixture
def no_umask() -> Iterator[None]:
    """No permission is masked, for one test."""
    before = os.umask(0)
    yield
    os.umask(before)


# ---- open_anonymous_shm -----------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("size", [None, 0, SIZE])
def test_an_anonymous_object_has_no_name(options: dict[str, Any], size: int | None) -> None:
    with posix_shm.open_anonymous_shm(size=size, **options) as shm:
        assert shm.name is None
        assert shm.stat().st_nlink == 0
        assert shm.size == (size or 0)
        assert shm.stat().st_blocks * 512 >= (size or 0), "its memory is not reserved"
        assert os.pread(shm.fd, SIZE, 0) == bytes(size or 0)
        assert not os.get_inheritable(shm.fd)


@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("direction", ["input", "io"])
def test_the_direction_is_that_of_the_descriptor(direction: Any, size: int | None) -> None:
    with posix_shm.open_anonymous_shm(direction=direction, size=size) as shm:
        assert shm.direction == direction
        access = fcntl.fcntl(shm.fd, fcntl.F_GETFL) & os.O_ACCMODE
        assert access == {"input": os.O_RDONLY, "io": os.O_RDWR}[direction]


def test_the_default_direction_is_input() -> None:
    with posix_shm.open_anonymous_shm() as shm:
        assert shm.direction == "input"


@kinds
@pytest.mark.parametrize("size", [None, SIZE])
@pytest.mark.parametrize("permissions", [0o777, 0o640, 0o200, 0], ids="{:03o}".format)
def test_an_anonymous_object_has_the_permissions_less_the_umask(
    no_umask: None, options: dict[str, Any], size: int | None, permissions: int
) -> None:
    for umask in (0o027, 0):
        os.umask(umask)
        with posix_shm.open_anonymous_shm(permissions=permissions, size=size, **options) as shm:
            assert stat.S_IMODE(shm.stat().st_mode) == permissions & ~umask


@kinds
def test_the_default_permissions_are_the_users_alone(options: dict[str, Any]) -> None:
    with posix_shm.open_anonymous_shm(**options) as shm:
        assert stat.S_IMODE(shm.stat().st_mode) == 0o600


@pytest.mark.parametrize("attempts", [0, -1])
def test_no_attempts_are_too_few(attempts: int) -> None:
    with pytest.raises(posix_shm.ShmExistsError) as caught:
        posix_shm.open_anonymous_shm(attempts=attempts)
    assert caught.value.errno == errno.EEXIST


GENERATED_NAMES = """
import json, sys
names = []
sys.addaudithook(lambda event, args: names.append(args[0]) if event == "posix_shm.open" else None)
import posix_shm
for _ in range(100):
    posix_shm.open_anonymous_shm().close()
print(json.dumps(names))
"""


def test_generated_names_differ_and_fit_the_limit_of_macos() -> None:
    names = json.loads(run_python(GENERATED_NAMES).stdout)
    assert len(names) == len(set(names)) == 100
    assert max(len(name) for name in names) <= 30


@kinds
@pytest.mark.parametrize(
    ("size", "error"), [(-1, errno.EINVAL), (TOO_MUCH, errno.ENOSPC), (1 << 62, errno.ENOSPC)]
)
def test_a_size_that_cannot_be_is_an_error(options: dict[str, Any], size: int, error: int) -> None:
    with pytest.raises(posix_shm.ShmError) as caught:
        posix_shm.open_anonymous_shm(size=size, **options)
    assert type(caught.value) is posix_shm.ShmError
    assert caught.value.errno == error
    assert caught.value.name is None


def test_a_wrong_direction_is_a_value_error_that_lists_the_right_ones() -> None:
    wrong: dict[str, Any] = {"direction": "output"}
    with pytest.raises(ValueError, match=r"'output'.*'input', 'io'"):
        posix_shm.open_anonymous_shm(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"direction": 1}, {"permissions": 1.5}, {"attempts": "1"}, {"size": "1"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_type_is_a_type_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        posix_shm.open_anonymous_shm(**wrong)


# ---- memfd ------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["input", "io"])
def test_a_sealable_object_is_always_read_write(direction: Any) -> None:
    with posix_shm.open_anonymous_shm(direction=direction, sealable=True) as shm:
        assert shm.direction == "io"


def test_only_a_sealable_object_can_be_sealed() -> None:
    with posix_shm.open_anonymous_shm(sealable=True, size=SIZE) as shm:
        assert shm.seals == frozenset()
        shm.seal("shrink")
        with pytest.raises(posix_shm.ShmPermissionError):
            shm.truncate(0)
        assert shm.size == SIZE
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        with pytest.raises(posix_shm.ShmPermissionError):
            shm.seal("shrink")
        shm.truncate(0)


def meminfo(row: str) -> int:
    """A row of ``/proc/meminfo``, 0 if it is not there."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{row}:"):
            return int(line.split()[1])
    return 0


@pytest.fixture
def huge_page() -> int:
    """The size in bytes of the system's huge pages."""
    kib = meminfo("Hugepagesize")
    if kib == 0:
        pytest.skip("this kernel has no huge pages")
    return kib * 1024


@pytest.mark.parametrize("by_size", [False, True], ids=["True", "page-size"])
def test_an_object_of_huge_pages(huge_page: int, by_size: bool) -> None:
    with posix_shm.open_anonymous_shm(huge_pages=huge_page if by_size else True) as shm:
        assert shm.name is None
        assert shm.direction == "io"
        assert shm.stat().st_blksize == huge_page
        shm.truncate(huge_page)
        if meminfo("HugePages_Free") > 0:
            shm.reserve()
            with shm.mmap() as mapping:
                mapping[-1] = 1
                assert mapping[-1] == 1
        else:  # the administrator has set none aside
            with pytest.raises(posix_shm.ShmError) as caught:
                shm.reserve()
            assert caught.value.errno == errno.ENOSPC


def test_huge_pages_that_are_not_there_are_an_error(huge_page: int) -> None:
    with pytest.raises(posix_shm.ShmError) as caught:
        posix_shm.open_anonymous_shm(huge_pages=True, size=(TOO_MUCH // huge_page) * huge_page)
    assert caught.value.errno in (errno.ENOSPC, errno.ENOMEM)


@pytest.mark.parametrize("size", [3, -4096, (1 << 21) + 1])
def test_a_page_size_is_a_power_of_two(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        posix_shm.open_anonymous_shm(huge_pages=size)


def test_a_page_size_that_the_kernel_does_not_have_is_an_error() -> None:
    with pytest.raises(posix_shm.ShmError):
        posix_shm.open_anonymous_shm(huge_pages=1 << 40)


# ---- make_shm ---------------------------------------------------------------------------------

MAKERS = {"make_shm": posix_shm.make_shm, "SharedMemoryObject": posix_shm.SharedMemoryObject}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
Make = Callable[..., posix_shm.SharedMemoryObject]


@pytest.fixture
def descriptor(name: str) -> Iterator[int]:
    """An inheritable descriptor of an object, open for reading and writing."""
    fd = os.open(path_of(name), os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(fd, True)
    yield fd
    os.close(fd)


@makers
def test_making_an_object_takes_the_descriptor_over(make: Make, descriptor: int) -> None:
    mine = os.dup(descriptor)
    os.set_inheritable(mine, True)
    with make(mine) as shm:
        assert type(shm) is posix_shm.SharedMemoryObject
        assert shm.fd == mine
        assert shm.name is None
        assert shm.direction == "io"
        assert not os.get_inheritable(mine)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(mine)


@makers
def test_the_direction_is_asked_of_the_descriptor(make: Make, descriptor: int, name: str) -> None:
    with make(os.open(path_of(name), os.O_RDONLY)) as shm:
        assert shm.direction == "input"


@makers
@pytest.mark.parametrize("spelling", ["{}", "/{}"], ids=["no-slash", "slash"])
def test_the_name_of_a_made_object_is_canonical(
    make: Make, descriptor: int, name: str, spelling: str
) -> None:
    given = spelling.format(name[1:])
    for named in (given, os.fsencode(given), Path(given)):
        with make(os.dup(descriptor), named) as shm:
            assert shm.name == name
    with make(os.dup(descriptor), name=None) as shm:
        assert shm.name is None


@makers
@pytest.mark.parametrize("bad", [-1, -2, 1 << 30, (1 << 31) - 1, 1 << 40, -(1 << 70), 1 << 70])
def test_a_bad_descriptor_is_an_error(make: Make, bad: int) -> None:
    with pytest.raises(posix_shm.ShmError) as caught:
        make(bad)
    assert caught.value.errno == errno.EBADF


@makers
def test_a_closed_descriptor_is_an_error(make: Make, descriptor: int) -> None:
    closed = os.dup(descriptor)
    os.close(closed)
    with pytest.raises(posix_shm.ShmError) as caught:
        make(closed)
    assert caught.value.errno == errno.EBADF


@makers
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("", posix_shm.ShmError),
        ("/a/b", posix_shm.ShmError),
        ("x" * 300, posix_shm.ShmError),
        ("a\0b", ValueError),
        (5, TypeError),
    ],
    ids=["empty", "two-slashes", "too-long", "nul", "int"],
)
def test_a_bad_name_leaves_the_descriptor_to_the_caller(
    make: Make, descriptor: int, wrong: object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        make(descriptor, wrong)
    os.fstat(descriptor)
    assert os.get_inheritable(descriptor)


@makers
@pytest.mark.parametrize("wrong", [None, "1", 1.0], ids=repr)
def test_what_is_no_descriptor_is_a_type_error(make: Make, wrong: object) -> None:
    with pytest.raises(TypeError):
        make(wrong)


# ---- is_shm, is_open_shm ----------------------------------------------------------------------


def test_an_object_is_one_open_and_closed() -> None:
    with posix_shm.open_anonymous_shm() as shm:
        assert posix_shm.is_shm(shm) is True
        assert posix_shm.is_open_shm(shm) is True
    assert posix_shm.is_shm(shm) is True
    assert posix_shm.is_open_shm(shm) is False


@pytest.mark.parametrize(
    "other", [123, None, "/name", posix_shm.SharedMemoryObject, b""], ids=repr
)
def test_anything_else_is_no_object(other: object) -> None:
    assert posix_shm.is_shm(other) is False
    assert posix_shm.is_open_shm(other) is False


def test_an_object_of_a_derived_class_is_one() -> None:
    class Derived(posix_shm.SharedMemoryObject):
        pass

    with posix_shm.open_anonymous_shm() as shm, Derived(os.dup(shm.fd)) as derived:
        assert posix_shm.is_shm(derived)
        assert posix_shm.is_open_shm(derived)
    assert not posix_shm.is_open_shm(derived)


@pytest.mark.parametrize("wrong", ["2097152", b"1", 1.9, -0.5])
def test_a_huge_page_size_that_is_no_int_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        posix_shm.open_anonymous_shm(huge_pages=wrong)


class _Unshowable:
    def __index__(self) -> int:
        return -1

    def __repr__(self) -> str:
        raise RuntimeError("it has no repr")


@pytest.mark.parametrize("make", [posix_shm.make_shm, posix_shm.SharedMemoryObject])
def test_what_the_repr_of_a_bad_descriptor_raises_comes_out(make: Make) -> None:
    with pytest.raises(RuntimeError, match="it has no repr"):
        make(_Unshowable())
