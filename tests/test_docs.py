"""The documents are true.

Every ``python`` block of README.md and docs/*.md is a program of its own, which must run and print
no error.  Names of objects in them begin with ``my-``, so that they can be made unique here.  A
block that needs a package beyond those of the tests has a comment on the line before it:
``<!-- needs: pyarrow -->``.  A block that is a file with a name is part of something larger, which
another test runs (test_cookbook.py).

In the references, a fence without a language that follows a heading is a signature, and must be
that of the code.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from enum import IntFlag
from pathlib import Path
from typing import Any

import posix_shm
import pytest

from .pages import Block, blocks_of, headings_of, made_unique, prose_of, shared_names
from .support import ROOT, run_python

API = ROOT / "docs" / "api-reference.md"
FFI = ROOT / "docs" / "ffi-reference.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "CHANGELOG.md", *sorted((ROOT / "benchmarks").glob("*.md"))]

LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


EXAMPLES = [
    block
    for page in PAGES
    for block in blocks_of(page)
    if block.language == "python" and block.file is None
]


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: f"{block.page.name}:{block.line}")
def test_each_example_runs_as_it_stands(block: Block, tmp_path: Path) -> None:
    assert [name for name in shared_names(block.source) if not name.startswith("my-")] == []
    block.skip_without_needs()
    example = tmp_path / "example.py"
    example.write_text(made_unique(block.source), encoding="utf-8")
    # By its path, so that multiprocessing finds it in a second process.
    done = run_python(
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')",
        str(example),
        options=("-W", "always::ResourceWarning"),
    )
    assert done.stderr == ""


def test_readme_begins_with_one_command_for_the_demo_and_one_for_the_tests() -> None:
    commands = [b.source for b in blocks_of(ROOT / "README.md") if b.language == "sh"][:2]
    assert [command.count("\n") for command in commands] == [1, 1]
    demo, tests = commands
    assert "pip install" in demo
    assert demo.rstrip().endswith("-m posix_shm demo")
    assert "pip install" in tests
    assert "-m pytest" in tests
    assert not any("-e" in command.split() for command in commands)


# ---- the references ------------------------------------------------------


def public_members(kind: type) -> Iterator[tuple[str, object]]:
    """What a class of ours defines without an underscore."""
    for name, member in inspect.getmembers(kind):
        inherited = any(name in vars(base) for base in (object, OSError, int))
        if not name.startswith("_") and not inherited:
            yield name, member


def public_names() -> dict[str, object]:
    """Every public name of the package but ffi's, as the API reference writes it."""
    names: dict[str, object] = {name: getattr(posix_shm, name) for name in posix_shm.__all__}
    for kind, written in ((posix_shm.SharedMemoryObject, "shm"), (posix_shm.Mapping, "mapping")):
        names |= {f"{written}.{name}": member for name, member in public_members(kind)}
    for module in pkgutil.iter_modules(posix_shm.__path__):
        if not module.name.startswith("_") and module.name != "ffi":
            wing = importlib.import_module(f"posix_shm.{module.name}")
            names |= {
                f"{module.name}.{name}": getattr(wing, name)
                for name in wing.__all__
                if name not in posix_shm.__all__
            }
    return names


def ffi_names() -> dict[str, object]:
    """Every public name of the lower stratum."""
    ffi = importlib.import_module("posix_shm.ffi")
    return {name: getattr(ffi, name) for name in ffi.__all__}


@pytest.mark.parametrize("name", public_names())
def test_each_public_name_has_a_heading_in_the_api_reference(name: str) -> None:
    assert re.search(rf"`{re.escape(name)}`", "\n".join(headings_of(API)))


@pytest.mark.parametrize("name", ffi_names())
def test_each_name_of_ffi_is_in_the_ffi_reference(name: str) -> None:
    assert re.search(rf"`{name}`", FFI.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "kind", [posix_shm.OpenFlag, posix_shm.Permission, posix_shm.Protection, posix_shm.MapFlag]
)
def test_each_word_for_a_flag_is_in_the_api_reference(kind: type[IntFlag]) -> None:
    text = API.read_text(encoding="utf-8")
    words = [member.lower().replace("_", "-") for member in kind.__members__]
    assert [word for word in words if f"`{word}`" not in text] == []


def written_signatures(page: Path) -> dict[str, str]:
    """Each fence of one definition without a language: the name in it, and its parameters."""
    found = {}
    for block in blocks_of(page):
        if block.language == "" and (head := re.match(r"([\w.]+)\(", block.source)):
            name = head[1]
            definition = "def f" + block.source[len(name) :].rstrip() + ": pass"
            function = ast.parse(definition).body[0]
            assert isinstance(function, ast.FunctionDef)
            found[name] = ast.unparse(function.args)
    return found


def real_signature(value: Callable[..., Any]) -> str:
    """The parameters as they are written in the source, less self and the annotations."""
    signature = inspect.signature(value)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if name != "self"
    ]
    text = str(inspect.Signature(parameters)).replace("Ellipsis", "...")
    function = ast.parse(f"def f{text}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    return ast.unparse(function.args)


def is_called(value: object) -> bool:
    """Whether a name is called, and what it takes is our affair."""
    return callable(value) and not (
        isinstance(value, type) and issubclass(value, (BaseException, int, posix_shm.Mapping))
    )


@pytest.mark.parametrize(
    ("page", "name", "value"),
    [
        pytest.param(page, name, value, id=name)
        for page, names in ((API, public_names()), (FFI, ffi_names()))
        for name, value in names.items()
        if is_called(value)
    ],
)
def test_each_signature_in_a_reference_is_that_of_the_code(
    page: Path, name: str, value: Callable[..., Any]
) -> None:
    assert written_signatures(page).get(name) == real_signature(value)


# ---- links ---------------------------------------------------------------


def anchors_of(page: Path) -> set[str]:
    """What the headings of a page are called in links to it, as GitHub does it."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings_of(page)
    }


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_each_relative_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(prose_of(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors_of(linked), f"{target}#{anchor}"
