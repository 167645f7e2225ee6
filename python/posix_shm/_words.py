"""Words to bits: what every parameter that takes flags does with them."""

from __future__ import annotations

from . import _shm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Flags, Kind

# Each word is looked up once.  The one that is a default is known from the start, so that the
# tables, which need the enum module, are not loaded for it.
_known: dict[tuple[str, object], int] = {("map", "shared"): _shm.MAP_SHARED}


def bits(kind: Kind, flags: Flags) -> int:
    """The bits that flags stand for.

    :param kind: whose flags.
    :param flags: an ``int``, a member of an enumeration, a word, or an iterable of these.  In a
        word, ``-`` and ``_`` are the same.
    :raises ValueError: for an unknown word, or for "none" beside another protection.
    :raises TypeError: for anything else.
    """
    if type(flags) is int:
        return flags
    if type(flags) is str:
        value = _known.get((kind, flags))
        if value is not None:
            return value
    from . import _flags

    value = _flags.bits(kind, flags)
    if type(flags) is str:
        _known[kind, flags] = value
    return value
