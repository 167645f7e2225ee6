"""The exceptions: class, errno, name, notes; what they survive; audit events; signals."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import posix_shm
import pytest
from posix_shm import (
    MmapError,
    ShmDoesNotExistError,
    ShmError,
    ShmExistsError,
    ShmPermissionError,
)

from .support import PAGE, exists, path_of, run_python

TOO_MUCH = 1 << 60
ERRORS = [ShmError, ShmExistsError, ShmDoesNotExistError, ShmPermissionError, MmapError]
every_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)


@pytest.fixture
def shm(name: str) -> Iterator[posix_shm.SharedMemoryObject]:
    """A named object of a page, open for io."""
    with posix_shm.open_shm(name, direction="io", if_exists="error", size=PAGE) as shm:
        yield shm


def notes(caught: pytest.ExceptionInfo[OSError]) -> str:
    """All notes of an exception."""
    return "\n".join(getattr(caught.value, "__notes__", []))


# ---- the classes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (ShmError, (OSError,)),
        (ShmExistsError, (ShmError, FileExistsError)),
        (ShmDoesNotExistError, (ShmError, FileNotFoundError)),
        (ShmPermissionError, (ShmError, PermissionError)),
        (MmapError, (OSError,)),
    ],
    ids=[error.__name__ for error in ERRORS],
)
def test_an_error_is_derived_from_these(
    error: type[OSError], bases: tuple[type[OSError], ...]
) -> None:
    assert error.__bases__ == bases
    assert error.__module__ == "posix_shm"


@every_error
def test_an_error_has_what_an_os_error_has(error: type[OSError]) -> None:
    made = error(errno.EBUSY, "busy", "/name")
    assert (made.errno, made.strerror, made.filename) == (errno.EBUSY, "busy", "/name")
    assert str(made) == f"[Errno {errno.EBUSY}] busy: '/name'"
    assert type(made) is error


@every_error
def test_an_error_can_be_made_without_arguments(error: type[OSError]) -> None:
    assert error().errno is None


@pytest.mark.parametrize("error", ERRORS[:-1], ids=lambda error: error.__name__)
def test_the_name_of_a_shm_error_is_its_filename(error: type[ShmError]) -> None:
    assert error(errno.EBUSY, "busy", "/name").name == "/name"
    assert error(errno.EBUSY, "busy").name is None


@every_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_can_be_pickled(error: type[OSError], protocol: int) -> None:
    made = error(errno.EBUSY, "busy", "/name")
    made.add_note("a note")
    for again in (pickle.loads(pickle.dumps(made, protocol)), copy.copy(made)):
        assert type(again) is error
        assert (again.errno, again.strerror, again.filename) == (errno.EBUSY, "busy", "/name")
        assert again.__notes__ == ["a note"]


def test_an_error_that_was_raised_can_be_pickled(name: str) -> None:
    with pytest.raises(ShmDoesNotExistError) as caught:
        posix_shm.delete_shm(name)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is ShmDoesNotExistError
    assert (again.errno, again.name) == (errno.ENOENT, name)
    assert str(again) == str(caught.value)


# ---- the class is chosen by errno -------------------------------------------------------------


def check(caught: pytest.ExceptionInfo[ShmError], error: int, name: str | None) -> None:
    """The errno, its text, and the name in both places."""
    assert caught.value.errno == error
    assert caught.value.strerror == os.strerror(error)
    assert caught.value.filename == name
    assert caught.value.name == name


def test_eexist_is_a_shm_exists_error(shm: posix_shm.SharedMemoryObject, name: str) -> None:
    with pytest.raises(ShmExistsError) as caught:
        posix_shm.open_shm(name[1:], direction="io", if_exists="error")
    check(caught, errno.EEXIST, name)


def test_enoent_is_a_shm_does_not_exist_error(name: str) -> None:
    with pytest.raises(ShmDoesNotExistError) as caught:
        posix_shm.open_shm(name[1:])
    check(caught, errno.ENOENT, name)


def test_eperm_is_a_shm_permission_error(shm: posix_shm.SharedMemoryObject, name: str) -> None:
    with pytest.raises(ShmPermissionError) as caught:
        shm.seal("grow")
    check(caught, errno.EPERM, name)


def test_any_other_errno_is_a_shm_error(shm: posix_shm.SharedMemoryObject, name: str) -> None:
    with pytest.raises(ShmError) as caught:
        shm.truncate(-1)
    assert type(caught.value) is ShmError
    check(caught, errno.EINVAL, name)


def test_an_error_of_an_object_without_a_name_has_none() -> None:
    with posix_shm.open_anonymous_shm() as shm:
        with pytest.raises(ShmError) as caught:
            shm.truncate(-1)
        check(caught, errno.EINVAL, None)


AS_NOBODY = """
import os, sys, posix_shm
if os.geteuid() == 0:
    os.seteuid(65534)
