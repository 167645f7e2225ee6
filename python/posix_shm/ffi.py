"""The lower stratum: the system calls under their C names.

Flags are ints or words.  Names go to the system as they are.  Errors are plain ``OSError``: they
stand for -1 and ``errno``.  What :mod:`os` has is ``os``'s own.

Source: the seed's *posix-shm/ffi*; the manual pages of the functions.
"""

from __future__ import annotations

import os
from os import close, fchown, fstat, ftruncate, strerror

from . import _shm
from ._shm import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    O_CLOEXEC,
    O_CREAT,
    O_EXCL,
    O_NOFOLLOW,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    S_IRGRP,
    S_IROTH,
    S_IRUSR,
    S_IRWXG,
    S_IRWXO,
    S_IRWXU,
    S_IWGRP,
    S_IWOTH,
    S_IWUSR,
    S_IXGRP,
    S_IXOTH,
    S_IXUSR,
    munmap,
    shm_unlink,
)
from ._words import bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Flags, Name

__all__ = [
    "MAP_ANONYMOUS",
    "MAP_FAILED",
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_GROWSDOWN",
    "MAP_LOCKED",
    "MAP_NORESERVE",
    "MAP_POPULATE",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "O_CLOEXEC",
    "O_CREAT",
    "O_EXCL",
    "O_NOFOLLOW",
    "O_RDONLY",
    "O_RDWR",
    "O_TRUNC",
    "PROT_EXEC",
    "PROT_NONE",
    "PROT_READ",
    "PROT_WRITE",
    "S_IRGRP",
    "S_IROTH",
    "S_IRUSR",
    "S_IRWXG",
    "S_IRWXO",
    "S_IRWXU",
    "S_IWGRP",
    "S_IWOTH",
    "S_IWUSR",
    "S_IXGRP",
    "S_IXOTH",
    "S_IXUSR",
    "close",
    "fchmod",
    "fchown",
    "fstat",
    "ftruncate",
    "mmap",
    "munmap",
    "shm_open",
    "shm_unlink",
    "strerror",
]


def shm_open(name: Name, oflag: Flags, mode: Flags) -> int:
    """Open a shared memory object.

    :param name: as the system wants it, which is with a slash in front.
    :param oflag: ``O_*``, or words: "rdonly", "rdwr", "creat", "excl", "trunc".
    :param mode: ``S_I*``, or words such as "rusr"; the umask applies.
    :returns: a descriptor, close-on-exec.
    :raises OSError: instead of -1.

    Source: ``shm_open(3)``.
    """
    return _shm.shm_open(name, bits("open", oflag), bits("permission", mode))


def mmap(addr: int, length: int, prot: Flags, flags: Flags, fd: int, offset: int) -> int:
    """Map what a descriptor refers to.

    :param addr: a hint, or with ``MAP_FIXED`` the address itself; whatever is mapped there then
        is gone.
    :param length: bytes.
    :param prot: ``PROT_*``, or words: "read", "write", "exec", "none".
    :param flags: ``MAP_*``, or words such as "shared", "fixed-noreplace".
    :param fd: the descriptor; -1 with ``MAP_ANONYMOUS``.
    :param offset: bytes, a multiple of the page size.
    :returns: the address.
    :raises OSError: instead of ``MAP_FAILED``.

    Source: ``mmap(2)``.
    """
    return _shm.mmap(
        addr,
        length,
        bits("protection", prot),
        bits("map", flags),
        fd,
        offset,
    )


def fchmod(fd: int, mode: Flags) -> None:
    """Change who may open the object.

    :param fd: a descriptor of it.
    :param mode: ``S_I*``, or words such as "rusr"; the umask does not apply.
    :raises OSError: instead of -1.

    Source: ``fchmod(2)``.
    """
    os.fchmod(fd, bits("permission", mode))
