"""An object appears under its name in one step: of its size, with its memory and permissions."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Literal

import posix_shm
import pytest
from posix_shm import MmapError, ShmError, ShmPermissionError

from .elsewhere import hide_proc, hunt, in_a_dev_shm, in_a_process
from .support import PAGE, NameFactory, exists, mode_of, path_of

MIB = 1 << 20
SIZE = 3 * PAGE + 1
CONTENT = b"what was there before"
NAME = "/published"  # where /dev/shm is the test's own

# ---- against attachers ------------------------------------------------------------------------


def test_no_attacher_ever_sees_a_new_object_shorter_than_promised() -> None:
    _assert_attached(hunt("publication", "--mode", "create", "--seconds", "1"))


def test_no_attacher_ever_misses_a_superseded_name_or_sees_an_object_shorter() -> None:
    printed = hunt("publication", "--mode", "supersede", "--seconds", "1")
    _assert_attached(printed)
    assert "(0 found no name)" in printed


def test_no_attacher_ever_sees_a_truncated_object_shorter_than_promised() -> None:
    _assert_attached(hunt("publication", "--mode", "truncate", "--seconds", "1"))


def _assert_attached(printed: str) -> None:
    match = re.match(r"\w+: (\d+) attaches .* (\d+) objects made", printed)
    assert match is not None
    assert min(map(int, match.groups())) > 1


_RACE = """
import sys, posix_shm
prefix, count = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
won = []
for i in range(count):
    shm = posix_shm.open_shm(
        f"{prefix}-{i}", direction="io", if_exists=None, if_does_not_exist="create", size=4096
    )
    if shm is not None:
        won.append(i)
        shm.close()
print(*won)
"""


@in_a_dev_shm(16 * MIB)
def test_of_many_creators_at_once_exactly_one_makes_the_object() -> None:
    count = 500
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE, NAME, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [int(i) for racer in racers for i in racer.communicate()[0].split()]
    assert sorted(won) == list(range(count))
    for i in won:
        posix_shm.delete_shm(f"{NAME}-{i}")


# ---- permissions ------------------------------------------------------------------------------

IfExists = Literal["error", "overwrite", "truncate", "supersede"]
NEW: tuple[IfExists, ...] = ("error", "overwrite", "truncate", "supersede")


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
@pytest.mark.parametrize("permissions", [0o666, 0o700, 0])
@in_a_process
def test_permissions_are_those_asked_for_less_the_umask(permissions: int, umask: int) -> None:
    name = f"/psm-test-umask-{os.getpid()}"
    os.umask(umask)
    for if_exists in NEW:
        for size in (None, SIZE):
            with posix_shm.open_shm(
                name,
                direction="io",
                if_exists=if_exists,
                if_does_not_exist="create",
                permissions=permissions,
                size=size,
            ) as shm:
                assert mode_of(name) == permissions & ~umask
                shm.delete()
    with posix_shm.open_anonymous_shm(permissions=permissions, size=SIZE) as shm:
        assert stat.S_IMODE(shm.stat().st_mode) == permissions & ~umask
    with posix_shm.open_anonymous_shm(permissions=permissions, sealable=True) as shm:
        assert stat.S_IMODE(shm.stat().st_mode) == permissions & ~umask


def test_an_existing_object_keeps_its_permissions(name: str) -> None:
    path_of(name).write_bytes(CONTENT)
    path_of(name).chmod(0o640)
    for if_exists in ("overwrite", "truncate"):
        posix_shm.open_shm(
            name,
            direction="io",
            if_exists=if_exists,
            if_does_not_exist="create",
            permissions=0o777,
            size=SIZE,
        ).close()
        assert mode_of(name) == 0o640


def _be_nobody() -> None:
    """Gives up root's privileges, which would make permissions meaningless."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


@pytest.mark.parametrize("permissions", [0, 0o200, 0o044])
@in_a_process
def test_who_makes_an_object_may_use_it_whatever_its_permissions_are(permissions: int) -> None:
    _be_nobody()
    for if_exists in NEW:
        _make_and_use(if_exists, "input", permissions)
        _make_and_use(if_exists, "io", permissions)


def _make_and_use(
    if_exists: IfExists, direction: Literal["input", "io"], permissions: int
) -> None:
    name = f"/psm-test-nobody-{os.getpid()}"
    with posix_shm.open_shm(
        name,
        direction=direction,
        if_exists=if_exists,
        if_does_not_exist="create",
        permissions=permissions,
        size=SIZE,
    ) as shm:
        try:
            assert (shm.direction, shm.size) == (direction, SIZE)
            assert mode_of(name) == permissions
            with shm.mmap() as mapping:
                assert mapping[:] == bytes(SIZE)
            with pytest.raises(ShmPermissionError):
                posix_shm.open_shm(name)
        finally:
            shm.delete()


