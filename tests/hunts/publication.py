"""Attachers against whoever makes the object, in separate processes.

A maker makes an object of one name over and over:

    create     and deletes it each time; an attacher may find no name
    supersede  in the place of the one before; an attacher always finds a name
    truncate   empties it without making it shorter; an attacher always finds the name

Whatever an attacher opens must be as long as promised, and the last byte must have memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Literal

import posix_shm

from ._common import timed_parser

SIZE = 3 * 4096 + 1
Mode = Literal["create", "supersede", "truncate"]
MODES: tuple[Mode, ...] = ("create", "supersede", "truncate")

# How often an attacher also maps what it opened, and how often it looks at the clock.
MAP_EVERY = 64
CLOCK_EVERY = 1024

_processes = multiprocessing.get_context("spawn")


def make(mode: Mode, name: str, stop: Connection) -> None:
    """The maker; sends how many objects it made when it is told to stop."""
    made = 0
    if_exists: Literal["error", "supersede", "truncate"] = "error" if mode == "create" else mode
    while not stop.poll():
        posix_shm.open_shm(
            name, direction="io", if_exists=if_exists, if_does_not_exist="create", size=SIZE
        ).close()
        made += 1
        if made == 1:
            stop.send(made)
        if mode == "create":
            posix_shm.delete_shm(name)
    stop.send(made)


def attach(mode: Mode, name: str, attaches: int, seconds: float, result: Connection) -> None:
    """An attacher; sends how many objects it found, and how often there was none."""
    found = missed = 0
    end = time.monotonic() + seconds
    while found < attaches and ((found + missed) % CLOCK_EVERY or time.monotonic() < end):
        shm = posix_shm.open_shm(name, if_does_not_exist=None)
        if shm is None:
            missed += 1
            assert mode == "create", "the name was missing"
            continue
        found += 1
        assert shm.size == SIZE, f"{shm.size} bytes long instead of {SIZE}"
        if found % MAP_EVERY == 0:
            with shm.mmap() as mapping:
                assert mapping[-1] == 0
        shm.close()
    result.send((found, missed))


def hunt(mode: Mode, options: argparse.Namespace) -> None:
    """One maker, several attachers; prints what they did."""
    name = f"/psm-hunt-{os.getpid()}-{secrets.token_hex(4)}"
    control, stop = _processes.Pipe()
    maker = _processes.Process(target=make, args=(mode, name, stop))
    maker.start()
    control.recv()
    each = options.attaches // options.attachers or sys.maxsize
    pipes = [_processes.Pipe(duplex=False) for _ in range(options.attachers)]
    attachers = [
        _processes.Process(target=attach, args=(mode, name, each, options.seconds, result))
        for _, result in pipes
    ]
    start = time.monotonic()
    for attacher in attachers:
        attacher.start()
    for _, result in pipes:
        result.close()
    try:
        counts = [receiver.recv() for receiver, _ in pipes]
    except EOFError:
        sys.exit(f"{mode}: an attacher failed")
    finally:
        took = time.monotonic() - start
        control.send("stop")
        made = control.recv()
        for process in (maker, *attachers):
            process.join()
        for connection in (control, stop, *(receiver for receiver, _ in pipes)):
            connection.close()
        with suppress(posix_shm.ShmDoesNotExistError):
            posix_shm.delete_shm(name)
    found, missed = (sum(column) for column in zip(*counts, strict=True))
    print(
        f"{mode}: {found} attaches ({missed} found no name), {made} objects made, {took:.0f} s",
        flush=True,
    )
    assert found > 0


def main() -> None:
    """The program."""
    options = timed_parser(__doc__)
    options.add_argument("--mode", choices=MODES, action="append", help="one or more (all)")
    options.add_argument("--attachers", type=int, default=2, help="processes (%(default)s)")
    options.add_argument("--attaches", type=int, default=0, help="stop after so many")
    arguments = options.parse_args()
    modes: list[Mode] = arguments.mode or list(MODES)
    for mode in modes:
        hunt(mode, arguments)


if __name__ == "__main__":
    main()
