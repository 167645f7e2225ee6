"""The command line: ``python -m posix_shm``, also installed as ``posix-shm``."""

from __future__ import annotations

import argparse
import subprocess
import sys

from . import MmapError, ShmError, delete_shm, open_shm
from ._open import fresh_name

COUNT = 10


def _demo() -> None:
    """The seed's usage example, with the reader in a second process."""
    item_size = memoryview(b"").cast("i").itemsize
    name = fresh_name()
    with open_shm(name, direction="io", if_exists="error", size=COUNT * item_size) as shm:
        try:
            print(f"made {shm.name}, {shm.size} bytes")
            with shm.mmap(protections="write") as mapping, memoryview(mapping).cast("i") as ints:
                for i in range(COUNT):
                    ints[i] = i * 10
                print(f"wrote {COUNT} ints through a mapping in this process")
                sys.stdout.flush()
                reader = [sys.executable, "-m", "posix_shm", "demo", "--read", name]
                subprocess.run(reader, check=True)
        finally:
            delete_shm(name)
    print(f"deleted {name}")


def _demo_reader(name: str) -> None:
    """The second process."""
    with open_shm(name) as shm, shm.mmap() as mapping, memoryview(mapping).cast("i") as ints:
        print("read through a mapping in another process, without a copy:")
        print(*ints)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="posix-shm", description="POSIX shared memory.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="write ten ints in one process, read them in another",
        description="Write ten ints through a mapping of a new shared memory object, read them "
        "through a mapping in a second process, and delete the object.",
    )
    demo.add_argument("--read", metavar="NAME", help="be the second process")
    demo.set_defaults(run=lambda args: _demo_reader(args.read) if args.read else _demo())
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    :param arguments: those after the program's name; ``None`` means the process's own.
    :returns: the exit code.
    """
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except (ShmError, MmapError) as error:
        print(f"posix-shm: {error}", file=sys.stderr)
        return 1
    return 0
