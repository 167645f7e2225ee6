"""Who makes an object may be killed at any moment."""

from __future__ import annotations

import re

import pytest

from .elsewhere import hunt

MIB = 1 << 20


@pytest.mark.parametrize("mode", ["create", "truncate", "anonymous", "reserve"])
def test_a_killed_creator_leaves_whole_objects_and_no_other_name(mode: str) -> None:
    printed = hunt("kill", "--mode", mode, "--kills", "30", dev_shm=MIB)
    assert printed == f"{mode}: 30 kills, 0 temporary names left\n"


def test_a_killed_superseder_leaves_whole_objects_and_at_most_its_temporary_name() -> None:
    printed = hunt("kill", "--mode", "supersede", "--kills", "30", dev_shm=MIB)
    assert re.fullmatch(r"supersede: 30 kills, \d+ temporary names left\n", printed)
