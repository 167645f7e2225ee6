"""The face of the package: its names, their documentation and signatures, what it imports."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import posix_shm
import pytest
from posix_shm import _shm

PACKAGE = Path(posix_shm.__file__).parent

PUBLIC = [
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
CLASSES = [posix_shm.SharedMemoryObject, posix_shm.Mapping]
MEMBERS = [(cls, member) for cls in CLASSES for member in dir(cls) if not member.startswith("_")]
members = pytest.mark.parametrize(
    ("cls", "member"), MEMBERS, ids=[f"{cls.__name__}.{member}" for cls, member in MEMBERS]
)


# ---- names ------------------------------------------------------------------------------------


def test_the_public_names_are_those_of_the_contract() -> None:
    assert sorted(posix_shm.__all__) == PUBLIC


def test_each_public_name_is_exported_once() -> None:
    exported = [getattr(posix_shm, name) for name in posix_shm.__all__]
    assert len({id(value) for value in exported}) == len(posix_shm.__all__)


def test_nothing_else_looks_public() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    others = {name for name in dir(posix_shm) if not name.startswith("_")}
    assert others - modules - {"TYPE_CHECKING"} == set(posix_shm.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="bogus"):
        getattr(posix_shm, "bogus")  # noqa: B009


def test_a_star_import_gets_every_public_name() -> None:
    namespace: dict[str, object] = {}
    exec("from posix_shm import *", namespace)
    assert set(PUBLIC) <= set(namespace)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_that_it_is_the_packages(name: str) -> None:
    value = getattr(posix_shm, name)
    assert value.__module__.partition(".")[0] == "posix_shm"
    if isinstance(value, type):
        assert value.__qualname__ == name
        assert getattr(importlib.import_module(value.__module__), name) is value


def test_the_public_classes_are_those_of_the_extension_or_derived_from_them() -> None:
    assert issubclass(posix_shm.SharedMemoryObject, _shm.SharedMemoryObject)
    assert issubclass(posix_shm.Mapping, _shm.Mapping)


# The seed's symbols, and what each is here.
SEED = {
    "shm, open-shm, closed-shm": ["SharedMemoryObject", "SharedMemoryObject.closed"],
    "shm-p, open-shm-p": ["is_shm", "is_open_shm"],
    "shm-fd, shm-name": ["SharedMemoryObject.fd", "SharedMemoryObject.name"],
    "stat, shm-stats": ["SharedMemoryObject.stat"],
    "shm-error": ["ShmError", "ShmError.name", "ShmError.errno"],
    "shm-does-not-exist": ["ShmDoesNotExistError"],
    "shm-exists": ["ShmExistsError"],
    "mmap-error": ["MmapError"],
    "open-shm": ["open_shm"],
    "open-shm*": ["open_anonymous_shm"],
    "make-shm": ["make_shm"],
    "truncate-shm": ["SharedMemoryObject.truncate"],
    "chmod-shm, fchmod": ["SharedMemoryObject.chmod", "ffi.fchmod"],
    "fchown": ["SharedMemoryObject.chown", "ffi.fchown"],
    "close-shm, close": ["SharedMemoryObject.close", "ffi.close"],
    "delete-shm, shm-unlink": ["delete_shm", "SharedMemoryObject.delete", "ffi.shm_unlink"],
    "mmap-shm, mmap": ["SharedMemoryObject.mmap", "ffi.mmap"],
    "munmap": ["Mapping.unmap", "ffi.munmap"],
    "with-open-shm": ["opened_shm", "SharedMemoryObject.__enter__"],
    "with-open-shm*, with-mmap": ["SharedMemoryObject.__enter__", "Mapping.__enter__"],
    "with-open-shm-and-mmap, with-mmapped-shm": ["open_shm_and_mmap"],
    "with-open-shm-and-mmap*, with-mmapped-shm*": ["open_anonymous_shm_and_mmap"],
    "open-flag": ["OpenFlag"],
    "permission": ["Permission"],
    "protection": ["Protection"],
    "mmap-flags": ["MapFlag"],
    "posix-shm/ffi": ["ffi.shm_open", "ffi.ftruncate", "ffi.fstat", "ffi.strerror"],
    "+map-shared+, +map-failed+": ["ffi.MAP_SHARED", "ffi.MAP_FAILED"],
}


@pytest.mark.parametrize("paths", SEED.values(), ids=SEED.keys())
def test_each_symbol_of_the_seed_is_here(paths: list[str]) -> None:
    importlib.import_module("posix_shm.ffi")
    for path in paths:
        value: Any = posix_shm
        for name in path.split("."):
            value = getattr(value, name)


# ---- documentation and signatures -------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_of_its_own(name: str) -> None:
    value = getattr(posix_shm, name)
    assert vars(value)["__doc__"] if isinstance(value, type) else value.__doc__


@members
def test_a_public_member_has_a_docstring(cls: type, member: str) -> None:
    assert inspect.getdoc(inspect.getattr_static(cls, member))


@members
def test_a_public_method_has_a_signature(cls: type, member: str) -> None:
    value = inspect.getattr_static(cls, member)
    if callable(value):
        parameters = list(inspect.signature(value).parameters.values())
        assert parameters[0].name == "self"
        assert not {"args", "kwargs"} & {parameter.name for parameter in parameters}
    else:
        assert inspect.isdatadescriptor(value), "neither a method nor a property"


OPENING = (
    "direction='input', if_exists='overwrite', if_does_not_exist=Ellipsis, permissions=384, "
    "size=None"
)
MAPPING = "addr=0, protections=None, flags='shared', offset=0, guard=False"
ANONYMOUS = (
    "direction='input', permissions=384, attempts=100, size=None, sealable=False, huge_pages=False"
)
SIGNATURES = {
    "open_shm": f"name, *, {OPENING}",
    "opened_shm": f"name, *, {OPENING}",
    "open_anonymous_shm": f"*, {ANONYMOUS}",
    "make_shm": "fd, name=None",
    "SharedMemoryObject": "fd, name=None",
    "delete_shm": "name",
    "is_shm": "obj",
    "is_open_shm": "obj",
    "open_shm_and_mmap": (
        f"name, length=None, *, truncate=None, reserve=True, {OPENING}, {MAPPING}"
    ),
    "open_anonymous_shm_and_mmap": (
        f"length, *, truncate=None, reserve=True, {ANONYMOUS}, {MAPPING}"
    ),
}


@pytest.mark.parametrize(("name", "signature"), SIGNATURES.items(), ids=SIGNATURES.keys())
def test_a_function_has_the_parameters_and_defaults_of_the_contract(
    name: str, signature: str
) -> None:
    found = inspect.signature(getattr(posix_shm, name))
    plain = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    bare = found.replace(parameters=plain, return_annotation=inspect.Signature.empty)
    assert str(bare) == f"({signature})"


# ---- what is imported -------------------------------------------------------------------------

# Without site, whose own imports would hide the package's.
LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
__import__(sys.argv[2])
print(*sys.modules)
"""


def loaded_by(module: str) -> set[str]:
    """The modules that are loaded after a module was imported."""
    command = [sys.executable, "-I", "-S", "-c", LOADED, str(PACKAGE.parent), module]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["posix_shm", "posix_shm.ffi"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = {"multiprocessing", "socket", "numpy", "typing", "contextlib", "subprocess"}
    loaded = loaded_by(module)
    assert {module, "posix_shm._shm"} <= loaded
    assert not heavy & loaded


def test_using_it_loads_nothing_heavy_either() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import posix_shm
with posix_shm.open_anonymous_shm(direction="io", size=10) as shm, shm.mmap() as mapping:
    mapping[0] = 1
print(*sys.modules)
"""
    command = [sys.executable, "-I", "-S", "-c", code, str(PACKAGE.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"multiprocessing", "socket", "numpy", "typing"} & set(done.stdout.split())


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "_shm.pyi").exists()
