"""The tables of flags, which are loaded when somebody asks for a word or a class.

Each flag is a row of one of the classes below; a word is a row's name in lower case, with ``-``
or ``_``.  A new flag is a new row, and a new alias is one more name in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from functools import reduce
from operator import or_

from . import _shm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Flags, Kind


class OpenFlag(IntFlag):
    """How an object is opened.  Source: ``shm_open``; the seed's *open-flag*."""

    RDONLY = READ = _shm.O_RDONLY
    RDWR = READ_WRITE = _shm.O_RDWR
    CREAT = CREATE = _shm.O_CREAT
    EXCL = EXCLUSIVE = _shm.O_EXCL
    TRUNC = TRUNCATE = _shm.O_TRUNC


class Permission(IntFlag):
    """Who may do what with an object.  Source: ``fchmod``; the seed's *permission*."""

    RUSR = USER_READ = READ_USER = _shm.S_IRUSR
    WUSR = USER_WRITE = WRITE_USER = _shm.S_IWUSR
    XUSR = USER_EXEC = EXEC_USER = _shm.S_IXUSR
    RWXU = USER_ALL = ALL_USER = _shm.S_IRWXU
    RGRP = GROUP_READ = READ_GROUP = _shm.S_IRGRP
    WGRP = GROUP_WRITE = WRITE_GROUP = _shm.S_IWGRP
    XGRP = GROUP_EXEC = EXEC_GROUP = _shm.S_IXGRP
    RWXG = GROUP_ALL = ALL_GROUP = _shm.S_IRWXG
    ROTH = OTHER_READ = READ_OTHER = _shm.S_IROTH
    WOTH = OTHER_WRITE = WRITE_OTHER = _shm.S_IWOTH
    XOTH = OTHER_EXEC = EXEC_OTHER = _shm.S_IXOTH
    RWXO = OTHER_ALL = ALL_OTHER = _shm.S_IRWXO


class Protection(IntFlag):
    """What may be done with pages.  Source: ``mmap``, ``mprotect``; the seed's *protection*."""

    NONE = _shm.PROT_NONE
    READ = _shm.PROT_READ
    WRITE = _shm.PROT_WRITE
    EXEC = _shm.PROT_EXEC


class MapFlag(IntFlag):
    """How pages are mapped.  Source: ``mmap``; the seed's *mmap-flags*."""

    SHARED = _shm.MAP_SHARED
    PRIVATE = _shm.MAP_PRIVATE
    ANONYMOUS = _shm.MAP_ANONYMOUS
    FIXED = _shm.MAP_FIXED
    FIXED_NOREPLACE = _shm.MAP_FIXED_NOREPLACE
    GROWSDOWN = _shm.MAP_GROWSDOWN
    NORESERVE = _shm.MAP_NORESERVE
    POPULATE = _shm.MAP_POPULATE
    LOCKED = _shm.MAP_LOCKED


def _constants(prefix: str) -> dict[str, int]:
    """The words of those constants of this platform whose names begin with a prefix."""
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in vars(_shm).items()
        if name.startswith(prefix)
    }


def _words(kind: type[IntFlag]) -> dict[str, int]:
    return {name.lower(): member.value for name, member in kind.__members__.items()}


WORDS = {
    "open": _words(OpenFlag),
    "permission": _words(Permission),
    "protection": _words(Protection),
    "map": _words(MapFlag),
    "seal": _constants("F_SEAL_"),
    "advice": _constants("MADV_"),
}


def bits(kind: Kind, flags: Flags) -> int:
    """The bits that flags stand for: :func:`posix_shm._words.bits`, every time anew."""
    if isinstance(flags, (int, str)):
        return _bits_of_one(kind, flags)
    if not isinstance(flags, Iterable) or isinstance(flags, (bytes, bytearray, memoryview)):
        raise TypeError(f"flags must be an int, a word or an iterable of them, not {flags!r}")
    items = list(flags)
    values = [_bits_of_one(kind, item) for item in items]
    if kind == "protection" and len(values) > 1 and Protection.NONE in values:
        raise ValueError(f'the protection "none" stands alone, unlike in {flags!r}')
    return reduce(or_, values, 0)


def _bits_of_one(kind: Kind, flag: int | str) -> int:
    if isinstance(flag, int):
        return int(flag)
    if not isinstance(flag, str):
        raise TypeError(f"a flag must be an int or a word, not {flag!r}")
    try:
        return WORDS[kind][flag.replace("-", "_")]
    except KeyError:
        right = [word.replace("_", "-") for word in WORDS[kind]]
        raise unknown_word(f"{kind} flag", flag, right) from None


def seal_words(seals: int) -> frozenset[str]:
    """The words of these seals."""
    return frozenset(word.replace("_", "-") for word, bit in WORDS["seal"].items() if seals & bit)


def unknown_word(what: str, word: object, right: Iterable[object]) -> ValueError:
    """An error that lists the right words."""
    return ValueError(f"unknown {what} {word!r}; it must be one of {', '.join(map(repr, right))}")
