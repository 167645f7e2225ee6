"""Every word of every flag, in every spelling, as the system understands it."""

from __future__ import annotations

import fcntl
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import posix_shm
import pytest
from posix_shm import MapFlag, OpenFlag, Permission, Protection, ffi

from .support import PAGE, exists, mode_of, path_of

# Each row is one bit, or one set of bits, with all its names.
OPEN = {
    os.O_RDONLY: ["rdonly", "read"],
    os.O_RDWR: ["rdwr", "read-write"],
    os.O_CREAT: ["creat", "create"],
    os.O_EXCL: ["excl", "exclusive"],
    os.O_TRUNC: ["trunc", "truncate"],
}
PERMISSIONS = {
    stat.S_IRUSR: ["rusr", "user-read", "read-user"],
    stat.S_IWUSR: ["wusr", "user-write", "write-user"],
    stat.S_IXUSR: ["xusr", "user-exec", "exec-user"],
    stat.S_IRWXU: ["rwxu", "user-all", "all-user"],
    stat.S_IRGRP: ["rgrp", "group-read", "read-group"],
    stat.S_IWGRP: ["wgrp", "group-write", "write-group"],
    stat.S_IXGRP: ["xgrp", "group-exec", "exec-group"],
    stat.S_IRWXG: ["rwxg", "group-all", "all-group"],
    stat.S_IROTH: ["roth", "other-read", "read-other"],
    stat.S_IWOTH: ["woth", "other-write", "write-other"],
    stat.S_IXOTH: ["xoth", "other-exec", "exec-other"],
    stat.S_IRWXO: ["rwxo", "other-all", "all-other"],
}
PROTECTIONS = {0: ["none"], 1: ["read"], 2: ["write"], 4: ["exec"]}
MAP = [
    "shared",
    "private",
    "anonymous",
    "fixed",
    "fixed-noreplace",
    "growsdown",
    "noreserve",
    "populate",
    "locked",
]


def spellings(table: dict[int, list[str]]) -> list[Any]:
    """Each value with each spelling of each of its words."""
    pairs = ((value, word) for value, words in table.items() for word in words)
    both = ((value, spelled) for value, word in pairs for spelled in {word, _underscored(word)})
    return [pytest.param(value, word, id=word) for value, word in sorted(both)]


def _underscored(word: str) -> str:
    return word.replace("-", "_")


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """No permission is masked."""
    before = os.umask(0)
    yield
    os.umask(before)


# ---- the members ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "table"),
    [(OpenFlag, OPEN), (Permission, PERMISSIONS), (Protection, PROTECTIONS)],
    ids=["OpenFlag", "Permission", "Protection"],
)
def test_the_members_are_the_words(flags: Any, table: dict[int, list[str]]) -> None:
    wanted = {
        _underscored(word).upper(): value for value, words in table.items() for word in words
    }
    assert {name: int(member) for name, member in flags.__members__.items()} == wanted


def test_the_members_of_map_flag_are_the_words() -> None:
    assert set(MapFlag.__members__) == {_underscored(word).upper() for word in MAP}
    bits = [int(flag) for flag in MapFlag.__members__.values()]
    assert all(bits)
    assert len(set(bits)) == len(bits)


@pytest.mark.parametrize("flags", [OpenFlag, Permission, Protection, MapFlag])
def test_members_are_ints_that_combine(flags: Any) -> None:
    for one, other in itertools.combinations(flags, 2):
        assert isinstance(one | other, flags)
        assert int(one | other) == int(one) | int(other)


# ---- permissions ------------------------------------------------------------------------------

every_permission = pytest.mark.parametrize(("bits", "word"), spellings(PERMISSIONS))


@every_permission
def test_a_permission_word_is_the_mode_of_a_new_object(name: str, bits: int, word: str) -> None:
    with posix_shm.open_shm(name, if_does_not_exist="create", permissions=word) as shm:
        assert stat.S_IMODE(shm.stat().st_mode) == bits
    assert mode_of(name) == bits


@every_permission
def test_a_permission_word_is_the_mode_after_chmod(bits: int, word: str) -> None:
    with posix_shm.open_anonymous_shm() as shm:
        shm.chmod(word)
        assert stat.S_IMODE(shm.stat().st_mode) == bits


@every_permission
def test_a_permission_word_is_the_mode_of_ffi(name: str, bits: int, word: str) -> None:
    fd = ffi.shm_open(name, "creat", word)
    try:
        assert mode_of(name) == bits
        ffi.fchmod(fd, 0)
        assert mode_of(name) == 0
        ffi.fchmod(fd, word)
        assert mode_of(name) == bits
    finally:
        os.close(fd)


# What each parameter that takes permissions does with them: the mode that comes of it.
def _of_open_shm(name: str, permissions: Any) -> int:
    with posix_shm.open_shm(name, if_does_not_exist="create", permissions=permissions):
        return mode_of(name)


