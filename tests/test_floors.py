"""An include or an import only ever points down a floor."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import posix_shm
import pytest

from .support import ROOT

# ---- C: a header's head says its floor, and a .c file without a header its own -----------------

CSRC = ROOT / "csrc"
C_FILES = sorted(CSRC.glob("*.[ch]"))
needs_csrc = pytest.mark.skipif(not CSRC.is_dir(), reason="not in a source tree")


def floor_of_c(file: Path) -> int:
    """The floor that the head of a file, or of its header, says."""
    header = file.with_suffix(".h")
    said = re.match(r"/\* Floor (\d+): ", (header if header.exists() else file).read_text())
    assert said, f"the head of {file.name} says no floor"
    return int(said[1])


def includes(file: Path) -> list[str]:
    """What a file includes from this project."""
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', file.read_text(), re.MULTILINE)


@needs_csrc
def test_the_c_files_are_found() -> None:
    assert {"compat.h", "state.h", "syscalls.c", "module.c"} <= {file.name for file in C_FILES}


@needs_csrc
@pytest.mark.parametrize("file", C_FILES, ids=lambda file: file.name)
def test_a_c_file_includes_only_from_the_floors_below(file: Path) -> None:
    own_header = file.with_suffix(".h").name if file.suffix == ".c" else None
    for name in includes(file):
        included = CSRC / name
        assert included.suffix == ".h", f"{name} is no header"
        assert included.exists(), f"{name} is not in csrc/"
        if name != own_header:
            assert floor_of_c(included) < floor_of_c(file), f"{name} is no floor below"


@needs_csrc
@pytest.mark.parametrize(
    "file", [file for file in C_FILES if file.suffix == ".c"], ids=lambda file: file.name
)
def test_a_c_file_includes_its_own_header_first(file: Path) -> None:
    """Which so is known to include all that it needs."""
    if file.with_suffix(".h").exists():
        assert includes(file)[0] == file.with_suffix(".h").name


# ---- Python -----------------------------------------------------------------------------------

FLOORS = [
    {"_typing"},
    {"_shm"},
    {"_flags", "_travel"},
    {"_words", "_ndarray"},
    {"_open"},
    {"_context"},
    {"ffi", "transfer", "npy", "compat"},
    {"__init__"},
    {"_survey"},
    {"_show"},
    {"_cli"},
    {"__main__"},
]
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}

PACKAGE = Path(posix_shm.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))


def imports(tree: ast.AST, *, for_types: bool = False) -> Iterator[tuple[str, bool]]:
    """The modules of this package that are imported anywhere, and whether only for their types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            for module in imported_modules(node):
                yield module, for_types
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.body:
                yield from imports(ast.Module([child], []), for_types=True)
            yield from imports(ast.Module(node.orelse, []), for_types=for_types)
        else:
            yield from imports(node, for_types=for_types)


def imported_modules(node: ast.ImportFrom | ast.Import) -> Iterator[str]:
    """The modules of this package among those that a statement imports."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            package, _, module = alias.name.partition(".")
            if package == "posix_shm":
                yield module or "__init__"
        return
    path = [part for part in (node.module or "").split(".") if part]
    if node.level == 0 and path[:1] != ["posix_shm"]:
        return
    if node.level == 0:
        del path[0]
    if path:
        yield path[0]
    else:
        for alias in node.names:
            is_module = alias.name == "_shm" or (PACKAGE / f"{alias.name}.py").exists()
            yield alias.name if is_module else "__init__"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.name)
def test_a_python_module_imports_only_from_the_floors_below(file: Path) -> None:
    assert file.stem in FLOOR, f"{file.name} has no floor: give it one in FLOORS"
    floor = FLOOR[file.stem]
    for module, for_types in imports(ast.parse(file.read_text(encoding="utf-8"))):
        assert module in FLOOR, f"{module} has no floor"
        if for_types:  # a type may name its neighbours
            assert FLOOR[module] <= floor, f"{file.name} knows the type of {module}, above it"
        else:
            assert FLOOR[module] < floor, f"{file.name} imports {module}, which is not below it"


def test_every_way_to_import_is_seen() -> None:
    code = """
from . import _shm, open_shm
from ._words import bits
import posix_shm.npy
import posix_shm
from posix_shm import ffi
from posix_shm.transfer import send_shm
import os, typing
if TYPE_CHECKING:
    from ._flags import Flags
else:
    from . import _open
def later():
    from ._travel import reduce
"""
    assert list(imports(ast.parse(code))) == [
        ("_shm", False),
        ("__init__", False),
        ("_words", False),
        ("npy", False),
        ("__init__", False),
        ("ffi", False),
        ("transfer", False),
        ("_flags", True),
        ("_open", False),
        ("_travel", False),
    ]
