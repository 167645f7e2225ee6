"""``posix_shm.ffi``: the system calls under their C names."""

from __future__ import annotations

import errno
import fcntl
import inspect
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import posix_shm
import pytest
from posix_shm import ffi

from .support import PAGE, descriptors, exists, mode_of, path_of, run_python

FUNCTIONS = [
    "shm_open",
    "shm_unlink",
    "ftruncate",
    "mmap",
    "munmap",
    "close",
    "fstat",
    "fchown",
    "fchmod",
    "strerror",
]
OPEN = ["O_RDONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_CLOEXEC", "O_NOFOLLOW"]
MODES = [f"S_I{right}{who}" for who in ("USR", "GRP", "OTH") for right in "RWX"]
MODES += ["S_IRWXU", "S_IRWXG", "S_IRWXO"]
PROTECTIONS = {"PROT_NONE": 0, "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4}
MAP = [
    "MAP_SHARED",
    "MAP_PRIVATE",
    "MAP_ANONYMOUS",
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_GROWSDOWN",
    "MAP_NORESERVE",
    "MAP_POPULATE",
    "MAP_LOCKED",
]


@pytest.fixture
def fd(name: str) -> Iterator[int]:
    """A descriptor of an object of a page, open for reading and writing."""
    opened = os.open(path_of(name), os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(opened, PAGE)
    yield opened
    os.close(opened)


def check_plain(caught: pytest.ExceptionInfo[OSError], error: int) -> None:
    """An ``OSError`` as Python itself makes it of an errno."""
    assert caught.value.errno == error
    assert type(caught.value) is type(OSError(error, ""))
    assert not isinstance(caught.value, posix_shm.ShmError | posix_shm.MmapError)
    assert caught.value.strerror == os.strerror(error)


# ---- what is there ----------------------------------------------------------------------------


def test_the_public_names_are_the_functions_and_the_constants() -> None:
    constants = [*OPEN, *MODES, *PROTECTIONS, *MAP, "MAP_FAILED"]
    assert sorted(ffi.__all__) == sorted(FUNCTIONS + constants)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_is_documented_and_has_a_signature(function: str) -> None:
    assert inspect.getdoc(getattr(ffi, function))
    parameters = inspect.signature(getattr(ffi, function)).parameters.values()
    assert all(parameter.kind is not parameter.VAR_POSITIONAL for parameter in parameters)


@pytest.mark.parametrize("function", ["close", "fchown", "fstat", "ftruncate", "strerror"])
def test_what_os_has_is_the_function_of_os(function: str) -> None:
    assert getattr(ffi, function) is getattr(os, function)


@pytest.mark.parametrize("constant", OPEN)
def test_an_open_flag_has_the_systems_value(constant: str) -> None:
    assert getattr(ffi, constant) == getattr(os, constant)


@pytest.mark.parametrize("constant", MODES)
def test_a_mode_bit_has_the_systems_value(constant: str) -> None:
    assert getattr(ffi, constant) == getattr(stat, constant)


@pytest.mark.parametrize("constant", PROTECTIONS)
def test_a_protection_has_the_systems_value(constant: str) -> None:
    assert getattr(ffi, constant) == getattr(mmap, constant, PROTECTIONS[constant])


@pytest.mark.parametrize("constant", MAP)
def test_a_map_flag_has_the_systems_value(constant: str) -> None:
    value = getattr(ffi, constant)
    assert value == getattr(mmap, constant, value)
    assert value > 0
    others = {getattr(ffi, other) for other in MAP if other != constant}
    assert value not in others


def test_map_failed_is_minus_one_as_an_address() -> None:
    assert struct.pack("P", ffi.MAP_FAILED) == struct.pack("n", -1)


# ---- shm_open, shm_unlink ---------------------------------------------------------------------


def test_shm_open_returns_a_descriptor_that_is_not_inherited(name: str) -> None:
    fd = ffi.shm_open(name, ffi.O_RDWR | ffi.O_CREAT | ffi.O_EXCL, ffi.S_IRUSR | ffi.S_IWUSR)
    try:
        assert type(fd) is int
        assert exists(name)
        assert mode_of(name) == 0o600
        assert not os.get_inheritable(fd)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    finally:
        ffi.close(fd)


def test_the_umask_applies_to_shm_open(name: str) -> None:
    before = os.umask(0o026)
    try:
        ffi.close(ffi.shm_open(name, "creat", 0o777))
    finally:
        os.umask(before)
    assert mode_of(name) == 0o751


@pytest.mark.parametrize("spelling", [str, os.fsencode, Path], ids=["str", "bytes", "path"])
def test_a_name_may_be_text_bytes_or_a_path(
    name: str, spelling: Callable[[str], str | bytes | Path]
) -> None:
    ffi.close(ffi.shm_open(spelling(name), "creat", 0o600))
    assert exists(name)
    ffi.shm_unlink(spelling(name))
    assert not exists(name)


def test_names_go_to_the_system_as_they_are(name: str) -> None:
    """The C library itself takes any number of slashes in front, and no other."""
    for spelled in (name[1:], name, f"/{name}", f"//{name}"):
        ffi.close(ffi.shm_open(spelled, ["creat", "excl"], 0o600))
        assert exists(name)
        ffi.shm_unlink(spelled)
        assert not exists(name)
    for impossible in ("", "/", f"{name}/a"):
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            ffi.shm_open(impossible, "creat", 0o600)
        assert caught.value.errno == errno.EINVAL
        assert caught.value.filename == impossible


def test_opening_what_is_missing_is_enoent(name: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ffi.shm_open(name, "rdwr", 0)
    check_plain(caught, errno.ENOENT)
    assert caught.value.filename == name


def test_creating_what_exists_is_eexist(name: str, fd: int) -> None:
    with pytest.raises(FileExistsError) as caught:
        ffi.shm_open(name, ["rdwr", "creat", "excl"], 0o600)
    check_plain(caught, errno.EEXIST)


def test_unlinking_what_is_missing_is_enoent(name: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ffi.shm_unlink(name)
    check_plain(caught, errno.ENOENT)
    assert caught.value.filename == name


def test_a_name_that_is_too_long_is_enametoolong() -> None:
    for call in (lambda name: ffi.shm_open(name, 0, 0), ffi.shm_unlink):
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            call("/" + 256 * "x")
        check_plain(caught, errno.ENAMETOOLONG)


@pytest.mark.parametrize("name", ["/a\0b", b"/a\0b"], ids=["str", "bytes"])
def test_a_nul_in_a_name_is_a_value_error(name: str | bytes) -> None:
    with pytest.raises(ValueError, match="null"):
        ffi.shm_open(name, 0, 0)
    with pytest.raises(ValueError, match="null"):
        ffi.shm_unlink(name)


@pytest.mark.parametrize("name", [None, 5, ["/a"]], ids=repr)
def test_what_is_no_name_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError):
        ffi.shm_open(name, 0, 0)
    with pytest.raises(TypeError):
        ffi.shm_unlink(name)


# ---- mmap, munmap -----------------------------------------------------------------------------

MAPPED = """
import ctypes, os, sys
from posix_shm import ffi

PAGE = os.sysconf("SC_PAGESIZE")
fd = ffi.shm_open(sys.argv[1], ffi.O_RDWR | ffi.O_CREAT, 0o600)
ffi.ftruncate(fd, 2 * PAGE)
assert ffi.fstat(fd).st_size == 2 * PAGE
written = ffi.mmap(0, 2 * PAGE, ffi.PROT_READ | ffi.PROT_WRITE, ffi.MAP_SHARED, fd, 0)
read = ffi.mmap(0, PAGE, "read", "shared", fd, PAGE)
ffi.close(fd)
ctypes.memmove(written + PAGE, b"across", 6)
assert ctypes.string_at(read, 6) == b"across"
ffi.munmap(written, 2 * PAGE)
ffi.munmap(read, PAGE)
print("done")
"""


def test_two_mappings_of_one_object_show_the_same_bytes(name: str) -> None:
    assert run_python(MAPPED, name).stdout == "done\n"
    assert path_of(name).read_bytes()[PAGE : PAGE + 6] == b"across"


def mapped(address: int) -> bool:
    """Whether a mapping begins at an address."""
    return f"\n{address:x}-" in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_munmap_takes_the_pages_away(fd: int) -> None:
    address = ffi.mmap(0, PAGE, "read", "shared", fd, 0)
    assert mapped(address)
    result: object = ffi.munmap(address, PAGE)  # type: ignore[func-returns-value]
    assert result is None
    assert not mapped(address)


def test_munmap_of_nothing_is_no_error(fd: int) -> None:
    """As POSIX says."""
    address = ffi.mmap(0, PAGE, "read", "shared", fd, 0)
    ffi.munmap(address, PAGE)
    ffi.munmap(address, PAGE)


def mmap_with(fd: int, changed: dict[str, Any]) -> int:
    """``ffi.mmap`` of a page, with some arguments changed."""
    arguments: dict[str, Any] = {
        "addr": 0,
        "length": PAGE,
        "prot": "read",
        "flags": "shared",
        "fd": fd,
        "offset": 0,
    }
    return ffi.mmap(**arguments | changed)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"length": 0}, errno.EINVAL),
        ({"flags": 0}, errno.EINVAL),
        ({"offset": 1}, errno.EINVAL),
        ({"fd": -1}, errno.EBADF),
        ({"fd": 1 << 30}, errno.EBADF),
        ({"length": 1 << 62}, errno.ENOMEM),
    ],
    ids=str,
)
def test_an_error_of_mmap_is_a_plain_os_error(
    fd: int, changed: dict[str, Any], error: int
) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        mmap_with(fd, changed)
    check_plain(caught, error)