calls = {
    "open-input": lambda name: posix_shm.open_shm(name),
    "open-io": lambda name: posix_shm.open_shm(name, direction="io"),
    "truncate": lambda name: posix_shm.open_shm(name, if_exists="truncate"),
    "truncate-size": lambda name: posix_shm.open_shm(name, if_exists="truncate", size=1),
    "supersede": lambda name: posix_shm.open_shm(name, direction="io", if_exists="supersede"),
    "delete": posix_shm.delete_shm,
}
try:
    calls[sys.argv[2]](sys.argv[1])
except posix_shm.ShmPermissionError as error:
    print(error.errno, error.name)
"""


@pytest.mark.parametrize("call", ["open-input", "open-io", "truncate", "truncate-size"])
def test_eacces_is_a_shm_permission_error(name: str, call: str) -> None:
    path_of(name).write_bytes(b"content")
    path_of(name).chmod(0)
    done = run_python(AS_NOBODY, name, call)
    assert done.stdout == f"{errno.EACCES} {name}\n"
    path_of(name).chmod(0o600)
    assert path_of(name).read_bytes() == b"content"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
@pytest.mark.parametrize("call", ["delete", "supersede"])
def test_another_users_name_cannot_be_taken_away(name: str, call: str) -> None:
    path_of(name).write_bytes(b"content")
    path_of(name).chmod(0o666)
    done = run_python(AS_NOBODY, name, call)
    number, named = done.stdout.split()
    assert int(number) in (errno.EACCES, errno.EPERM)
    assert named == name
    assert path_of(name).read_bytes() == b"content"


# ---- mmap errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"length": 0}, errno.EINVAL),
        ({"offset": PAGE}, errno.EINVAL),
        ({"length": PAGE + 1}, errno.ENXIO),
        ({"offset": PAGE + 1}, errno.ENXIO),
    ],
    ids=str,
)
def test_an_error_of_mmap_is_a_mmap_error_of_the_object(
    shm: posix_shm.SharedMemoryObject, arguments: dict[str, Any], error: int
) -> None:
    with pytest.raises(MmapError) as caught:
        shm.mmap(**arguments)
    assert not isinstance(caught.value, ShmError)
    assert (caught.value.errno, caught.value.filename) == (error, shm.name)


# ---- notes ------------------------------------------------------------------------------------


def free_bytes() -> int:
    """What is free in the file system of shared memory."""
    status = os.statvfs("/dev/shm")
    return status.f_bavail * status.f_frsize


NO_ROOM: dict[str, Callable[[posix_shm.SharedMemoryObject], object]] = {
    "open_shm": lambda shm: posix_shm.open_shm(
        f"{shm.name}x", if_does_not_exist="create", size=TOO_MUCH
    ),
    "open_anonymous_shm": lambda shm: posix_shm.open_anonymous_shm(size=TOO_MUCH),
    "reserve": lambda shm: shm.reserve(TOO_MUCH),
    "open_shm_and_mmap": lambda shm: posix_shm.open_shm_and_mmap(
        f"{shm.name}x", TOO_MUCH, direction="io", if_does_not_exist="create"
    ).__enter__(),
}


@pytest.mark.parametrize("ask", NO_ROOM.values(), ids=NO_ROOM.keys())
def test_a_note_says_how_much_room_there_is_and_who_sets_it(
    shm: posix_shm.SharedMemoryObject, ask: Callable[[posix_shm.SharedMemoryObject], object]
) -> None:
    with pytest.raises(ShmError) as caught:
        ask(shm)
    assert caught.value.errno == errno.ENOSPC
    assert "container" in notes(caught)
    said = int(re.search(r"(\d+) bytes", notes(caught))[1])  # type: ignore[index]
    if free_bytes() > 0:  # other tests use some of it at the same time
        assert abs(said - free_bytes()) < free_bytes() / 2
    assert not exists(f"{shm.name}x")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param(lambda shm: shm.truncate(1), ShmError, id="truncate"),
        pytest.param(lambda shm: shm.reserve(1), ShmError, id="reserve"),
        pytest.param(lambda shm: shm.mmap(protections="write"), MmapError, id="mmap"),
        pytest.param(lambda shm: shm.mmap().protect("write"), MmapError, id="protect"),
    ],
)
def test_a_note_says_that_the_object_is_open_for_input(
    shm: posix_shm.SharedMemoryObject,
    change: Callable[[posix_shm.SharedMemoryObject], object],
    error: type[OSError],
) -> None:
    with posix_shm.open_shm(str(shm.name)) as reader:
        with pytest.raises(error) as caught:
            change(reader)
        assert "input" in notes(caught)
        assert "io" in notes(caught)


def test_a_note_says_that_the_object_is_empty() -> None:
    with posix_shm.open_anonymous_shm(direction="io") as shm:
        with pytest.raises(MmapError) as caught:
            shm.mmap()
        assert caught.value.errno == errno.EINVAL
        assert "empty" in notes(caught)
        with pytest.raises(BufferError, match="empty"):
            memoryview(shm)


def test_a_note_says_what_a_name_is() -> None:
    with pytest.raises(ShmError) as caught:
        posix_shm.open_shm("/a/b")
    assert "slash" in notes(caught)
    with pytest.raises(ShmError) as caught:
        posix_shm.open_shm("x" * 300)
    assert "255" in notes(caught)


def test_an_error_that_needs_no_note_has_none(name: str) -> None:
    with pytest.raises(ShmDoesNotExistError) as caught:
        posix_shm.delete_shm(name)
    assert notes(caught) == ""


def test_a_note_says_how_a_missing_object_is_made_where_nothing_was_said_of_it(name: str) -> None:
    with pytest.raises(ShmDoesNotExistError) as caught:
        posix_shm.open_shm(name, direction="io", size=4096)
    assert 'if_does_not_exist="create"' in notes(caught)
    with pytest.raises(ShmDoesNotExistError) as caught:
        posix_shm.open_shm(name, direction="io", if_does_not_exist="error")
    assert notes(caught) == ""


# ---- audit events -----------------------------------------------------------------------------

AUDITED = """
import json, os, sys
events = []
def hook(event, arguments):
    if event.startswith("posix_shm."):
        events.append([event, *arguments])
