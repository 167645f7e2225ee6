"""Whoever makes objects is killed at random moments.

A child does one of these over and over until SIGKILL ends it:

    create     makes an object with content and a size, and deletes it
    supersede  makes one in the place of the one before
    truncate   empties one without making it shorter
    anonymous  makes one without a name
    reserve    reserves memory for one with content, and truncates it again

Afterwards an object that has the name must be whole, no other name may be there, and the memory of
whatever had no name yet must be free again.  Only "supersede" may leave a name, `.psm-*`, if it is
killed between its last two system calls; how often it did is printed.

Needs a /dev/shm to which nobody else writes: `unshare -m`, and a tmpfs mounted over it.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
from pathlib import Path
from typing import Literal, NoReturn

import posix_shm

from ._common import parser

NAME = "/victim"
SIZE = 64 * 4096
CONTENT = bytes(range(256)) * 16
DIRECTORY = Path("/dev/shm")

Mode = Literal["create", "supersede", "truncate", "anonymous", "reserve"]
MODES: tuple[Mode, ...] = ("create", "supersede", "truncate", "anonymous", "reserve")


def step(mode: Mode) -> None:
    """What the child does over and over."""
    if mode == "anonymous":
        posix_shm.open_anonymous_shm(direction="io", size=SIZE).close()
    elif mode == "reserve":
        with posix_shm.open_shm(NAME, direction="io") as shm:
            shm.reserve(SIZE)
            shm.truncate(len(CONTENT))
    elif mode == "create":
        posix_shm.open_shm(NAME, direction="io", if_exists="error", size=SIZE).close()
        posix_shm.delete_shm(NAME)
    else:
        posix_shm.open_shm(
            NAME, direction="io", if_exists=mode, if_does_not_exist="create", size=SIZE
        ).close()


def prepare(mode: Mode) -> None:
    """What there is before the child begins."""
    if mode == "reserve":
        (DIRECTORY / NAME[1:]).write_bytes(CONTENT)


def child(mode: Mode, ready: int) -> NoReturn:
    """Says that it has begun, and goes on."""
    try:
        step(mode)
        os.write(ready, b".")
        while True:
            step(mode)
    finally:
        os._exit(1)


def kill_one(mode: Mode) -> None:
    """Starts a child and kills it within a few milliseconds."""
    began, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(mode, ready)
    os.close(ready)
    if not os.read(began, 1):
        sys.exit(f"{mode}: the child failed")
    select.select([began], [], [], random.uniform(0, 0.003))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(began)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{mode}: {status}"


def check_whole(mode: Mode) -> None:
    """What has the name is as long as promised, and all its memory is there."""
    found = os.stat(DIRECTORY / NAME[1:])
    if mode == "reserve":
        assert found.st_size in {len(CONTENT), SIZE}
        assert (DIRECTORY / NAME[1:]).read_bytes()[: len(CONTENT)] == CONTENT
        return
    assert found.st_size == SIZE, f"{found.st_size} bytes long instead of {SIZE}"
    # "truncate" is killed while there is no memory, too: its object existed before.
    assert mode == "truncate" or found.st_blocks * 512 == SIZE, f"{found.st_blocks} blocks"


def check(mode: Mode, free: int) -> int:
    """Looks at what the child left, and removes it; returns how many names it left too many."""
    names = set(os.listdir(DIRECTORY))
    strays = {name for name in names if name.startswith(".psm-")} if mode == "supersede" else set()
    for name in strays:
        (DIRECTORY / name).unlink()
    names -= strays
    whole = {NAME[1:]}
    assert names == whole or (mode in {"create", "anonymous"} and not names), names
    if names:
        check_whole(mode)
        (DIRECTORY / NAME[1:]).unlink()
    assert free_bytes() == free, "memory was lost"
    return len(strays)


def free_bytes() -> int:
    """What the file system of shared memory has left."""
    found = os.statvfs(DIRECTORY)
    return found.f_bavail * found.f_frsize


def main() -> None:
    """The program."""
    options = parser(__doc__)
    options.add_argument("--mode", choices=MODES, action="append", help="one or more (all)")
    options.add_argument("--kills", type=int, default=1000, help="in each mode (%(default)s)")
    arguments = options.parse_args()
    if os.listdir(DIRECTORY):
        sys.exit("somebody else uses this /dev/shm")
    modes: list[Mode] = arguments.mode or list(MODES)
    for mode in modes:
        free = free_bytes()
        strays = 0
        for _ in range(arguments.kills):
            prepare(mode)
            kill_one(mode)
            strays += check(mode, free)
        print(f"{mode}: {arguments.kills} kills, {strays} temporary names left", flush=True)


if __name__ == "__main__":
    main()
