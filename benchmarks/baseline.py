"""The C side: compiles ``baseline.c`` on the spot and loads it into this process."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

SOURCE = Path(__file__).with_name("baseline.c")
COMPILE = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread"]

_NAMES = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_long)
_SIGNATURES: dict[str, tuple[type[ctypes._SimpleCData] | type[ctypes._Pointer], ...]] = {
    "create_cycles": _NAMES,
    "unchecked_create_cycles": _NAMES,
    "publish_cycles": _NAMES,
    "make_all": _NAMES,
    "attach_all": _NAMES,
    "delete_all": _NAMES,
    "copy": (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t),
    "fill": (
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_bool,
        ctypes.c_int,
        ctypes.c_size_t,
        ctypes.c_size_t,
    ),
    "hand_over": (ctypes.c_int, ctypes.c_long),
}


def _seconds(
    nanoseconds: int, function: Callable[..., int], _arguments: tuple[object, ...]
) -> float:
    """What every function returns, as Python wants it."""
    if nanoseconds < 0:
        raise OSError(-nanoseconds, os.strerror(-nanoseconds), function.__name__)
    return nanoseconds / 1e9


@functools.cache
def load() -> ctypes.CDLL:
    """The compiled baseline; its functions return seconds and raise :exc:`OSError`."""
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "baseline.so"
        subprocess.run([*COMPILE, str(SOURCE), "-o", str(library)], check=True)
        baseline = ctypes.CDLL(str(library))
    for name, arguments in _SIGNATURES.items():
        function = getattr(baseline, name)
        function.argtypes = arguments
        function.restype = ctypes.c_int64
        function.errcheck = _seconds
    return baseline


def for_each(function: str) -> Callable[[Iterable[str]], float]:
    """A function of the baseline that does something with each name."""

    def run(names: Iterable[str]) -> float:
        encoded = [os.fsencode(name) for name in names]
        array = (ctypes.c_char_p * len(encoded))(*encoded)
        seconds: float = getattr(load(), function)(array, len(encoded))
        return seconds

    return run