def _of_opened_shm(name: str, permissions: Any) -> int:
    with posix_shm.opened_shm(name, if_does_not_exist="create", permissions=permissions):
        return mode_of(name)


def _of_open_shm_and_mmap(name: str, permissions: Any) -> int:
    with posix_shm.open_shm_and_mmap(
        name, 1, direction="io", if_does_not_exist="create", permissions=permissions
    ):
        return mode_of(name)


def _of_open_anonymous_shm(name: str, permissions: Any) -> int:
    with posix_shm.open_anonymous_shm(permissions=permissions) as shm:
        return stat.S_IMODE(shm.stat().st_mode)


def _of_open_anonymous_shm_and_mmap(name: str, permissions: Any) -> int:
    with posix_shm.open_anonymous_shm_and_mmap(1, direction="io", permissions=permissions) as (
        shm,
        _,
    ):
        return stat.S_IMODE(shm.stat().st_mode)


def _of_chmod(name: str, permissions: Any) -> int:
    with posix_shm.open_anonymous_shm() as shm:
        shm.chmod(permissions)
        return stat.S_IMODE(shm.stat().st_mode)


def _of_ffi_shm_open(name: str, permissions: Any) -> int:
    os.close(ffi.shm_open(name, os.O_CREAT, permissions))
    return mode_of(name)


def _of_ffi_fchmod(name: str, permissions: Any) -> int:
    with posix_shm.open_anonymous_shm() as shm:
        ffi.fchmod(shm.fd, permissions)
        return stat.S_IMODE(shm.stat().st_mode)


Door = Callable[[str, Any], int]
DOORS: list[Door] = [
    _of_open_shm,
    _of_opened_shm,
    _of_open_shm_and_mmap,
    _of_open_anonymous_shm,
    _of_open_anonymous_shm_and_mmap,
    _of_chmod,
    _of_ffi_shm_open,
    _of_ffi_fchmod,
]
doors = pytest.mark.parametrize("mode_by", DOORS, ids=lambda door: door.__name__[len("_of_") :])


@doors
@pytest.mark.parametrize(
    ("permissions", "mode"),
    [
        (0o640, 0o640),
        (0, 0),
        (Permission.RUSR, 0o400),
        (Permission.RUSR | Permission.GROUP_ALL, 0o470),
        ("user-read", 0o400),
        ("other_all", 0o007),
        ([], 0),
        (["rusr"], 0o400),
        (("rusr", Permission.WUSR, 0o040, "read_other"), 0o644),
        pytest.param({"user-all", "rwxg"}, 0o770, id="set"),
        (["rwxu", "rusr"], 0o700),
    ],
    ids=str,
)
def test_permissions_are_an_int_a_member_a_word_or_an_iterable(
    name: str, mode_by: Door, permissions: object, mode: int
) -> None:
    assert mode_by(name, permissions) == mode


@doors
def test_an_iterable_of_permissions_may_be_an_iterator(name: str, mode_by: Door) -> None:
    assert mode_by(name, iter(["rusr", "wusr"])) == 0o600


@doors
@pytest.mark.parametrize(
    "wrong", ["bogus", "", "rusr wusr", "read", "RUSR", ["rusr", "bogus"]], ids=str
)
def test_a_wrong_permission_is_a_value_error_that_lists_the_right_ones(
    name: str, mode_by: Door, wrong: object
) -> None:
    with pytest.raises(ValueError) as caught:
        mode_by(name, wrong)
    for words in PERMISSIONS.values():
        for word in words:
            assert repr(word) in str(caught.value)
    assert not exists(name)


@doors
@pytest.mark.parametrize(
    "wrong",
    [None, 1.5, b"rusr", bytearray(b"rusr"), [None], ["rusr", 1.5], [["rusr"]], [b"rusr"]],
    ids=str,
)
def test_what_is_no_permission_is_a_type_error(name: str, mode_by: Door, wrong: object) -> None:
    with pytest.raises(TypeError):
        mode_by(name, wrong)
    assert not exists(name)


def test_chmod_ignores_the_umask() -> None:
    os.umask(0o077)
    with posix_shm.open_anonymous_shm() as shm:
        shm.chmod("other-all")
        assert stat.S_IMODE(shm.stat().st_mode) == 0o007


# ---- open flags -------------------------------------------------------------------------------


def opened(name: str, oflag: Any) -> int:
    """The status flags of a descriptor that ``ffi.shm_open`` returns."""
    fd = ffi.shm_open(name, oflag, 0o600)
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL)
    finally:
        os.close(fd)


