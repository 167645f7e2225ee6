"""``open_shm`` and ``delete_shm``: names, the table of options, sizes, permissions."""

from __future__ import annotations

import ctypes
import enum
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import posix_shm
import pytest

from .support import exists, mode_of, path_of

CONTENT = b"what was there before"
SIZE = 5000
TOO_MUCH = 1 << 60  # bytes; no machine has room for them


def test_truncating_the_longest_object_there_is_leaves_none_of_its_bytes(name: str) -> None:
    path_of(name).write_bytes(CONTENT)
    os.truncate(path_of(name), (1 << 63) - 1)
    with posix_shm.open_shm(name, direction="io", if_exists="truncate", size=len(CONTENT)):
        assert path_of(name).read_bytes() == bytes(len(CONTENT))


def test_truncating_leaves_none_of_the_bytes_behind_the_old_end(name: str) -> None:
    path_of(name).write_bytes(CONTENT)
    with posix_shm.open_shm(name, direction="io") as shm, shm.mmap() as mapping:
        shm.truncate(2)
        ctypes.memmove(
            mapping.address + 2, CONTENT[2:], len(CONTENT) - 2
        )  # behind the end, in the last page
        with posix_shm.open_shm(name, direction="io", if_exists="truncate", size=len(CONTENT)):
            assert path_of(name).read_bytes() == bytes(len(CONTENT))


@pytest.fixture
def existing(name: str) -> str:
    """The name of an object that exists."""
    path_of(name).write_bytes(CONTENT)
    return name


