"""The command line: ``python -m posix_shm``, also installed as ``posix-shm``."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import signal
import stat
import sys

from . import ShmError, ShmPermissionError, delete_shm, open_shm
from ._open import fresh_name
from ._show import blind_spots, details, listing, message, on_one_line, question, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._shm import SharedMemoryObject
    from ._survey import Found, Survey

PROGRAM = "posix-shm"


def _complain(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr)


def _is_something_else(name: str) -> bool:
    """Whether the name is a directory's, say, or a pipe's.

    Anybody may put a pipe there, and opening it would wait for somebody who writes into it.
    """
    from ._survey import path_of

    try:
        return not stat.S_ISREG(os.lstat(path_of(f"/{name.removeprefix('/')}")).st_mode)
    except OSError:  # opening it will say why
        return False


def _open(name: str) -> SharedMemoryObject:
    if name.strip("/") and _is_something_else(name):
        raise OSError(errno.EINVAL, "it is no shared memory object", name)
    # With the default for missing objects comes a hint how to make one, in Python.
    return open_shm(name, if_does_not_exist="error")


# ---- demo --------------------------------------------------------------------------------------

COUNT = 10


def _demo(args: argparse.Namespace) -> int:
    """The seed's usage example, with the reader in a second process."""
    if args.read is not None:
        return _read_demo(args.read)
    import subprocess

    item_size = memoryview(b"").cast("i").itemsize
    name = fresh_name()
    with open_shm(name, direction="io", if_exists="error", size=COUNT * item_size) as shm:
        try:
            print(f"made {shm.name}, {shm.size} bytes")
            with shm.mmap(protections="write") as mapping, memoryview(mapping).cast("i") as ints:
                for i in range(COUNT):
                    ints[i] = i * 10
                print(f"wrote {COUNT} ints through a mapping in this process", flush=True)
                reader = [sys.executable, "-m", "posix_shm", "demo", "--read", name]
                code = subprocess.run(reader, check=False).returncode
        finally:
            delete_shm(name)
    print(f"deleted {name}")
    return code


def _read_demo(name: str) -> int:
    """The second process."""
    with _open(name) as shm, shm.mmap() as mapping, memoryview(mapping).cast("i") as ints:
        print("read through a mapping in another process, without a copy:")
        print(*ints)
    return 0


# ---- ls and stat -------------------------------------------------------------------------------


def _ls(args: argparse.Namespace) -> int:
    from ._survey import objects, survey

    found = [one for one in objects() if one.matches(args.names)]
    missing = _unmatched(args.names, found)
    seen = survey(found)
    if args.json:
        import json

        print(json.dumps([record(one, seen) for one in found], indent=2))
    else:
        print(listing(found, seen, in_bytes=args.bytes))
    _complain_of_missing(missing)
    _complain_of_blind_spots(seen)
    return 1 if missing else 0


def _unmatched(patterns: list[str], found: list[Found]) -> list[str]:
    """The patterns that no object is like."""
    return [name for name in patterns if not any(one.matches([name]) for one in found)]


def _complain_of_missing(names: list[str]) -> None:
    for name in names:
        _complain(f"{on_one_line(name)}: {os.strerror(errno.ENOENT)}")


def _stat(args: argparse.Namespace) -> int:
    from ._survey import Found, path_of, survey

    try:
        with _open(args.name) as shm:
            one, seals = Found(str(shm.name), shm.stat()), _seals(shm)
    except ShmPermissionError as error:
        one = Found(error.filename, os.lstat(path_of(error.filename)))
        seals = "? (no permission to open it)"
    seen = survey([one])
    print(details(one, seals, seen))
    _complain_of_blind_spots(seen)
    return 0


def _seals(shm: SharedMemoryObject) -> str:
    try:
        seals = shm.seals
    except ShmError:  # the system has none
        seals = frozenset({"seal"})
    return "it can't be sealed" if seals == {"seal"} else ", ".join(sorted(seals))


def _complain_of_blind_spots(seen: Survey) -> None:
    for spot in blind_spots(seen):
        _complain(spot)