@pytest.mark.parametrize("word", ["rdonly", "read"])
def test_rdonly_opens_for_reading(name: str, word: str) -> None:
    path_of(name).touch()
    assert opened(name, word) & os.O_ACCMODE == os.O_RDONLY


@pytest.mark.parametrize("word", ["rdwr", "read-write", "read_write"])
def test_rdwr_opens_for_reading_and_writing(name: str, word: str) -> None:
    path_of(name).touch()
    assert opened(name, word) & os.O_ACCMODE == os.O_RDWR


@pytest.mark.parametrize("word", ["creat", "create"])
def test_creat_creates(name: str, word: str) -> None:
    opened(name, ["rdwr", word])
    assert exists(name)


@pytest.mark.parametrize("word", ["excl", "exclusive"])
def test_excl_refuses_what_exists(name: str, word: str) -> None:
    opened(name, ["rdwr", "creat", word])
    with pytest.raises(FileExistsError):
        opened(name, ["rdwr", "creat", word])


@pytest.mark.parametrize("word", ["trunc", "truncate"])
def test_trunc_empties(name: str, word: str) -> None:
    path_of(name).write_bytes(b"content")
    opened(name, ["rdwr", word])
    assert path_of(name).read_bytes() == b""


@pytest.mark.parametrize(
    "oflag",
    [
        os.O_RDWR | os.O_CREAT,
        OpenFlag.RDWR | OpenFlag.CREATE,
        ["rdwr", OpenFlag.CREAT],
        ("read_write", os.O_CREAT),
    ],
    ids=str,
)
def test_open_flags_are_an_int_a_member_a_word_or_an_iterable(name: str, oflag: object) -> None:
    assert opened(name, oflag) & os.O_ACCMODE == os.O_RDWR
    assert exists(name)


def test_a_wrong_open_flag_is_a_value_error_that_lists_the_right_ones(name: str) -> None:
    with pytest.raises(ValueError, match="'append'") as caught:
        opened(name, ["creat", "append"])
    for words in OPEN.values():
        for word in words:
            assert repr(word) in str(caught.value)
    assert not exists(name)


# ---- protections ------------------------------------------------------------------------------


@pytest.fixture
def shm() -> Iterator[posix_shm.SharedMemoryObject]:
    """An object of a page, open for io."""
    with posix_shm.open_anonymous_shm(direction="io", size=PAGE) as shm:
        yield shm


def _mapped(shm: posix_shm.SharedMemoryObject, protections: Any) -> str:
    with shm.mmap(protections=protections) as mapping:
        return memory_map(mapping.address)["permissions"]


def _protected(shm: posix_shm.SharedMemoryObject, protections: Any) -> str:
    with shm.mmap() as mapping:
        mapping.protect(protections)
        return memory_map(mapping.address)["permissions"]


def _mapped_by_ffi(shm: posix_shm.SharedMemoryObject, protections: Any) -> str:
    address = ffi.mmap(0, PAGE, protections, "shared", shm.fd, 0)
    try:
        return memory_map(address)["permissions"]
    finally:
        ffi.munmap(address, PAGE)


def memory_map(address: int) -> dict[str, str]:
    """What ``/proc/self/smaps`` says of the mapping that has an address in it."""
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    rows: dict[str, str] = {}
    inside = False
    for line in lines:
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            low, high = (int(bound, 16) for bound in first.split("-"))
            inside = low <= address < high
            if inside:
                rows["permissions"] = rest.split()[0]
        elif inside:
            rows[first.rstrip(":")] = rest.strip()
    return rows


ByProtections = Callable[[posix_shm.SharedMemoryObject, Any], str]
by_protections = pytest.mark.parametrize(
    "mapped",
    [_mapped, _protected, _mapped_by_ffi],
    ids=["SharedMemoryObject.mmap", "Mapping.protect", "ffi.mmap"],
)


@by_protections
@pytest.mark.parametrize(
    ("protections", "permissions"),
    [
        ("none", "---s"),
        ("read", "r--s"),
        ("write", "-w-s"),
        ("exec", "--xs"),
        ([], "---s"),
        (["none"], "---s"),
        (0, "---s"),
        (Protection.NONE, "---s"),
        (["read", "write"], "rw-s"),
        pytest.param({"read", "exec"}, "r-xs", id="set"),
        (Protection.READ, "r--s"),
        (Protection.READ | Protection.WRITE, "rw-s"),
        ([Protection.READ, "write"], "rw-s"),
        ((1, "write", Protection.EXEC), "rwxs"),
        (3, "rw-s"),
    ],
    ids=str,
)
def test_protections_are_what_the_kernel_says_of_the_pages(
    shm: posix_shm.SharedMemoryObject,
    mapped: ByProtections,
    protections: object,
    permissions: str,
) -> None:
    assert mapped(shm, protections) == permissions