@pytest.fixture(params=[0o022, 0o077, 0], ids="umask-{:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A umask of this process, for one test."""
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    os.umask(before)


# ---- every option, with the object there and without it ---------------------------------------


class Outcome(enum.Enum):
    """What a call does."""

    OPENS = enum.auto()
    EMPTIES = enum.auto()
    SUPERSEDES = enum.auto()
    CREATES = enum.auto()
    RAISES_EXISTS = enum.auto()
    RAISES_MISSING = enum.auto()
    RETURNS_NONE = enum.auto()


# if_exists, if_does_not_exist, what happens if the object exists, what if it does not
TABLE: list[tuple[str | None, str | None, Outcome, Outcome]] = [
    ("error", "error", Outcome.OPENS, Outcome.RAISES_MISSING),
    ("error", "create", Outcome.RAISES_EXISTS, Outcome.CREATES),
    ("error", None, Outcome.OPENS, Outcome.RETURNS_NONE),
    ("overwrite", "error", Outcome.OPENS, Outcome.RAISES_MISSING),
    ("overwrite", "create", Outcome.OPENS, Outcome.CREATES),
    ("overwrite", None, Outcome.OPENS, Outcome.RETURNS_NONE),
    ("truncate", "error", Outcome.EMPTIES, Outcome.RAISES_MISSING),
    ("truncate", "create", Outcome.EMPTIES, Outcome.CREATES),
    ("truncate", None, Outcome.EMPTIES, Outcome.RETURNS_NONE),
    ("supersede", "error", Outcome.OPENS, Outcome.RAISES_MISSING),
    ("supersede", "create", Outcome.SUPERSEDES, Outcome.CREATES),
    ("supersede", None, Outcome.OPENS, Outcome.RETURNS_NONE),
    (None, "error", Outcome.OPENS, Outcome.RAISES_MISSING),
    (None, "create", Outcome.RETURNS_NONE, Outcome.CREATES),
    (None, None, Outcome.OPENS, Outcome.RETURNS_NONE),
]

# direction, if_exists, the default of if_does_not_exist
DEFAULTS: list[tuple[str, str | None, str]] = [
    ("input", "error", "error"),
    ("input", "overwrite", "error"),
    ("input", "truncate", "error"),
    ("input", "supersede", "error"),
    ("input", None, "error"),
    ("io", "error", "create"),
    ("io", "overwrite", "error"),
    ("io", "truncate", "error"),
    ("io", "supersede", "create"),
    ("io", None, "create"),
]

directions = pytest.mark.parametrize("direction", ["input", "io"])
sizes = pytest.mark.parametrize("size", [None, SIZE], ids=["no-size", "size"])


def check_open(shm: posix_shm.SharedMemoryObject | None, name: str, direction: str) -> None:
    """What is true of every object that was opened by name."""
    assert isinstance(shm, posix_shm.SharedMemoryObject)
    assert shm.name == name
    assert shm.direction == direction
    access = fcntl.fcntl(shm.fd, fcntl.F_GETFL) & os.O_ACCMODE
    assert access == {"input": os.O_RDONLY, "io": os.O_RDWR}[direction]
    assert not os.get_inheritable(shm.fd)


def check_new(shm: posix_shm.SharedMemoryObject, size: int | None) -> None:
    """What is true of every object that has just been made or emptied."""
    assert shm.size == (size or 0)
    assert shm.stat().st_blocks * 512 >= (size or 0), "its memory is not reserved"
    assert path_of(str(shm.name)).read_bytes() == bytes(size or 0)


@sizes
@directions
@pytest.mark.parametrize(
    ("if_exists", "if_does_not_exist", "outcome"),
    [(row[0], row[1], row[2]) for row in TABLE],
    ids=[f"{row[0]}-{row[1]}-{row[2].name}" for row in TABLE],
)
def test_open_of_an_object_that_exists(
    existing: str,
    direction: str,
    if_exists: str | None,
    if_does_not_exist: str | None,
    size: int | None,
    outcome: Outcome,
) -> None:
    options: dict[str, Any] = {
        "direction": direction,
        "if_exists": if_exists,
        "if_does_not_exist": if_does_not_exist,
        "size": size,
    }
    with path_of(existing).open("rb") as old_holder:
        old = os.fstat(old_holder.fileno())
        if outcome is Outcome.RAISES_EXISTS:
            with pytest.raises(posix_shm.ShmExistsError) as caught:
                posix_shm.open_shm(existing, **options)
            assert (caught.value.errno, caught.value.name) == (errno.EEXIST, existing)
        elif outcome is Outcome.RETURNS_NONE:
            assert posix_shm.open_shm(existing, **options) is None
        else:
            with posix_shm.open_shm(existing, **options) as shm:
                check_open(shm, existing, direction)
                same = shm.stat().st_ino == old.st_ino
                assert same == (outcome is not Outcome.SUPERSEDES)
                if outcome is not Outcome.OPENS:
                    check_new(shm, size)
        emptied = outcome is Outcome.EMPTIES
        assert old_holder.read() == (bytes(size or 0) if emptied else CONTENT)
        still_named = path_of(existing).stat().st_ino == old.st_ino
        assert still_named == (outcome is not Outcome.SUPERSEDES)


@sizes
@directions
@pytest.mark.parametrize(
    ("if_exists", "if_does_not_exist", "outcome"),
    [(row[0], row[1], row[3]) for row in TABLE],
    ids=[f"{row[0]}-{row[1]}-{row[3].name}" for row in TABLE],
)
def test_open_of_an_object_that_does_not_exist(
    name: str,
    direction: str,
    if_exists: str | None,
    if_does_not_exist: str | None,
    size: int | None,
    outcome: Outcome,
) -> None:
    options: dict[str, Any] = {
        "direction": direction,
        "if_exists": if_exists,
        "if_does_not_exist": if_does_not_exist,
        "size": size,
    }
    if outcome is Outcome.CREATES:
        with posix_shm.open_shm(name, **options) as shm:
            check_open(shm, name, direction)
            check_new(shm, size)
    elif outcome is Outcome.RETURNS_NONE:
        assert posix_shm.open_shm(name, **options) is None
    else:
        with pytest.raises(posix_shm.ShmDoesNotExistError) as caught:
            posix_shm.open_shm(name, **options)
        assert (caught.value.errno, caught.value.name) == (errno.ENOENT, name)
    assert exists(name) == (outcome is Outcome.CREATES)


@pytest.mark.parametrize(("direction", "if_exists", "default"), DEFAULTS)
def test_the_default_of_if_does_not_exist(
    name: str, direction: Any, if_exists: Any, default: str
) -> None:
    if default == "create":
        with posix_shm.open_shm(name, direction=direction, if_exists=if_exists) as shm:
            check_open(shm, name, direction)
    else:
        with pytest.raises(posix_shm.ShmDoesNotExistError):
            posix_shm.open_shm(name, direction=direction, if_exists=if_exists)
    assert exists(name) == (default == "create")


def test_the_defaults_open_for_input_what_exists_as_it_is(existing: str) -> None:
    with posix_shm.open_shm(existing) as shm:
        check_open(shm, existing, "input")
        assert bytes(memoryview(shm)) == CONTENT


def test_the_default_of_if_exists_is_overwrite(existing: str) -> None:
    with posix_shm.open_shm(existing, direction="io", if_does_not_exist="create", size=SIZE):
        assert path_of(existing).read_bytes() == CONTENT


def test_options_are_keywords_only(existing: str) -> None:
    open_shm: Callable[..., object] = posix_shm.open_shm
    with pytest.raises(TypeError):
        open_shm(existing, "io")


@pytest.mark.parametrize(
    ("option", "right"),
    [
        ("direction", ["'input'", "'io'"]),
        ("if_exists", ["'error'", "'overwrite'", "'truncate'", "'supersede'", "None"]),
        ("if_does_not_exist", ["'error'", "'create'", "None"]),
    ],
)
def test_a_wrong_word_is_a_value_error_that_lists_the_right_ones(
    existing: str, option: str, right: list[str]
) -> None:
    options: dict[str, Any] = {"if_exists": "truncate", option: "bogus"}
    with pytest.raises(ValueError, match="'bogus'") as caught:
        posix_shm.open_shm(existing, **options)
    assert option in str(caught.value)
    for word in right:
        assert word in str(caught.value)
    assert path_of(existing).read_bytes() == CONTENT


@pytest.mark.parametrize("option", ["direction", "if_exists", "if_does_not_exist"])
@pytest.mark.parametrize("value", [0, 1.5, b"io", ["io"]], ids=repr)
def test_what_is_no_word_is_a_type_error(existing: str, option: str, value: object) -> None:
    options: dict[str, Any] = {"if_exists": "truncate", option: value}
    with pytest.raises(TypeError):
        posix_shm.open_shm(existing, **options)
    assert path_of(existing).read_bytes() == CONTENT


# ---- names ------------------------------------------------------------------------------------


class PathLike:
    """Has ``__fspath__`` and nothing else."""

    def __init__(self, path: str | bytes) -> None:
        self._path = path

    def __fspath__(self) -> Any:
        return self._path


class Text(str):
    """A ``str`` that is not exactly one."""

    __slots__ = ()


SPELLINGS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "str-subclass": Text,
    "bytes": os.fsencode,
    "path": Path,
    "path-like-str": PathLike,
    "path-like-bytes": lambda name: PathLike(os.fsencode(name)),
}