def test_writing_through_a_descriptor_for_reading_is_eacces(name: str, fd: int) -> None:
    reader = ffi.shm_open(name, "rdonly", 0)
    try:
        with pytest.raises(PermissionError) as caught:
            ffi.mmap(0, PAGE, "write", "shared", reader, 0)
        check_plain(caught, errno.EACCES)
    finally:
        ffi.close(reader)


@pytest.mark.parametrize(("address", "length"), [(0, 0), (1, PAGE)])
def test_an_error_of_munmap_is_a_plain_os_error(address: int, length: int) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        ffi.munmap(address, length)
    check_plain(caught, errno.EINVAL)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"length": -1}, OverflowError),
        ({"length": 1 << 64}, OverflowError),
        ({"offset": 1 << 64}, OverflowError),
        ({"addr": 1 << 70}, OverflowError),
        ({"length": "1"}, TypeError),
        ({"addr": None}, TypeError),
        ({"fd": "1"}, TypeError),
        ({"offset": 1.0}, TypeError),
    ],
    ids=str,
)
def test_what_is_no_argument_of_mmap_is_refused(
    fd: int, changed: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        mmap_with(fd, changed)


def test_mmap_takes_its_arguments_in_the_order_of_c(fd: int) -> None:
    assert list(inspect.signature(ffi.mmap).parameters) == [
        "addr",
        "length",
        "prot",
        "flags",
        "fd",
        "offset",
    ]
    assert list(inspect.signature(ffi.shm_open).parameters) == ["name", "oflag", "mode"]
    assert list(inspect.signature(ffi.fchmod).parameters) == ["fd", "mode"]


# ---- the rest ---------------------------------------------------------------------------------


def test_fchmod_and_fchown_change_the_object(name: str, fd: int) -> None:
    ffi.fchmod(fd, ffi.S_IRWXU | ffi.S_IRGRP)
    assert mode_of(name) == 0o740
    ffi.fchown(fd, -1, -1)
    ffi.fchown(fd, os.geteuid(), os.getegid())
    assert (ffi.fstat(fd).st_uid, ffi.fstat(fd).st_gid) == (os.geteuid(), os.getegid())


@pytest.mark.parametrize(
    "call",
    [
        lambda fd: ffi.fchmod(fd, 0o600),
        lambda fd: ffi.fchown(fd, -1, -1),
        lambda fd: ffi.ftruncate(fd, 0),
        ffi.fstat,
        ffi.close,
    ],
    ids=["fchmod", "fchown", "ftruncate", "fstat", "close"],
)
def test_a_descriptor_that_is_not_open_is_ebadf(call: Callable[[int], object]) -> None:
    unused = max(descriptors()) + 1000
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        call(unused)
    check_plain(caught, errno.EBADF)


def test_ftruncate_of_a_descriptor_for_reading_is_einval(name: str, fd: int) -> None:
    reader = ffi.shm_open(name, "rdonly", 0)
    try:
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            ffi.ftruncate(reader, 0)
        check_plain(caught, errno.EINVAL)
    finally:
        ffi.close(reader)
