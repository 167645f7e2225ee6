"""Names for shared memory objects, and a check that each test leaves nothing behind."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from . import support

_numbers = itertools.count()

# How long an example takes says nothing on a machine that is busy with other tests.
settings.register_profile("posix_shm", deadline=None)
settings.load_profile("posix_shm")


def pytest_collection_finish() -> None:
    """Take what was there before the tests out of every collection after one of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test there are the descriptors, mappings and objects that there were before.

    A test that fails is not blamed for what its traceback keeps alive.
    """
    if not Path("/proc/self/maps").exists():
        yield
        return
    failures = request.session.testsfailed
    descriptors = support.descriptors()
    mappings = support.shared_mappings()

    def left() -> dict[str, object]:
        kinds = {
            "descriptors": dict(support.descriptors().items() - descriptors.items()),
            "mappings": support.shared_mappings() - mappings,
        }
        return {kind: found for kind, found in kinds.items() if found}

    yield
    objects = support.objects()
    for name in objects:
        support.path_of(name).unlink()
    if request.session.testsfailed > failures:
        return
    if left():  # in a cycle, maybe; to collect after every test takes longer than most of them
        gc.collect()
    assert not left(), f"left behind: {left()}"
    assert not objects, f"left behind: {objects}"
    if failures == 0:  # else these may have been in the traceback of a test before this one
        closed = dict(descriptors.items() - support.descriptors().items())
        assert not closed, f"closed somebody else's descriptors: {closed}"


@pytest.fixture
def names() -> Iterator[support.NameFactory]:
    """Makes canonical names that no other process and no other test has.

    What they refer to at the end of the test is deleted.
    """
    made = []

    def make() -> str:
        made.append(f"{support.PREFIX}{next(_numbers)}")
        return made[-1]

    yield make
    for name in made:
        support.path_of(name).unlink(missing_ok=True)


@pytest.fixture
def name(names: support.NameFactory) -> str:
    """A canonical name that no other process and no other test has."""
    return names()
