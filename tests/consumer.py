"""A program that uses the package, for type checkers to read; nobody runs it.

What is right here must pass them, with exactly the types that are stated.  What is wrong is marked
as ignored, and a mark without an error to ignore is an error.
"""
# ruff: noqa: B018

from __future__ import annotations

import pathlib
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import posix_shm
from posix_shm import (
    Mapping,
    Permission,
    Protection,
    SharedMemoryObject,
    ShmError,
    compat,
    ffi,
    is_open_shm,
    make_shm,
    npy,
    open_anonymous_shm,
    open_anonymous_shm_and_mmap,
    open_shm,
    open_shm_and_mmap,
    opened_shm,
)

Both = tuple[SharedMemoryObject, Mapping]


def opening(name: str) -> None:
    assert_type(open_shm(name), SharedMemoryObject)
    assert_type(
        open_shm(name, direction="io", if_exists="error", size=10),
        SharedMemoryObject,
    )
    assert_type(
        open_shm(name, if_exists="supersede", if_does_not_exist="create"),
        SharedMemoryObject,
    )
    assert_type(
        open_shm(name, if_exists=None, if_does_not_exist="create"),
        SharedMemoryObject | None,
    )
    assert_type(open_shm(name, if_does_not_exist=None), SharedMemoryObject | None)
    assert_type(open_shm(b"name", permissions=["rusr", Permission.RGRP]), SharedMemoryObject)
    assert_type(open_shm(pathlib.Path("name"), permissions=0o600), SharedMemoryObject)
    assert_type(open_anonymous_shm(direction="io"), SharedMemoryObject)
    assert_type(make_shm(3), SharedMemoryObject)
    assert_type(ffi.shm_open(name, "rdwr", 0o600), int)
    assert_type(ShmError().name, str | None)


def opening_wrongly(name: str) -> None:
    open_shm(name, direction="output")  # type: ignore[call-overload]
    open_shm(name, if_exists="append")  # type: ignore[call-overload]
    open_shm(name, if_does_not_exist="make")  # type: ignore[call-overload]
    open_shm(5)  # type: ignore[call-overload]
    open_shm(name, "io")  # type: ignore[call-overload]
    open_shm(name, permissions=1.5)  # type: ignore[call-overload]
    open_shm(name, if_does_not_exist=None).size  # type: ignore[union-attr]
    posix_shm.bogus  # type: ignore[attr-defined]


def entering(name: str, mapping: Mapping) -> None:
    with open_shm(name) as shm:
        assert_type(shm, SharedMemoryObject)
    with opened_shm(name) as shm:
        assert_type(shm, SharedMemoryObject)
    with opened_shm(name, if_does_not_exist=None) as perhaps:
        assert_type(perhaps, SharedMemoryObject | None)
    with mapping as entered:
        assert_type(entered, Mapping)
    with open_shm_and_mmap(name, 10) as both:
        assert_type(both, Both)
    with open_shm_and_mmap(name, 10, if_exists=None) as both_or_none:
        assert_type(both_or_none, Both | tuple[None, None])
    with open_anonymous_shm_and_mmap(10) as both:
        assert_type(both, Both)


def mapping(shm: SharedMemoryObject) -> None:
    mapping = shm.mmap(10, protections="read")
    assert_type(mapping, Mapping)
    assert_type(mapping[0], int)
    assert_type(mapping[0:1], bytes)
    assert_type(mapping.protections, Protection)
    assert_type(memoryview(mapping), memoryview[int])
    assert_type(memoryview(shm), memoryview[int])
    mapping.nbytes + "1"  # type: ignore[operator]


def narrowing(value: object) -> None:
    if is_open_shm(value):
        assert_type(value, SharedMemoryObject)


def arrays(name: str) -> None:
    assert_type(npy.create(name, (2, 3), "f8"), npt.NDArray[Any])
    assert_type(npy.attach(name), npt.NDArray[Any])
    npy.save(name, np.arange(10), if_exists="supersede")
    npy.save(name, np.arange(10), if_exists="overwrite")  # type: ignore[arg-type]


def dropping_in(name: str) -> None:
    shm = compat.SharedMemory(name, create=True, size=10)
    assert_type(shm.buf, memoryview[int] | None)
    assert_type(shm.size, int)