# What each function that takes a name does with it.
DOORS: dict[str, Callable[[Any], object]] = {
    "open_shm": lambda name: posix_shm.open_shm(name, if_does_not_exist="create"),
    "open_shm-size": lambda name: posix_shm.open_shm(name, if_does_not_exist="create", size=1),
    "open_shm-supersede": lambda name: posix_shm.open_shm(
        name, if_exists="supersede", if_does_not_exist="create"
    ),
    "opened_shm": lambda name: posix_shm.opened_shm(name, if_does_not_exist="create").__enter__(),
    "open_shm_and_mmap": lambda name: posix_shm.open_shm_and_mmap(
        name, 1, direction="io", if_does_not_exist="create"
    ).__enter__(),
    "delete_shm": posix_shm.delete_shm,
}
doors = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS.keys())


@pytest.mark.parametrize("slash", ["/", ""], ids=["slash", "no-slash"])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_name_in_each_spelling_is_the_same_name(
    name: str, spelling: Callable[[str], Any], slash: str
) -> None:
    spelled = spelling(slash + name[1:])
    with posix_shm.open_shm(spelled, direction="io", if_exists="error") as shm:
        assert shm.name == name
        assert type(shm.name) is str
    assert exists(name)
    posix_shm.delete_shm(spelled)
    assert not exists(name)


@doors
@pytest.mark.parametrize(
    "impossible", ["", "/", ".", "..", "/.", "/..", "//", "//a", "a/", "/a/b", "/a/", "../a"]
)
@pytest.mark.parametrize("spelling", [str, os.fsencode, PathLike], ids=["str", "bytes", "path"])
def test_a_name_that_no_object_can_have_is_invalid(
    door: Callable[[Any], object], impossible: str, spelling: Callable[[str], Any]
) -> None:
    with pytest.raises(posix_shm.ShmError) as caught:
        door(spelling(impossible))
    assert type(caught.value) is posix_shm.ShmError
    assert caught.value.errno == errno.EINVAL
    assert caught.value.name == impossible


@doors
@pytest.mark.parametrize("filler", ["x", "\N{SNOWMAN}"], ids=["ascii", "three-bytes"])
def test_a_name_longer_than_255_bytes_is_too_long(
    name: str, door: Callable[[Any], object], filler: str
) -> None:
    too_long = name
    while len(os.fsencode(too_long)) <= len("/") + 255:
        too_long += filler
    with pytest.raises(posix_shm.ShmError) as caught:
        door(too_long)
    assert type(caught.value) is posix_shm.ShmError
    assert caught.value.errno == errno.ENAMETOOLONG
    assert caught.value.name == too_long


