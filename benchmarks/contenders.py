"""Who is measured.

A contender's label is one of these, alone or followed by a colon and what is special about it:
"posix_shm: size=".
"""

from __future__ import annotations

import importlib.util

C = "C"
OURS = "posix_shm"
STDLIB = "multiprocessing"
POSIX_IPC = "posix_ipc + mmap"
SHARED_ARRAY = "SharedArray"
MMAP = "mmap"
PIPE = "pickle through a pipe"

# Chosen by Okabe and Ito so that colour-blind people can tell them apart.
COLOURS = {
    C: "#000000",
    OURS: "#0072B2",
    STDLIB: "#E69F00",
    POSIX_IPC: "#009E73",
    SHARED_ARRAY: "#CC79A7",
    MMAP: "#D55E00",
    PIPE: "#999999",
}

_MODULES = {POSIX_IPC: "posix_ipc", SHARED_ARRAY: "SharedArray"}


def variant(label: str, what: str) -> str:
    """A contender that does something special."""
    return f"{label}: {what}"


def base(label: str) -> str:
    """The contender without what is special about it."""
    return label.partition(":")[0]


def is_installed(label: str) -> bool:
    """Whether a contender is there: not every peer builds on every Python."""
    module = _MODULES.get(base(label))
    return module is None or importlib.util.find_spec(module) is not None


def missing() -> list[str]:
    """The peers that are not there."""
    return [label for label in _MODULES if not is_installed(label)]
