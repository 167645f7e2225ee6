"""POSIX shared memory: bytes that several processes see at once, without a copy.

The upper stratum.  The bare system calls are in :mod:`posix_shm.ffi`.
"""

from ._context import open_anonymous_shm_and_mmap, open_shm_and_mmap, opened_shm
from ._flags import MapFlag, OpenFlag, Permission, Protection
from ._objects import Mapping, SharedMemoryObject
from ._open import is_open_shm, is_shm, make_shm, open_anonymous_shm, open_shm
from ._shm import (
    MmapError,
    ShmDoesNotExistError,
    ShmError,
    ShmExistsError,
    ShmPermissionError,
    delete_shm,
)

__all__ = [
    "MapFlag",
    "Mapping",
    "MmapError",
    "OpenFlag",
    "Permission",
    "Protection",
    "SharedMemoryObject",
    "ShmDoesNotExistError",
    "ShmError",
    "ShmExistsError",
    "ShmPermissionError",
    "delete_shm",
    "is_open_shm",
    "is_shm",
    "make_shm",
    "open_anonymous_shm",
    "open_anonymous_shm_and_mmap",
    "open_shm",
    "open_shm_and_mmap",
    "opened_shm",
]
