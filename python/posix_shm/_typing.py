"""The types of parameters, which only type checkers load."""

import os
from collections.abc import Iterable
from typing import Literal

Name = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Direction = Literal["input", "io"]
IfExists = Literal["error", "overwrite", "truncate", "supersede"]
IfDoesNotExist = Literal["error", "create"]
Flags = int | str | Iterable[int | str]
Kind = Literal["open", "permission", "protection", "map", "seal", "advice"]