# ---- create, cat and rm ------------------------------------------------------------------------


def _create(args: argparse.Namespace) -> int:
    with open_shm(
        args.name,
        direction="io",
        if_exists=args.if_exists,
        if_does_not_exist="create",
        permissions=0o600 if args.mode is None else args.mode,
        size=args.size,
    ) as shm:
        if args.mode is not None:  # all of it, as `mkdir -m` does, whatever the umask is
            shm.chmod(args.mode)
    return 0


def _cat(args: argparse.Namespace) -> int:
    with _open(args.name) as shm:
        if shm.size > 0:
            with shm.mmap(guard=True) as mapping:
                try:
                    _write(memoryview(mapping))
                except OSError as error:
                    if error.errno != errno.EFAULT:
                        raise
                    text = "became shorter while it was read"
                    raise OSError(errno.EFAULT, text, shm.name) from None
    return 0


def _write(rest: memoryview) -> None:
    while rest:  # with PYTHONUNBUFFERED not all is written at once
        rest = rest[sys.stdout.buffer.write(rest) :]


def _rm(args: argparse.Namespace) -> int:
    if args.unused:
        return _rm_unused(args.names, ask=not args.yes, force=args.force)
    if not args.names and not args.force:
        args.fail("NAME or --unused is required")
    code = 0
    for name in args.names:
        try:
            delete_shm(name)
        except ShmError as error:
            if _is_pattern(name):
                error.add_note("patterns are for --unused")
            code |= _not_removed(error, args.force)
    return code


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?[")


def _not_removed(error: OSError, force: bool) -> int:
    """Say why; the exit code of that."""
    if force and isinstance(error, FileNotFoundError):
        return 0
    _complain(message(error))
    return 1


def _rm_unused(patterns: list[str], *, ask: bool, force: bool) -> int:
    from ._survey import delete_if_unused, objects, survey

    found = [one for one in objects() if one.matches(patterns)]
    ours = [one for one in found if one.is_ours_to_delete]
    seen = survey(ours)
    unused = [one for one in ours if not seen.holders(one)]
    if patterns:
        _complain_of_kept(found, seen)
    code = 0
    missing = [name for name in _unmatched(patterns, found) if not _is_pattern(name)]
    if missing and not force:
        _complain_of_missing(missing)
        code = 1
    _complain_of_blind_spots(seen)
    if not unused:
        print("no unused objects")
        return code
    print(listing(unused, seen), flush=True)
    if ask:
        answer = _answer(question(unused))
        if answer.strip().lower() not in ("y", "yes"):
            return code
    for one in unused:
        try:
            if not delete_if_unused(one):
                _complain(f"{on_one_line(one.name)}: left alone, because somebody uses it now")
        except OSError as error:
            code |= _not_removed(error, force)
    return code


def _complain_of_kept(found: list[Found], seen: Survey) -> None:
    """Say why what was named is not removed."""
    for one in found:
        if not one.is_ours_to_delete:
            _complain(f"{on_one_line(one.name)}: left alone, because it is not yours to remove")
        elif seen.holders(one):
            _complain(f"{on_one_line(one.name)}: left alone, because somebody uses it")


def _answer(text: str) -> str:
    print(text, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print(file=sys.stderr)
        raise OSError("nobody answers, so nothing was removed; --yes does not ask")
    return answer


# ---- the command line itself -------------------------------------------------------------------


def _size(text: str) -> int:
    """The number of bytes that a user means."""
    match = re.fullmatch(r"([0-9]+)(?:([KMGT])(?:iB)?)?", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 4096, 64M or 2GiB")
    number, unit = match.groups("")
    size = int(number) << 10 * " KMGT".index(unit.upper() or " ")
    if size > sys.maxsize:
        raise argparse.ArgumentTypeError(f"{text} is more than there can be")
    return size


def _mode(text: str) -> int:
    """Permissions, in octal."""
    if re.fullmatch("0?[0-7]{3}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not three octal digits such as 640")
    return int(text, 8)


class _ShowVersion(argparse.Action):
    """Only looks the version up, which takes its time, if it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(PROGRAM, version(PROGRAM))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="List, make, read and remove POSIX shared memory objects."
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show which this is")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    of_the_object = "of the object, with or without its slash"
    or_a_pattern = "or a pattern such as 'frames-*'"

    demo = commands.add_parser(
        "demo",
        help="write ten ints in one process, read them in another",
        description="Write ten ints through a mapping of a new shared memory object, read them "
        "through a mapping in a second process, and delete the object.",
    )
    demo.add_argument("--read", metavar="NAME", help=argparse.SUPPRESS)  # for that process
    demo.set_defaults(run=_demo, fail=demo.error)

    ls = commands.add_parser(
        "ls",
        help="list the objects, and who holds them",
        description="List the shared memory objects, and the processes that have them mapped or "
        "open. RESIDENT is the memory that an object takes. AGE is the time since it got its size "
        'or was written to, but not through a mapping. Under HELD BY, "-" is nobody, and "?" is '
        "nobody among the processes that could be looked into.",
    )
    ls.add_argument("names", nargs="*", metavar="NAME", help=f"{of_the_object}, {or_a_pattern}")
    ls.add_argument("--bytes", action="store_true", help="show sizes exactly")
    ls.add_argument("--json", action="store_true", help="for programs; numbers are exact")
    ls.set_defaults(run=_ls, fail=ls.error)

    stat = commands.add_parser(
        "stat",
        help="tell everything about an object",
        description="Show an object's size, permissions, times and seals, and the processes that "
        "have it mapped or open.",
    )
    stat.add_argument("name", metavar="NAME", help=of_the_object)
    stat.set_defaults(run=_stat, fail=stat.error)

    create = commands.add_parser(
        "create",
        help="make an object",
        description="Make an object of zeros, and reserve its memory.",
    )
    create.add_argument("name", metavar="NAME", help=of_the_object)
    create.add_argument(
        "size",
        type=_size,
        metavar="SIZE",
        help="bytes, or with K, M, G, T (or KiB, ...): powers of 1024",
    )
    create.add_argument(
        "--mode", type=_mode, help="permissions, in octal; without it 600, less the umask"
    )
    create.add_argument(
        "--if-exists",
        choices=("error", "truncate", "supersede"),
        default="error",
        help="what to do with an object of this name: fail (the default); empty it and give it "
        "the new size; leave it to those who have it, and give its name to a new one",
    )
    create.set_defaults(run=_create, fail=create.error)

    cat = commands.add_parser(
        "cat",
        help="write the content of an object to standard output",
        description="Write the content of an object to standard output.",
    )
    cat.add_argument("name", metavar="NAME", help=of_the_object)
    cat.set_defaults(run=_cat, fail=cat.error)

    rm = commands.add_parser(
        "rm",
        help="remove objects",
        description="Remove the names of objects. Processes that hold an object keep it; its "
        "memory is free when the last of them lets go of it.",
    )
    rm.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{of_the_object}, {or_a_pattern} if there is --unused",
    )
    rm.add_argument(
        "--unused",
        action="store_true",
        help="remove what no process holds of your objects (as root: of everybody's), or of those "
        "named; lists it and asks first; leaves semaphores alone",
    )
    rm.add_argument("--yes", action="store_true", help="with --unused: do not ask")
    rm.add_argument("-f", "--force", action="store_true", help="ignore names that do not exist")
    rm.set_defaults(run=_rm, fail=rm.error)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    :param arguments: those after the program's name; ``None`` means the process's own.
    :returns: the exit code.
    """
    _have_standard_streams()
    args, rest = _parser().parse_known_args(arguments)
    if rest:
        args.fail(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads has enough
        code = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except OSError as error:
        _complain(message(error))
        code = 1
    try:
        sys.stdout.flush()
    except OSError:  # it will never be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _have_standard_streams() -> None:
    """Have all three, whatever was closed before us, and print whatever names there are."""
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
