"""What :meth:`Mapping.ndarray` does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, SupportsIndex

    import numpy as np
    import numpy.typing as npt

    from ._shm import Mapping


def ndarray(
    mapping: Mapping,
    shape: SupportsIndex | Sequence[SupportsIndex],
    dtype: npt.DTypeLike = "u1",
    offset: int = 0,
    order: Literal["C", "F"] = "C",
) -> np.ndarray[Any, np.dtype[Any]]:
    """An array over the pages."""
    import numpy as np

    mapping.check()
    item_type = np.dtype(dtype)
    if item_type.hasobject:
        raise ValueError(f"an array of {item_type} holds pointers of this process only")
    if not 0 <= offset <= len(mapping):
        raise ValueError(f"offset {offset} is outside the mapping's {len(mapping)} bytes")
    if np.min(np.asarray(shape), initial=0) < 0:
        raise ValueError(f"shape {shape} has a negative dimension")
    pages = np.frombuffer(memoryview(mapping), np.uint8)
    return np.ndarray(shape, item_type, pages[offset:], order=order)