sys.addaudithook(hook)
import posix_shm
from posix_shm import ffi

def said():
    print(json.dumps(events))
    events.clear()

name = sys.argv[1]
shm = posix_shm.open_shm(name[1:], direction="io", if_exists="error", permissions=0o640)
said()
with posix_shm.open_shm(name, direction="io", if_exists="supersede", size=4096): said()
with posix_shm.open_anonymous_shm(): said()
with posix_shm.open_anonymous_shm(sealable=True): said()
shm.truncate(4096)
shm.mmap(100, protections="read", offset=5).close()
said()
memoryview(shm).release()
said()
posix_shm.delete_shm(name[1:])
said()
fd = ffi.shm_open(name, "rdwr creat".split(), 0o600)
said()
ffi.ftruncate(fd, 4096)
ffi.munmap(ffi.mmap(0, 4096, "read", "shared", fd, 0), 4096)
said()
ffi.shm_unlink(name)
said()
os.close(fd)
shm.close()
"""


def check_what_was_audited(printed: str, name: str) -> None:
    said: list[list[list[Any]]] = [json.loads(line) for line in printed.splitlines()]
    opened, superseded, anonymous, memfd, mapped, viewed, deleted = said[:7]
    assert opened == [["posix_shm.open", name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640]]
    assert [event[:2] for event in superseded] == [["posix_shm.open", name]]
    assert {event[0] for event in anonymous} == {"posix_shm.open"}
    assert [event[:2] for event in memfd] == [["posix_shm.open", None]]
    assert [event[0] for event in mapped] == ["posix_shm.mmap"]
    assert mapped[0][1] == name
    assert [event[:2] for event in viewed] == [["posix_shm.mmap", name]]
    assert deleted == [["posix_shm.unlink", name]]
    ffi_opened, ffi_mapped, ffi_unlinked = said[7:]
    assert ffi_opened == [["posix_shm.open", name, os.O_RDWR | os.O_CREAT, 0o600]]
    assert [event[0] for event in ffi_mapped] == ["posix_shm.mmap"]
    assert ffi_unlinked == [["posix_shm.unlink", name]]


def test_what_is_opened_mapped_and_unlinked_is_audited(name: str) -> None:
    check_what_was_audited(run_python(AUDITED, name).stdout, name)


# Without it, as in a program that Python is linked into without its symbols.
WITHOUT_PY_SYS_AUDIT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

void *dlsym(void *handle, const char *name)
{
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5"};
    void *(*real)(void *, const char *) = NULL;
    if (strcmp(name, "PySys_Audit") == 0) {
        return NULL;
    }
    for (int i = 0; real == NULL && i < 3; i++) {
        real = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    }
    return real(handle, name);
}
"""