@pytest.mark.parametrize("if_exists", NEW)
def test_a_new_object_opened_for_input_has_its_size_and_memory_and_is_read_only(
    if_exists: IfExists, name: str
) -> None:
    with posix_shm.open_shm(
        name, if_exists=if_exists, if_does_not_exist="create", size=SIZE
    ) as shm:
        assert shm.direction == "input"
        assert shm.size == SIZE
        assert shm.stat().st_blocks * 512 == 4 * PAGE
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.write(shm.fd, b"x")
        with pytest.raises(MmapError, match=os.strerror(errno.EACCES)):
            shm.mmap(protections="write")
    with posix_shm.open_shm(name) as again:
        assert again.size == SIZE


# ---- superseding ------------------------------------------------------------------------------


@contextmanager
def _old_object(name: str) -> Iterator[posix_shm.Mapping]:
    """A mapping of an object, to look at after another one got its name."""
    path_of(name).write_bytes(CONTENT)
    with posix_shm.open_shm(name) as shm, shm.mmap() as mapping:
        yield mapping


@pytest.mark.parametrize("size", [None, 0, SIZE])
def test_who_holds_the_old_object_keeps_it(size: int | None, name: str) -> None:
    with _old_object(name) as old:
        with posix_shm.open_shm(
            name, direction="io", if_exists="supersede", if_does_not_exist="create", size=size
        ) as shm:
            assert shm.size == (size or 0)
            shm.truncate(SIZE)
            with shm.mmap() as mapping:
                mapping[:] = b"\xff" * SIZE
        assert old[:] == CONTENT
    assert path_of(name).read_bytes() == b"\xff" * SIZE


def test_superseding_makes_an_object_where_there_is_none(name: str) -> None:
    with posix_shm.open_shm(name, direction="io", if_exists="supersede", size=SIZE) as shm:
        assert exists(name)
        assert shm.size == SIZE


def test_superseding_that_cannot_be_mapped_keeps_the_old_object(name: str) -> None:
    with _old_object(name) as old:
        context = posix_shm.open_shm_and_mmap(
            name,
            PAGE,
            direction="io",
            if_exists="supersede",
            flags=["shared", "fixed"],
            addr=old.address,
        )
        with pytest.raises(MmapError, match=os.strerror(errno.EEXIST)):
            context.__enter__()
    assert path_of(name).read_bytes() == CONTENT


@in_a_dev_shm(MIB)
def test_superseding_what_is_no_object_is_an_error_and_leaves_nothing() -> None:
    path_of(NAME).mkdir()
    with pytest.raises(ShmError, match=os.strerror(errno.EISDIR)):
        posix_shm.open_shm(NAME, direction="io", if_exists="supersede", size=SIZE)
    assert os.listdir("/dev/shm") == [NAME[1:]]
    path_of(NAME).rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="an object of another user needs root")
@in_a_dev_shm(MIB)
def test_superseding_another_users_object_is_an_error_and_leaves_it() -> None:
    path_of(NAME).write_bytes(CONTENT)
    path_of(NAME).chmod(0o666)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _be_nobody()
            with pytest.raises(ShmPermissionError):
                posix_shm.open_shm(NAME, direction="io", if_exists="supersede", size=SIZE)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.listdir("/dev/shm") == [NAME[1:]]
    assert path_of(NAME).read_bytes() == CONTENT
    path_of(NAME).unlink()


# ---- where the system has no such step --------------------------------------------------------


@pytest.mark.parametrize("direction", ["input", "io"])
@pytest.mark.parametrize("if_exists", NEW)
@in_a_dev_shm(MIB)
def test_without_proc_an_object_is_made_in_several_steps(
    if_exists: IfExists, direction: Literal["input", "io"]
) -> None:
    hide_proc()
    for _ in range(2):
        with posix_shm.open_shm(
            NAME,
            direction=direction,
            if_exists=if_exists,
            if_does_not_exist="create",
            size=SIZE,
        ) as shm:
            assert (shm.direction, shm.size) == (direction, SIZE)
        if if_exists == "error":
            posix_shm.delete_shm(NAME)
    with closing(
        posix_shm.open_shm(NAME, if_exists="supersede", if_does_not_exist="create")
    ) as shm:
        assert os.listdir("/dev/shm") == [NAME[1:]]
        shm.delete()


@in_a_dev_shm(MIB)
def test_without_proc_what_fails_leaves_nothing_either() -> None:
    hide_proc()
    for if_exists in NEW:
        with pytest.raises(ShmError) as caught:
            posix_shm.open_shm(
                NAME,
                direction="io",
                if_exists=if_exists,
                if_does_not_exist="create",
                size=2 * MIB,
            )
        assert caught.value.errno == errno.ENOSPC
        assert not os.listdir("/dev/shm")


@in_a_dev_shm(MIB)
def test_without_proc_an_object_without_a_name_can_still_be_made() -> None:
    hide_proc()
    for direction in ("input", "io"):
        with posix_shm.open_anonymous_shm(direction=direction, size=SIZE) as shm:
            assert (shm.direction, shm.size) == (direction, SIZE)
        assert not os.listdir("/dev/shm")


def test_names_of_many_kinds_can_be_superseded(names: NameFactory) -> None:
    for suffix in ("", " with spaces", "é", "%s%n"):
        name = names() + suffix
        for _ in range(2):
            with posix_shm.open_shm(name, direction="io", if_exists="supersede", size=1) as shm:
                assert exists(name)
        shm.delete()