@by_protections
@pytest.mark.parametrize(
    "protections",
    [["none", "read"], ["write", "none"], [Protection.NONE, Protection.EXEC]],
    ids=str,
)
def test_the_protection_none_stands_alone(
    shm: posix_shm.SharedMemoryObject, mapped: ByProtections, protections: object
) -> None:
    with pytest.raises(ValueError, match="none"):
        mapped(shm, protections)


@by_protections
def test_a_wrong_protection_is_a_value_error_that_lists_the_right_ones(
    shm: posix_shm.SharedMemoryObject, mapped: ByProtections
) -> None:
    with pytest.raises(ValueError, match=r"'bogus'.*'none', 'read', 'write', 'exec'"):
        mapped(shm, ["read", "bogus"])


@by_protections
@pytest.mark.parametrize("wrong", [1.5, b"\1", [None]], ids=repr)
def test_what_is_no_protection_is_a_type_error(
    shm: posix_shm.SharedMemoryObject, mapped: ByProtections, wrong: object
) -> None:
    with pytest.raises(TypeError):
        mapped(shm, wrong)


# ---- map flags --------------------------------------------------------------------------------

# What the kernel writes under VmFlags of a mapping that has the flag.
VM_FLAGS = {"growsdown": "gd", "noreserve": "nr", "locked": "lo", "shared": "sh"}


def mapped_with(flags: Any, fd: int = -1) -> dict[str, str]:
    """What the kernel says of a page that ``ffi.mmap`` maps."""
    address = ffi.mmap(0, PAGE, "read", flags, fd, 0)
    try:
        return memory_map(address)
    finally:
        ffi.munmap(address, PAGE)


@pytest.mark.parametrize("flag", ["growsdown", "noreserve", "locked"])
def test_a_map_flag_is_what_the_kernel_says_of_the_pages(flag: str) -> None:
    with_it = mapped_with(["private", "anonymous", flag])["VmFlags"].split()
    without = mapped_with(["private", "anonymous"])["VmFlags"].split()
    assert VM_FLAGS[flag] in with_it
    assert VM_FLAGS[flag] not in without


def test_shared_pages_are_the_objects_and_private_ones_are_not(
    shm: posix_shm.SharedMemoryObject,
) -> None:
    assert mapped_with("shared", shm.fd)["permissions"] == "r--s"
    assert mapped_with("private", shm.fd)["permissions"] == "r--p"


def test_populate_faults_the_pages_in(shm: posix_shm.SharedMemoryObject) -> None:
    assert mapped_with("shared", shm.fd)["Rss"] == "0 kB"
    assert mapped_with(["shared", "populate"], shm.fd)["Rss"] == f"{PAGE // 1024} kB"


def test_fixed_replaces_a_mapping_and_fixed_noreplace_does_not(
    shm: posix_shm.SharedMemoryObject,
) -> None:
    private = ["private", "anonymous"]
    address = ffi.mmap(0, PAGE, "none", private, -1, 0)
    try:
        for word in ("fixed-noreplace", "fixed_noreplace"):
            with pytest.raises(FileExistsError):
                ffi.mmap(address, PAGE, "read", ["shared", word], shm.fd, 0)
        assert memory_map(address)["permissions"] == "---p"
        assert ffi.mmap(address, PAGE, "read", ["shared", "fixed"], shm.fd, 0) == address
        assert memory_map(address)["permissions"] == "r--s"
    finally:
        ffi.munmap(address, PAGE)


@pytest.mark.parametrize(
    "flags",
    [
        MapFlag.SHARED,
        int(MapFlag.SHARED),
        "shared",
        ["shared"],
        ["shared", MapFlag.NORESERVE],
        ("shared", int(MapFlag.POPULATE)),
        MapFlag.SHARED | MapFlag.LOCKED,
    ],
    ids=str,
)
def test_map_flags_are_an_int_a_member_a_word_or_an_iterable(
    shm: posix_shm.SharedMemoryObject, flags: Any
) -> None:
    with shm.mmap(flags=flags) as mapping:
        assert memory_map(mapping.address)["permissions"] == "rw-s"
        assert isinstance(mapping.flags, MapFlag)
        assert MapFlag.SHARED in mapping.flags


def test_a_wrong_map_flag_is_a_value_error_that_lists_the_right_ones(
    shm: posix_shm.SharedMemoryObject,
) -> None:
    for flags in ("bogus", ["shared", "bogus"]):
        with pytest.raises(ValueError, match="'bogus'") as caught:
            shm.mmap(flags=flags)
        for word in MAP:
            assert repr(word) in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 1.5, b"\1", [None]], ids=repr)
def test_what_is_no_map_flag_is_a_type_error(
    shm: posix_shm.SharedMemoryObject, wrong: Any
) -> None:
    with pytest.raises(TypeError):
        shm.mmap(flags=wrong)
