"""How the functions and methods that are written in C take their arguments."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import posix_shm
import pytest
from posix_shm import Mapping, Protection, SharedMemoryObject

from .support import PAGE, exists, mode_of

SIZE = 4 * PAGE


class Subjects(NamedTuple):
    """What the calls are made on."""

    name: str  # of an object that exists
    shm: SharedMemoryObject
    mapping: Mapping


class Case(NamedTuple):
    """A call of a function with all of its parameters, and what it must come to."""

    function: Callable[[Subjects], Callable[..., Any]]
    arguments: dict[str, Any]
    positional: int  # how many may be given without their names
    required: int
    check: Callable[[Subjects, Any], object]


def _opened(subjects: Subjects, shm: SharedMemoryObject) -> None:
    with shm:
        assert (shm.direction, shm.size) == ("io", 7)
        assert mode_of(subjects.name) == 0o640


def _mapped(subjects: Subjects, mapping: Mapping) -> None:
    with mapping:
        assert (len(mapping), mapping.offset) == (5, PAGE + 1)
        assert mapping.protections == Protection.READ
        assert mapping.flags == posix_shm.MapFlag.PRIVATE


def _true(condition: object) -> None:
    assert condition


CASES: dict[str, Case] = {
    "open_shm": Case(
        lambda _: posix_shm.open_shm,
        {
            "name": "",
            "direction": "io",
            "if_exists": "supersede",
            "if_does_not_exist": "create",
            "permissions": 0o640,
            "size": 7,
        },
        1,
        1,
        _opened,
    ),
    "delete_shm": Case(
        lambda _: posix_shm.delete_shm,
        {"name": ""},
        1,
        1,
        lambda subjects, _: _true(not exists(subjects.name)),
    ),
    "mmap": Case(
        lambda subjects: subjects.shm.mmap,
        {
            "length": 5,
            "addr": 0,
            "protections": "read",
            "flags": "private",
            "offset": PAGE + 1,
            "guard": True,
        },
        1,
        0,
        _mapped,
    ),
    "truncate": Case(
        lambda subjects: subjects.shm.truncate,
        {"size": 7},
        1,
        1,
        lambda subjects, _: _true(subjects.shm.size == 7),
    ),
    "reserve": Case(
        lambda subjects: subjects.shm.reserve,
        {"size": 2 * SIZE},
        1,
        0,
        lambda subjects, _: _true(subjects.shm.size == 2 * SIZE),
    ),
    "chmod": Case(
        lambda subjects: subjects.shm.chmod,
        {"permissions": 0o640},
        1,
        1,
        lambda subjects, _: _true(mode_of(subjects.name) == 0o640),
    ),
    "chown": Case(
        lambda subjects: subjects.shm.chown,
        {"uid": os.getuid(), "gid": os.getgid()},
        2,
        0,
        lambda subjects, _: _true(subjects.shm.stat().st_uid == os.getuid()),
    ),
    "protect": Case(
        lambda subjects: subjects.mapping.protect,
        {"protections": "read"},
        1,
        1,
        lambda subjects, _: _true(subjects.mapping.readonly),
    ),
    "advise": Case(
        lambda subjects: subjects.mapping.advise,
        {"advice": "normal", "offset": PAGE, "length": PAGE},
        3,
        1,
        lambda _, result: _true(result is None),
    ),
    "flush": Case(
        lambda subjects: subjects.mapping.flush,
        {"offset": PAGE, "length": PAGE},
        2,
        0,
        lambda _, result: _true(result is None),
    ),
    "populate": Case(
        lambda subjects: subjects.mapping.populate,
        {"write": False, "workers": 2},
        0,
        0,
        lambda _, result: _true(result is None),
    ),
}


@pytest.fixture
def subjects(name: str) -> Any:
    """An object, and a mapping of it."""
    with (
        posix_shm.open_shm(name, direction="io", if_exists="error", size=SIZE) as shm,
        shm.mmap() as mapping,
    ):
        yield Subjects(name, shm, mapping)


def _arguments(case: Case, subjects: Subjects) -> dict[str, Any]:
    return {
        key: subjects.name if key == "name" else value for key, value in case.arguments.items()
    }


def _copy(text: str) -> str:
    """Equal, but another object, and never interned."""
    return "".join(list(text[:1]) + list(text[1:]))


class Text(str):
    """A string of another class, which does not change what it says."""


class Hostile(str):
    """A string that is compared with nothing."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> NoReturn:
        raise AssertionError("somebody compared it")

    __ne__ = __eq__


