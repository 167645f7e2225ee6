"""SharedMemoryObject: its members, their errors, and what is left of it once closed."""

from __future__ import annotations

import copy
import errno
import gc
import inspect
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any

import posix_shm
import pytest
from posix_shm import (
    Permission,
    SharedMemoryObject,
    ShmDoesNotExistError,
    ShmError,
    delete_shm,
    make_shm,
    open_anonymous_shm,
    open_shm,
)

from .support import PAGE, exists, mode_of, path_of, run_python

# More than any machine has.
ABSURD = 1 << 60

# Gives up root's privileges after the imports, which may be from where only root can read.
AS_NOBODY = """
import os
from posix_shm import make_shm, open_anonymous_shm
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
"""


def allocated(shm: SharedMemoryObject) -> int:
    """The bytes of memory that the object takes."""
    return shm.stat().st_blocks * 512


def new(name: str, size: int | None = None) -> SharedMemoryObject:
    """An object of this name, for io."""
    return open_shm(name, direction="io", if_exists="error", if_does_not_exist="create", size=size)


# ---- the signatures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("member", "signature"),
    [
        ("truncate", "(size)"),
        ("reserve", "(size=None)"),
        ("stat", "()"),
        ("chmod", "(permissions)"),
        ("chown", "(uid=None, gid=None)"),
        ("close", "()"),
        ("detach", "()"),
        ("delete", "()"),
        ("fileno", "()"),
        ("seal", "(*seals)"),
        (
            "mmap",
            "(length=None, *, addr=0, protections=None, flags='shared', offset=0, guard=False)",
        ),
    ],
)
def test_each_method_has_the_parameters_and_defaults_of_the_contract(
    member: str, signature: str
) -> None:
    with open_anonymous_shm() as shm:
        found = inspect.signature(getattr(shm, member))
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found.parameters.values()
    ]
    assert str(inspect.Signature(parameters)) == signature


# ---- making one from a descriptor -----------------------------------------------------------


@pytest.mark.parametrize("make", [make_shm, SharedMemoryObject])
def test_it_takes_over_a_descriptor(name: str, make: Callable[..., SharedMemoryObject]) -> None:
    fd = new(name).detach()
    shm = make(fd, name)
    assert (shm.fd, shm.name, type(shm)) == (fd, name, SharedMemoryObject)
    shm.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)


def test_it_is_made_with_keywords_and_a_name_without_a_slash() -> None:
    with SharedMemoryObject(fd=open_anonymous_shm().detach(), name="somebody") as shm:
        assert shm.name == "/somebody"


def test_without_a_name_it_has_none() -> None:
    with make_shm(open_anonymous_shm().detach()) as shm:
        assert shm.name is None


def test_a_descriptor_that_it_takes_over_is_inherited_no_longer() -> None:
    fd = open_anonymous_shm().detach()
    os.set_inheritable(fd, True)
    with make_shm(fd) as shm:
        assert not os.get_inheritable(shm.fd)


@pytest.mark.parametrize("fd", [-1, -(10**30), 10**30, 1 << 31, 1 << 32, 987_654])
def test_a_descriptor_that_is_not_open_is_ebadf(fd: int) -> None:
    with pytest.raises(ShmError) as caught:
        SharedMemoryObject(fd, "/somebody")
    assert caught.value.errno == errno.EBADF
    assert caught.value.name == "/somebody"


@pytest.mark.parametrize("fd", ["3", 3.0, None, b"3"])
def test_a_descriptor_that_is_not_an_int_is_a_type_error(fd: Any) -> None:
    with pytest.raises(TypeError):
        SharedMemoryObject(fd)


@pytest.mark.parametrize(
    ("bad_name", "error"),
    [("/a/b", ShmError), ("", ShmError), (3, TypeError), ("a\0b", ValueError)],
)
def test_with_a_bad_name_the_descriptor_stays_the_callers(
    bad_name: Any, error: type[Exception]
) -> None:
    fd = open_anonymous_shm().detach()
    with pytest.raises(error):
        SharedMemoryObject(fd, bad_name)
    os.close(fd)


# ---- attributes -----------------------------------------------------------------------------


def test_fd_and_fileno_are_the_descriptor(name: str) -> None:
    with new(name) as shm:
        assert shm.fd == shm.fileno()
        assert os.path.samestat(os.fstat(shm.fd), path_of(name).stat())