@pytest.mark.not_under_sanitizers("AddressSanitizer has its own dlsym")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_same_is_audited_where_the_call_for_it_can_not_be_found(
    name: str, tmp_path: Path
) -> None:
    source, library = tmp_path / "without.c", tmp_path / "without.so"
    source.write_text(WITHOUT_PY_SYS_AUDIT)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    preloaded = f"{os.environ.get('LD_PRELOAD', '')} {library}".strip()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AUDITED, name],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_PRELOAD": preloaded},
    )
    check_what_was_audited(done.stdout, name)


FORBIDDEN = """
import os, sys
forbidden = set()
def hook(event, arguments):
    if event in forbidden:
        raise RuntimeError(event)
sys.addaudithook(hook)
import posix_shm
from posix_shm import ffi
name, other = sys.argv[1:]
shm = posix_shm.open_shm(name, direction="io", if_exists="error", size=4096)
forbidden |= {"posix_shm.open", "posix_shm.mmap", "posix_shm.unlink"}
for call in (
    lambda: posix_shm.open_shm(other, if_does_not_exist="create"),
    lambda: posix_shm.open_shm(other, if_does_not_exist="create", size=1),
    lambda: posix_shm.open_shm(name, if_exists="truncate"),
    lambda: posix_shm.open_shm(name, direction="io", if_exists="supersede"),
    lambda: posix_shm.open_shm_and_mmap(other, 1, direction="io", if_does_not_exist="create")
        .__enter__(),
    lambda: posix_shm.open_anonymous_shm(),
    lambda: posix_shm.open_anonymous_shm(sealable=True),
    lambda: ffi.shm_open(other, os.O_CREAT, 0o600),
    lambda: posix_shm.delete_shm(name),
    lambda: ffi.shm_unlink(name),
    lambda: shm.mmap(),
    lambda: memoryview(shm),
    lambda: ffi.mmap(0, 4096, "read", "shared", shm.fd, 0),
):
    try:
        call()
    except RuntimeError as error:
        print(error)
print(shm.size, shm.stat().st_nlink)
shm.close()
"""


def test_what_an_audit_hook_forbids_does_not_happen(names: Callable[[], str]) -> None:
    name, other = names(), names()
    done = run_python(FORBIDDEN, name, other)
    events = done.stdout.split()
    assert events[:-2] == (
        8 * ["posix_shm.open"] + 2 * ["posix_shm.unlink"] + 3 * ["posix_shm.mmap"]
    )
    assert events[-2:] == ["4096", "1"]
    assert exists(name)
    assert not exists(other)