@pytest.mark.parametrize("slash", ["/", ""], ids=["slash", "no-slash"])
@pytest.mark.parametrize(
    "options",
    [{}, {"size": 1}, {"if_exists": "supersede"}],
    ids=["plain", "size", "supersede"],
)
def test_a_name_of_255_bytes_after_the_slash_is_allowed(
    name: str, slash: str, options: dict[str, Any]
) -> None:
    longest = name.ljust(len("/") + 255, "x")
    with posix_shm.open_shm(slash + longest[1:], if_does_not_exist="create", **options) as shm:
        posix_shm.delete_shm(longest)
        assert shm is not None
        assert shm.name == longest


@doors
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_nul_in_a_name_is_a_value_error(
    door: Callable[[Any], object], spelling: Callable[[str], Any]
) -> None:
    with pytest.raises(ValueError, match="null"):
        door(spelling("/a\0b"))


@doors
@pytest.mark.parametrize("wrong", [None, 5, 1.5, bytearray(b"/a"), ["/a"]], ids=repr)
def test_what_is_no_name_is_a_type_error(door: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(TypeError):
        door(wrong)


def test_a_name_may_be_bytes_that_are_no_text(name: str) -> None:
    raw = os.fsencode(name) + b"\xff\xfe"
    with posix_shm.open_shm(raw, direction="io", if_exists="error", size=1) as shm:
        try:
            assert path_of(raw).exists()
            assert shm.name == os.fsdecode(raw)
            with posix_shm.open_shm(os.fsdecode(raw)) as other:
                assert os.path.sameopenfile(shm.fd, other.fd)
        finally:
            posix_shm.delete_shm(raw)
    assert not path_of(raw).exists()


def test_two_objects_of_one_name_are_one_object(name: str) -> None:
    with (
        posix_shm.open_shm(name, direction="io", if_exists="error", size=SIZE) as writer,
        posix_shm.open_shm(name) as reader,
        writer.mmap() as written,
    ):
        assert writer.fd != reader.fd
        written[:3] = b"abc"
        assert bytes(memoryview(reader)[:3]) == b"abc"


# ---- sizes ------------------------------------------------------------------------------------

# Ways to make an object, or to empty one, by name.
MAKING: dict[str, dict[str, Any]] = {
    "create": {"if_exists": "error", "if_does_not_exist": "create"},
    "supersede": {"if_exists": "supersede", "if_does_not_exist": "create"},
    "truncate": {"if_exists": "truncate", "if_does_not_exist": "create"},
}
making = pytest.mark.parametrize("options", MAKING.values(), ids=MAKING.keys())


@making
@directions
def test_a_size_of_zero_makes_an_empty_object(
    name: str, direction: Any, options: dict[str, Any]
) -> None:
    with posix_shm.open_shm(name, direction=direction, size=0, **options) as shm:
        assert shm is not None
        assert shm.size == 0


@making
@pytest.mark.parametrize(
    ("size", "error"),
    [(-1, errno.EINVAL), (-(1 << 62), errno.EINVAL), (TOO_MUCH, errno.ENOSPC)],
)
@pytest.mark.parametrize("there", [True, False], ids=["existing", "missing"])
@directions
def test_a_size_that_cannot_be_leaves_everything_as_it_was(
    name: str, direction: Any, options: dict[str, Any], size: int, error: int, there: bool
) -> None:
    if there:
        path_of(name).write_bytes(CONTENT)
        before = path_of(name).stat().st_ino
    with pytest.raises(posix_shm.ShmError) as caught:
        posix_shm.open_shm(name, direction=direction, size=size, **options)
    if there and options["if_exists"] == "error" and size > 0:
        assert caught.value.errno == errno.EEXIST
    else:
        assert caught.value.errno == error
        assert type(caught.value) is posix_shm.ShmError
    assert caught.value.name == name
    assert exists(name) == there
    if there:
        assert path_of(name).stat().st_ino == before
        assert path_of(name).stat().st_size == len(CONTENT)
        assert path_of(name).read_bytes() == CONTENT


@making
@pytest.mark.parametrize(
    ("size", "error"), [("1", TypeError), (1.0, TypeError), (1 << 64, OverflowError)]
)
def test_a_size_of_a_wrong_kind_leaves_everything_as_it_was(
    existing: str, options: dict[str, Any], size: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        posix_shm.open_shm(existing, size=size, **options)
    assert path_of(existing).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [1, SIZE, 3 * SIZE], ids=["longer", "equal", "shorter"])
@directions
def test_truncating_gives_exactly_the_size_and_zeros(
    name: str, direction: Any, length: int
) -> None:
    path_of(name).write_bytes(b"x" * length)
    with posix_shm.open_shm(name, direction=direction, if_exists="truncate", size=SIZE) as shm:
        check_new(shm, SIZE)


ATTACHES = 3000

CREATE_AND_DELETE = """
import select, sys
from posix_shm import delete_shm, open_shm
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        with open_shm(sys.argv[1], direction="io", if_exists="error", size=int(sys.argv[2])):
            pass
        delete_shm(sys.argv[1])
"""

SUPERSEDE = """
import select, sys
from posix_shm import open_shm
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        with open_shm(sys.argv[1], direction="io", if_exists="supersede", size=int(sys.argv[2])):
            pass
"""


@pytest.fixture
def in_a_loop(name: str) -> Iterator[Callable[[str], None]]:
    """Starts a program that makes objects of the name until the test is over."""
    processes = []

    def start(code: str) -> None:
        command = [sys.executable, "-c", code, name, str(SIZE)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE))

    yield start
    for process in processes:
        process.communicate()
        assert process.returncode == 0