def test_the_descriptor_is_not_inheritable(name: str) -> None:
    with new(name) as shm, open_anonymous_shm() as anonymous:
        assert not os.get_inheritable(shm.fd)
        assert not os.get_inheritable(anonymous.fd)


def test_direction_is_asked_of_the_descriptor(name: str) -> None:
    with new(name) as shm, open_shm(name) as reader:
        assert (shm.direction, reader.direction) == ("io", "input")
        os.dup2(reader.fd, shm.fd, inheritable=False)
        assert shm.direction == "input"


@pytest.mark.parametrize(("flag", "direction"), [(os.O_RDONLY, "input"), (os.O_RDWR, "io")])
def test_direction_of_somebody_elses_descriptor(name: str, flag: int, direction: str) -> None:
    new(name).close()
    with make_shm(os.open(path_of(name), flag)) as shm:
        assert shm.direction == direction


def test_size_is_the_bytes_now(name: str) -> None:
    with new(name) as shm, open_shm(name, direction="io") as other:
        assert shm.size == 0
        other.truncate(12_345)
        assert shm.size == 12_345


def test_attributes_can_not_be_set() -> None:
    with open_anonymous_shm() as shm:
        for attribute in ("name", "fd", "closed", "direction", "size", "seals", "made_up"):
            with pytest.raises(AttributeError):
                setattr(shm, attribute, 1)


def test_repr_shows_name_descriptor_and_direction(name: str) -> None:
    with new(name) as shm, open_shm(name) as reader, open_anonymous_shm() as anonymous:
        for part in (f"'{name}'", f"fd={shm.fd}", "direction='io'", "SharedMemoryObject"):
            assert part in repr(shm)
        assert "direction='input'" in repr(reader)
        assert "name=None" in repr(anonymous)
        assert "closed" not in repr(shm)


def test_repr_of_a_closed_one_says_so(name: str) -> None:
    shm = new(name)
    shm.close()
    assert name in repr(shm)
    assert "closed" in repr(shm)
    assert "fd=" not in repr(shm)


# ---- truncate -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, 10 * PAGE + 3])
def test_truncate_is_exact(size: int) -> None:
    with open_anonymous_shm(direction="io", size=5 * PAGE) as shm:
        shm.truncate(size)
        assert shm.size == size


def test_truncate_takes_a_keyword() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(size=7)
        assert shm.size == 7


def test_truncate_is_sparse() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(1 << 40)
        assert (shm.size, allocated(shm)) == (1 << 40, 0)


def test_truncate_drops_what_is_behind_and_grows_with_zeros() -> None:
    with open_anonymous_shm(direction="io", size=3 * PAGE) as shm:
        os.pwrite(shm.fd, b"x" * 3 * PAGE, 0)
        shm.truncate(10)
        shm.truncate(3 * PAGE)
        assert os.pread(shm.fd, 3 * PAGE, 0) == b"x" * 10 + bytes(3 * PAGE - 10)


@pytest.mark.parametrize("size", [-1, -PAGE, -(1 << 63)])
def test_truncate_to_a_negative_size_is_einval(name: str, size: int) -> None:
    with new(name, size=10) as shm:
        with pytest.raises(ShmError) as caught:
            shm.truncate(size)
        assert (caught.value.errno, caught.value.name) == (errno.EINVAL, name)
        assert shm.size == 10


def test_truncate_of_an_object_opened_for_input_is_einval_with_a_note(name: str) -> None:
    new(name, size=10).close()
    with open_shm(name) as reader:
        with pytest.raises(ShmError) as caught:
            reader.truncate(20)
        assert (caught.value.errno, caught.value.name) == (errno.EINVAL, name)
        assert any('direction="io"' in note for note in caught.value.__notes__)
        assert reader.size == 10


@pytest.mark.parametrize("method", ["truncate", "reserve"])
@pytest.mark.parametrize("size", [1 << 63, -(1 << 63) - 1, 10**30])
def test_a_size_that_no_file_can_have_is_an_overflow_error(method: str, size: int) -> None:
    with open_anonymous_shm(direction="io", size=10) as shm:
        with pytest.raises(OverflowError):
            getattr(shm, method)(size)
        assert shm.size == 10