class Liar(str):
    """A string that says it is every other."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True


def _parametrized(cases: dict[str, Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


each = _parametrized(CASES)
each_with_positional = _parametrized({key: case for key, case in CASES.items() if case.positional})


@each
@pytest.mark.parametrize("text", [str, _copy, Text, Hostile], ids=lambda text: text.__name__)
def test_every_parameter_has_a_name_in_any_order_and_however_it_was_made(
    case: Case, text: Callable[[str], str], subjects: Subjects
) -> None:
    given = {text(key): value for key, value in reversed(_arguments(case, subjects).items())}
    case.check(subjects, case.function(subjects)(**given))


@each
def test_parameters_that_may_have_no_name_are_taken_in_their_order(
    case: Case, subjects: Subjects
) -> None:
    given = _arguments(case, subjects)
    positional = [given.pop(key) for key in list(given)[: case.positional]]
    case.check(subjects, case.function(subjects)(*positional, **given))


@each
def test_more_arguments_without_names_than_there_may_be_are_a_type_error(
    case: Case, subjects: Subjects
) -> None:
    values = [*_arguments(case, subjects).values(), None][: case.positional + 1]
    with pytest.raises(TypeError, match=f"{case.positional + 1} given"):
        case.function(subjects)(*values)


@each
@pytest.mark.parametrize("text", [str, Text, Hostile, Liar], ids=lambda text: text.__name__)
def test_an_unknown_name_of_an_argument_is_a_type_error(
    case: Case, text: Callable[[str], str], subjects: Subjects
) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nmae'"):
        case.function(subjects)(**_arguments(case, subjects), **{text("nmae"): 1})


@each_with_positional
@pytest.mark.parametrize("text", [str, _copy, Text], ids=lambda text: text.__name__)
def test_an_argument_that_is_given_twice_is_a_type_error(
    case: Case, text: Callable[[str], str], subjects: Subjects
) -> None:
    given = _arguments(case, subjects)
    (first, value), *_ = given.items()
    with pytest.raises(TypeError, match=f"multiple values for argument '{first}'"):
        case.function(subjects)(value, **{text(first): value})


@_parametrized({key: case for key, case in CASES.items() if case.required})
def test_a_required_argument_that_is_missing_is_a_type_error(
    case: Case, subjects: Subjects
) -> None:
    given = _arguments(case, subjects)
    for missing in list(given)[: case.required]:
        rest = {key: value for key, value in given.items() if key != missing}
        with pytest.raises(TypeError, match=f"missing required argument '{missing}'"):
            case.function(subjects)(**rest)


@pytest.mark.parametrize("text", [_copy, Text, Hostile], ids=lambda text: text.__name__)
def test_a_word_may_be_any_string_that_says_it(
    text: Callable[[str], str], subjects: Subjects
) -> None:
    with posix_shm.open_shm(
        subjects.name,
        direction=text("io"),  # type: ignore[call-overload]
        if_exists=text("truncate"),
        if_does_not_exist=text("error"),
    ) as shm:
        assert (shm.direction, shm.size) == ("io", 0)


@pytest.mark.parametrize("option", ["direction", "if_exists", "if_does_not_exist"])
def test_a_string_that_only_claims_to_be_a_word_is_a_value_error(
    option: str, subjects: Subjects
) -> None:
    options: Any = {option: Liar("inptu")}
    with pytest.raises(ValueError, match="inptu"):
        posix_shm.open_shm(subjects.name, **options)