def test_nobody_opens_a_new_object_before_it_has_its_size(
    name: str, in_a_loop: Callable[[str], None]
) -> None:
    in_a_loop(CREATE_AND_DELETE)
    attached = 0
    while attached < ATTACHES:
        with posix_shm.opened_shm(name, if_does_not_exist=None) as shm:
            if shm is not None:
                attached += 1
                assert shm.size == SIZE


def test_nobody_finds_the_name_missing_while_it_is_superseded(
    existing: str, in_a_loop: Callable[[str], None]
) -> None:
    first = path_of(existing).stat().st_ino
    in_a_loop(SUPERSEDE)
    superseded = 0
    while superseded < ATTACHES:
        with posix_shm.open_shm(existing) as shm:
            if shm.stat().st_ino != first:
                superseded += 1
                assert shm.size == SIZE


# ---- permissions ------------------------------------------------------------------------------

NEW: dict[str, dict[str, Any]] = {
    "plain": {},
    "size": {"size": SIZE},
    "supersede": {"if_exists": "supersede"},
    "supersede-size": {"if_exists": "supersede", "size": SIZE},
}
new = pytest.mark.parametrize("options", NEW.values(), ids=NEW.keys())


@new
@directions
@pytest.mark.parametrize("permissions", [0o777, 0o640, 0o200, 0], ids="{:03o}".format)
def test_a_new_object_has_the_permissions_less_the_umask(
    name: str, umask: int, direction: Any, options: dict[str, Any], permissions: int
) -> None:
    with posix_shm.open_shm(
        name,
        direction=direction,
        if_does_not_exist="create",
        permissions=permissions,
        **options,
    ) as shm:
        assert shm is not None
        assert shm.direction == direction
        assert shm.stat().st_mode & 0o7777 == permissions & ~umask
    assert mode_of(name) == permissions & ~umask


@new
def test_the_default_permissions_are_the_users_alone(name: str, options: dict[str, Any]) -> None:
    with posix_shm.open_shm(name, if_does_not_exist="create", **options):
        assert mode_of(name) == 0o600


@directions
@pytest.mark.parametrize("if_exists", ["overwrite", "truncate"])
def test_an_object_that_exists_keeps_its_permissions(
    existing: str, direction: Any, if_exists: Any
) -> None:
    path_of(existing).chmod(0o640)
    with posix_shm.open_shm(
        existing,
        direction=direction,
        if_exists=if_exists,
        if_does_not_exist="create",
        permissions=0o666,
    ):
        assert mode_of(existing) == 0o640


@pytest.mark.parametrize("permissions", [-1, 0o10000, 1 << 40])
def test_permissions_that_no_object_can_have_are_an_overflow(name: str, permissions: int) -> None:
    with pytest.raises(OverflowError):
        posix_shm.open_shm(name, if_does_not_exist="create", permissions=permissions)
    assert not exists(name)


# ---- deleting ---------------------------------------------------------------------------------


def test_deleting_removes_the_name_and_leaves_the_object_to_its_holders(existing: str) -> None:
    with posix_shm.open_shm(existing) as shm:
        posix_shm.delete_shm(existing)
        assert not exists(existing)
        assert bytes(memoryview(shm)) == CONTENT
        assert shm.stat().st_nlink == 0


def test_deleting_a_missing_object_says_so(name: str) -> None:
    with pytest.raises(posix_shm.ShmDoesNotExistError) as caught:
        posix_shm.delete_shm(name[1:])
    assert (caught.value.errno, caught.value.name) == (errno.ENOENT, name)


def test_deleting_takes_its_name_by_keyword(existing: str) -> None:
    posix_shm.delete_shm(name=existing)
    assert not exists(existing)