@pytest.mark.parametrize("method", ["truncate", "reserve"])
@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [((1.0,), {}), (("1",), {}), ((1, 2), {}), ((), {"length": 1}), ((1,), {"size": 1})],
)
def test_a_wrong_argument_is_a_type_error(
    method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with open_anonymous_shm(direction="io", size=10) as shm:
        with pytest.raises(TypeError):
            getattr(shm, method)(*arguments, **keywords)
        assert shm.size == 10


@pytest.mark.parametrize("arguments", [(), (None,)])
def test_truncate_needs_a_size(arguments: tuple[Any, ...]) -> None:
    with open_anonymous_shm(direction="io", size=10) as shm, pytest.raises(TypeError):
        shm.truncate(*arguments)


# ---- reserve --------------------------------------------------------------------------------


def test_reserve_commits_all_by_default() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(5 * PAGE + 1)
        assert allocated(shm) == 0
        shm.reserve()
        assert (shm.size, allocated(shm)) == (5 * PAGE + 1, 6 * PAGE)


def test_reserve_commits_the_first_bytes_and_never_shrinks() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.truncate(5 * PAGE)
        shm.reserve(2 * PAGE)
        assert (shm.size, allocated(shm)) == (5 * PAGE, 2 * PAGE)


def test_reserve_grows_an_object_that_is_shorter() -> None:
    with open_anonymous_shm(direction="io", size=10) as shm:
        os.pwrite(shm.fd, b"0123456789", 0)
        shm.reserve(size=3 * PAGE + 1)
        assert (shm.size, allocated(shm)) == (3 * PAGE + 1, 4 * PAGE)
        assert os.pread(shm.fd, 4 * PAGE, 0) == b"0123456789" + bytes(3 * PAGE - 9)


@pytest.mark.parametrize("size", [0, 5, 10, None])
def test_reserve_of_what_is_there_changes_nothing(size: int | None) -> None:
    with open_anonymous_shm(direction="io", size=10) as shm:
        shm.reserve(size)
        assert (shm.size, allocated(shm)) == (10, PAGE)


def test_reserve_of_an_empty_object_is_fine() -> None:
    with open_anonymous_shm(direction="io") as shm:
        shm.reserve()
        shm.reserve(0)
        assert (shm.size, allocated(shm)) == (0, 0)


def test_reserve_without_room_is_enospc_and_changes_nothing(name: str) -> None:
    with new(name) as shm:
        shm.truncate(8 * PAGE)
        shm.reserve(2 * PAGE)
        os.pwrite(shm.fd, b"x", 5 * PAGE)
        before = shm.size, allocated(shm)
        with pytest.raises(ShmError) as caught:
            shm.reserve(ABSURD)
        assert (caught.value.errno, caught.value.name) == (errno.ENOSPC, name)
        assert any("free" in note and "container" in note for note in caught.value.__notes__)
        assert (shm.size, allocated(shm)) == before
        assert os.pread(shm.fd, 1, 5 * PAGE) == b"x"


def test_reserve_that_a_signal_handler_interrupts_keeps_nothing_past_the_end() -> None:
    # What it reserved before the end stays: a peer may have written there since.  The signal comes
    # while the argument is converted, without one byte code in between, so it is there when the
    # call begins.
    run_python("""
import ctypes, functools, operator, os, signal
from posix_shm import open_anonymous_shm

class Interrupted(Exception):
    pass

def handler(number, frame):
    raise Interrupted

signal.signal(signal.SIGUSR1, handler)
SIZE = 256 << 20
send = ctypes.PYFUNCTYPE(functools.partial(operator.add, SIZE), ctypes.c_int)(
    ("PyErr_SetInterruptEx", ctypes.pythonapi)
)

class Size:
    __index__ = staticmethod(functools.partial(send, signal.SIGUSR1))

with open_anonymous_shm(direction="io") as shm:
    shm.truncate(1 << 20)
    shm.reserve(1 << 19)
    os.pwrite(shm.fd, b"x", 1 << 18)
    try:
        shm.reserve(Size())
    except Interrupted:
        pass
    else:
        raise SystemExit("it was not interrupted")
    assert shm.size == 1 << 20
    assert 1 << 19 <= shm.stat().st_blocks * 512 <= 1 << 20
    assert os.pread(shm.fd, 1 << 20, 0).strip(b"\\0") == b"x"
""")


def test_reserve_of_a_negative_size_is_einval() -> None:
    with open_anonymous_shm(direction="io", size=10) as shm:
        with pytest.raises(ShmError) as caught:
            shm.reserve(-1)
        assert caught.value.errno == errno.EINVAL
        assert shm.size == 10


def test_reserve_of_an_object_opened_for_input_is_an_error_with_a_note(name: str) -> None:
    with new(name) as shm:
        shm.truncate(PAGE)
        with open_shm(name) as reader, pytest.raises(ShmError) as caught:
            reader.reserve()
        assert caught.value.errno == errno.EBADF
        assert any('direction="io"' in note for note in caught.value.__notes__)
        assert allocated(shm) == 0


# ---- stat, chmod, chown ---------------------------------------------------------------------


def test_stat_is_what_os_fstat_says(name: str) -> None:
    with new(name, size=100) as shm:
        assert isinstance(shm.stat(), os.stat_result)
        assert shm.stat() == os.fstat(shm.fd)
        assert shm.stat().st_size == 100


@pytest.mark.parametrize(
    ("permissions", "mode"),
    [
        (0o640, 0o640),
        (0, 0),
        ("user-all", 0o700),
        (Permission.RUSR | Permission.ROTH, 0o404),
        (["rusr", "group_read", Permission.WUSR, 0o001], 0o641),
        ((), 0),
    ],
)
def test_chmod_takes_ints_members_and_words(name: str, permissions: Any, mode: int) -> None:
    with new(name) as shm:
        shm.chmod(permissions)
        assert mode_of(name) == mode


def test_chmod_takes_a_keyword_and_ignores_the_umask(name: str) -> None:
    with new(name) as shm:
        before = os.umask(0o777)
        try:
            shm.chmod(permissions=0o666)
        finally:
            os.umask(before)
        assert mode_of(name) == 0o666


def test_chmod_works_on_an_object_opened_for_input(name: str) -> None:
    new(name).close()
    with open_shm(name) as reader:
        reader.chmod(0o444)
    assert mode_of(name) == 0o444


@pytest.mark.parametrize(
    ("permissions", "error"),
    [("readable", ValueError), (None, TypeError), (1.5, TypeError), (-1, OverflowError)],
)
def test_chmod_refuses_what_is_no_permission(
    name: str, permissions: Any, error: type[Exception]
) -> None:
    with new(name) as shm:
        with pytest.raises(error):
            shm.chmod(permissions)
        assert mode_of(name) == 0o600


def test_chown_sets_the_ids_that_are_given_and_leaves_the_others(name: str) -> None:
    privileged = os.geteuid() == 0
    uid, gid = (4321, 1234) if privileged else (os.getuid(), os.getgid())
    with new(name) as shm:
        before = shm.stat()
        shm.chown()
        assert (shm.stat().st_uid, shm.stat().st_gid) == (before.st_uid, before.st_gid)
        shm.chown(gid=gid)
        assert (shm.stat().st_uid, shm.stat().st_gid) == (before.st_uid, gid)
        shm.chown(uid)
        assert (shm.stat().st_uid, shm.stat().st_gid) == (uid, gid)
        shm.chown(os.getuid(), None)
        shm.chown(None, os.getgid())
        assert (shm.stat().st_uid, shm.stat().st_gid) == (os.getuid(), os.getgid())


@pytest.mark.parametrize(
    ("uid", "error"),
    [
        ("root", TypeError),
        (0.0, TypeError),
        (-2, OverflowError),
        ((1 << 32) - 1, OverflowError),  # to the system it is -1
        (1 << 32, OverflowError),
    ],
)
def test_chown_refuses_what_is_no_id(uid: Any, error: type[Exception]) -> None:
    with open_anonymous_shm() as shm:
        for keyword in ("uid", "gid"):
            with pytest.raises(error):
                shm.chown(**{keyword: uid})


@pytest.mark.parametrize("call", ["chmod(0o600)", "chown(0, 0)"])
def test_what_is_another_users_is_a_permission_error(call: str) -> None:
    run_python(f"""
{AS_NOBODY}
import errno
from posix_shm import ShmPermissionError
with make_shm(os.open("/", os.O_RDONLY), "/roots") as shm:
    try:
        shm.{call}
    except ShmPermissionError as error:
        assert (error.errno, error.name) == (errno.EPERM, "/roots"), error
        assert isinstance(error, PermissionError)
    else:
        raise SystemExit("it was allowed")
""")


# ---- delete ---------------------------------------------------------------------------------


def test_delete_removes_the_name_and_nothing_else(name: str) -> None:
    with new(name, size=10) as shm:
        shm.delete()
        assert not exists(name)
        assert (shm.name, shm.size) == (name, 10)


def test_delete_works_once_closed(name: str) -> None:
    shm = new(name)
    shm.close()
    shm.delete()
    assert not exists(name)


def test_delete_again_does_not_exist(name: str) -> None:
    with new(name) as shm:
        shm.delete()
        with pytest.raises(ShmDoesNotExistError) as caught:
            shm.delete()
        assert (caught.value.errno, caught.value.name) == (errno.ENOENT, name)


def test_delete_of_an_anonymous_one_is_a_value_error() -> None:
    with open_anonymous_shm() as shm, pytest.raises(ValueError, match="name"):
        shm.delete()


# ---- close and detach -----------------------------------------------------------------------


def test_close_closes_the_descriptor_and_is_idempotent(name: str) -> None:
    shm = new(name)
    fd = shm.fd
    assert not shm.closed
    shm.close()
    assert shm.closed
    with open(os.devnull) as somebody_elses:  # which gets the number of the descriptor
        assert somebody_elses.fileno() == fd
        shm.close()
        with pytest.raises(ValueError):
            shm.stat()
        os.fstat(fd)


def test_close_reports_an_error_and_closes_all_the_same() -> None:
    shm = open_anonymous_shm()
    os.close(shm.fd)
    with pytest.raises(ShmError) as caught:
        shm.close()
    assert caught.value.errno == errno.EBADF
    assert shm.closed
    shm.close()


def test_a_with_block_closes(name: str) -> None:
    with new(name) as shm:
        with shm as same:
            assert same is shm
        assert shm.closed


def test_a_with_block_never_replaces_the_exception_of_its_body() -> None:
    shm = open_anonymous_shm()
    os.close(shm.fd)  # which makes the close fail, too
    with pytest.raises(ZeroDivisionError), shm:
        raise ZeroDivisionError
    assert shm.closed


def test_a_with_block_reports_the_error_of_close() -> None:
    shm = open_anonymous_shm()
    os.close(shm.fd)
    with pytest.raises(ShmError), shm:
        pass
    assert shm.closed


def test_detach_gives_the_descriptor_away(name: str) -> None:
    shm = new(name)
    number = shm.fd
    fd = shm.detach()
    assert fd == number
    assert shm.closed
    shm.close()
    assert os.path.samestat(os.fstat(fd), path_of(name).stat())
    os.close(fd)


# What each member does when it is used.  A member that is missing here fails a test below.
MEMBERS: dict[str, Callable[[SharedMemoryObject], object]] = {
    "fd": lambda shm: shm.fd,
    "fileno": lambda shm: shm.fileno(),
    "direction": lambda shm: shm.direction,
    "size": lambda shm: shm.size,
    "truncate": lambda shm: shm.truncate(10),
    "reserve": lambda shm: shm.reserve(),
    "stat": lambda shm: shm.stat(),
    "chmod": lambda shm: shm.chmod(0o600),
    "chown": lambda shm: shm.chown(),
    "detach": lambda shm: shm.detach(),
    "seal": lambda shm: shm.seal("grow"),
    "seals": lambda shm: shm.seals,
    "mmap": lambda shm: shm.mmap(),
}
PROTOCOLS: dict[str, Callable[[SharedMemoryObject], object]] = {
    "with": lambda shm: shm.__enter__(),
    "memoryview": memoryview,
}
USES = MEMBERS | PROTOCOLS
STILL_WORK = {"name", "closed", "close", "delete"}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("how", ["close", "detach", "with"])
def test_any_use_once_closed_is_a_value_error(name: str, use: str, how: str) -> None:
    shm = new(name, size=10)
    if how == "close":
        shm.close()
    elif how == "detach":
        os.close(shm.detach())
    else:
        with shm:
            pass
    with pytest.raises(ValueError, match="closed"):
        USES[use](shm)


def test_what_says_what_it_was_still_works_once_closed(name: str) -> None:
    shm = new(name)
    shm.close()
    assert (shm.name, shm.closed) == (name, True)
    assert posix_shm.is_shm(shm)
    assert not posix_shm.is_open_shm(shm)


def test_every_public_member_is_known_to_these_tests() -> None:
    members = {member for member in dir(SharedMemoryObject) if not member.startswith("_")}
    assert members == set(MEMBERS) | STILL_WORK


def test_an_argument_that_closes_the_object_does_not_touch_the_next_descriptor() -> None:
    run_python("""
from posix_shm import open_anonymous_shm

class Closes:
    def __index__(self):
        global next_one
        fd = shm.fd
        shm.close()
        next_one = open_anonymous_shm(direction="io", size=10)
        assert next_one.fd == fd
        return 5

for use in ("truncate", "reserve", "chown", "mmap"):
    shm = open_anonymous_shm(direction="io", size=10)
    try:
        getattr(shm, use)(Closes())
    except ValueError as error:
        assert "closed" in str(error), error
    else:
        raise SystemExit(f"{use} was done")
    assert (next_one.size, next_one.stat().st_size) == (10, 10)
    next_one.close()
""")


# ---- dropping one ---------------------------------------------------------------------------


def test_dropping_an_open_one_closes_it_with_a_resource_warning(name: str) -> None:
    held = [new(name)]
    fd = held[0].fd
    with pytest.warns(ResourceWarning, match=name):
        held.clear()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)


