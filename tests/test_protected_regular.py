"""Another user's object in the sticky /dev/shm, which fs.protected_regular refuses to O_CREAT."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import posix_shm
import pytest

from .elsewhere import setting
from .support import path_of

SETTING = Path("/proc/sys/fs/protected_regular")
CONTENT = b"another user's bytes"
ANOTHER_USER = 12345


@pytest.fixture(params=["1", "2"])
def protected(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernel protects; most distributions have it so, and no other test minds."""
    if os.geteuid() != 0:
        pytest.skip("the setting and another user's object need root")
    with setting(SETTING, request.param):
        yield


@pytest.fixture
def others(name: str) -> str:
    """The name of another user's object that everybody may read and write."""
    path = path_of(name)
    path.write_bytes(CONTENT)
    path.chmod(0o666)
    os.chown(path, ANOTHER_USER, ANOTHER_USER)
    return name


@pytest.mark.usefixtures("protected")
def test_the_kernel_does_refuse(others: str) -> None:
    with pytest.raises(PermissionError):
        os.open(path_of(others), os.O_RDWR | os.O_CREAT)


@pytest.mark.usefixtures("protected")
@pytest.mark.parametrize("size", [None, 4096])
@pytest.mark.parametrize("direction", ["input", "io"])
def test_opening_or_creating_opens_another_users_object(
    direction: Literal["input", "io"], size: int | None, others: str
) -> None:
    with (
        posix_shm.open_shm(
            others, direction=direction, if_does_not_exist="create", size=size
        ) as shm,
        shm.mmap() as mapping,
    ):
        assert mapping[:] == CONTENT
        if direction == "io":
            mapping[:1] = b"A"
    assert path_of(others).stat().st_uid == ANOTHER_USER


@pytest.mark.usefixtures("protected")
@pytest.mark.parametrize("size", [None, 4096])
def test_truncating_or_creating_truncates_another_users_object(
    size: int | None, others: str
) -> None:
    with closing(
        posix_shm.open_shm(
            others, direction="io", if_exists="truncate", if_does_not_exist="create", size=size
        )
    ) as shm:
        assert shm.size == (size or 0)
    assert path_of(others).read_bytes() == bytes(size or 0)
    assert path_of(others).stat().st_uid == ANOTHER_USER


@pytest.mark.usefixtures("protected")
def test_the_combined_with_block_opens_another_users_object(others: str) -> None:
    with posix_shm.open_shm_and_mmap(
        others, len(CONTENT), direction="io", if_does_not_exist="create"
    ) as (_, mapping):
        assert mapping[:] == CONTENT


@pytest.mark.usefixtures("protected")
def test_an_object_that_may_not_exist_is_still_an_error(others: str) -> None:
    with pytest.raises(posix_shm.ShmExistsError):
        posix_shm.open_shm(others, direction="io", if_exists="error")
    assert (
        posix_shm.open_shm(others, direction="io", if_exists=None, if_does_not_exist="create")
        is None
    )


@pytest.mark.usefixtures("protected")
def test_a_missing_object_is_still_created(name: str) -> None:
    with posix_shm.open_shm(name, direction="io", if_does_not_exist="create") as shm:
        assert shm.stat().st_uid == os.geteuid()


@pytest.mark.usefixtures("protected")
def test_what_permissions_forbid_is_still_forbidden(others: str) -> None:
    path_of(others).chmod(0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setuid(ANOTHER_USER + 1)
            with pytest.raises(posix_shm.ShmPermissionError) as caught:
                posix_shm.open_shm(others, direction="io", if_does_not_exist="create")
            code = 0 if caught.value.errno == errno.EACCES else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert path_of(others).read_bytes() == CONTENT
