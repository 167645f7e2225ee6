"""POSIX shared memory: bytes that several processes see at once, without a copy.

The upper stratum.  The bare system calls are in :mod:`posix_shm.ffi`.
"""

from . import _ndarray  # noqa: F401  # _shm wants it, perhaps where no file can be read any more
from ._context import open_anonymous_shm_and_mmap, open_shm_and_mmap, opened_shm
from ._open import is_open_shm, is_shm, make_shm, open_anonymous_shm
from ._shm import (
    Mapping,
    MmapError,
    SharedMemoryObject,
    ShmDoesNotExistError,
    ShmError,
    ShmExistsError,
    ShmPermissionError,
    delete_shm,
    open_shm,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._flags import MapFlag, OpenFlag, Permission, Protection
    from .transfer import recv_shm, send_shm

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
    "recv_shm",
    "send_shm",
]

# What not every program uses, and where it is.  Importing the package does not import that.
_ELSEWHERE = {
    "MapFlag": "_flags",
    "OpenFlag": "_flags",
    "Permission": "_flags",
    "Protection": "_flags",
    "recv_shm": "transfer",
    "send_shm": "transfer",
}

if not TYPE_CHECKING:  # to which every name would be right

    def __getattr__(name: str) -> object:
        if name not in _ELSEWHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = __import__(f"{__name__}.{_ELSEWHERE[name]}", fromlist=[name])
        value = globals()[name] = getattr(module, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