def test_dropping_a_closed_one_says_nothing(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new(name).close()
        with open_anonymous_shm():
            pass
        os.close(open_anonymous_shm().detach())
        gc.collect()
    assert caught == []


def test_an_exception_in_flight_survives_the_resource_warning() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ZeroDivisionError):
            _ = open_anonymous_shm(), 1 / 0  # dropped while the exception is on its way
    assert [warning.category for warning in caught] == [ResourceWarning]


def test_a_resource_warning_that_is_an_error_is_unraisable_and_the_descriptor_is_closed() -> None:
    done = run_python("""
import os
from posix_shm import open_anonymous_shm
shm = open_anonymous_shm()
fd = shm.fd
del shm
try:
    os.fstat(fd)
except OSError:
    print("closed")
""")
    assert done.stdout == "closed\n"
    assert "ResourceWarning: unclosed" in done.stderr


def test_a_warnings_hook_that_keeps_the_object_gets_a_closed_one() -> None:
    # The warning carries its source, so a hook that keeps the warning makes the dying object
    # live on.  It dies for good later, once, in whatever order.
    run_python(
        """
import gc, os, warnings
from posix_shm import open_anonymous_shm, SharedMemoryObject

class Derived(SharedMemoryObject):
    pass

def descriptors():
    return len(os.listdir("/proc/self/fd"))

before = descriptors()
for make in (
    lambda: open_anonymous_shm(direction="io", size=10),
    lambda: Derived(open_anonymous_shm().detach()),
):
    for _ in range(500):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            shm = make()
            address = id(shm)
            del shm
            gc.collect(0)
        (warning,) = caught
        kept = warning.source
        assert warning.category is ResourceWarning
        assert id(kept) == address
        assert kept.closed and "closed" in repr(kept) and kept.name is None
        for use in (kept.fileno, kept.stat, lambda: memoryview(kept)):
            try:
                use()
            except ValueError:
                pass
            else:
                raise SystemExit("a closed object was used")
        other = open_anonymous_shm()  # takes the number of the descriptor
        del warning, caught[:], kept
        gc.collect(0)
        other.stat()
        other.close()
assert descriptors() == before
"""
    )


# ---- copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_a_type_error_with_a_hint(name: str, protocol: int) -> None:
    with new(name) as shm, pytest.raises(TypeError, match=r"open_shm") as caught:
        pickle.dumps(shm, protocol)
    assert name in str(caught.value)


@pytest.mark.parametrize("function", [copy.copy, copy.deepcopy])
def test_copy_is_a_type_error_with_a_hint(name: str, function: Callable[[object], object]) -> None:
    with new(name) as shm, pytest.raises(TypeError, match=r"open_shm"):
        function(shm)


def test_delete_shm_and_delete_mean_the_same_name(name: str) -> None:
    with new(name) as shm:
        delete_shm(name)
        with pytest.raises(ShmDoesNotExistError):
            shm.delete()


@pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8", reason="the escapes are of UTF-8")
def test_a_name_has_one_spelling(name: str) -> None:
    spelt: list[str | bytes] = [
        name + "é",
        name + "\udcc3\udca9",
        os.fsencode(name + "é"),
        name[1:] + "\udcc3\udca9",
    ]
    for spelling in spelt:
        with posix_shm.open_shm(spelling, direction="io", if_does_not_exist="create") as shm:
            assert shm.name == name + "é"
            shm.delete()
