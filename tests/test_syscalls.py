"""What the kernel sees: the flags of each system call, their order, and what errors lead to.

``strace`` shows the calls, and lets a chosen one fail or be interrupted by a signal, as a full
file system, an old kernel or another user's object would.
"""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .support import NameFactory, exists, mode_of, path_of


def can_trace() -> bool:
    """Whether this process may trace its children."""
    strace = shutil.which("strace")
    if strace is None:
        return False
    return subprocess.run([strace, "-o", "/dev/null", "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace can't be run here")

# The program's own calls come after this one.
MARK = "os.access('/mark', 0)\n"


@dataclass
class Call:
    """A line of strace's."""

    name: str
    arguments: str
    result: str

    @property
    def failed(self) -> bool:
        """Whether it returned -1."""
        return self.result.startswith("-1 ")

    @property
    def flags(self) -> set[str]:
        """The flags of an ``openat``."""
        found = re.search(r"\bO_[A-Z_|]+", self.arguments)
        assert found, self.arguments
        return set(found[0].split("|"))

    @property
    def objects(self) -> set[str]:
        """The names of objects among its arguments."""
        return set(re.findall(r'"/dev/shm(/[^"]+)"', self.arguments))


@dataclass
class Traced:
    """What a program did."""

    output: str
    calls: list[Call]

    def succeeded(self, *names: str) -> list[str]:
        """The names of the calls that succeeded, of some kinds, in their order."""
        return [call.name for call in self.calls if call.name in names and not call.failed]

    def of_object(self, name: str) -> list[Call]:
        """The calls that have the name of an object among their arguments."""
        return [call for call in self.calls if name in call.objects]

    def check_no_stray(self, name: str) -> None:
        """The program left no object of another name."""
        made_up = {other for call in self.calls for other in call.objects} - {name}
        assert not [other for other in made_up if exists(other)]


Trace = Callable[..., Traced]


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """Runs a program under strace, where some calls may fail.

    :param code: with ``name`` for its argument.
    :param inject: what strace's option of this name takes.
    :param paths: let only calls fail that touch one of these.
    """

    def run(code: str, name: str, *inject: str, paths: tuple[str, ...] = ()) -> Traced:
        log = tmp_path / "strace"
        calls = "access,close,openat,ftruncate,fallocate,linkat,rename,unlink,memfd_create"
        strace = ["strace", "-f", "-qq", "-o", str(log), "-s", "1000", "-e", f"trace={calls}"]
        if not any("signal=" in what for what in inject):  # which strace does not send then
            strace += ["--seccomp-bpf"]  # only these calls stop the program: far faster
        strace += [option for what in inject for option in ("-e", f"inject={what}")]
        strace += [option for path in ("/mark", *paths) for option in ("-P", path) if paths]
        head = "import os, signal, sys\nfrom posix_shm import *\nname = sys.argv[1]\n"
        python = [sys.executable, "-B", "-W", "error", "-c", head + MARK + code, name]
        done = subprocess.run([*strace, *python], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return Traced(done.stdout, parse(log.read_text(encoding="utf-8")))

    return run


def parse(log: str) -> list[Call]:
    """The calls after the mark."""
    lines = re.findall(r"^\d+ +(\w+)\((.*)\) += (.*)$", log, re.MULTILINE)
    calls = [Call(*line) for line in lines]
    mark = next(i for i, call in enumerate(calls) if '"/mark"' in call.arguments)
    return calls[mark + 1 :]


# ---- the twelve rows of the seed --------------------------------------------------------------

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("O_RDONLY", {}),
    ("O_RDONLY|O_CREAT", {"if_does_not_exist": "create"}),
    ("O_RDONLY|O_CREAT|O_EXCL", {"if_exists": "error", "if_does_not_exist": "create"}),
    ("O_RDONLY|O_TRUNC", {"if_exists": "truncate"}),
    ("O_RDONLY|O_CREAT|O_TRUNC", {"if_exists": "truncate", "if_does_not_exist": "create"}),
    ("O_RDONLY|O_CREAT|O_EXCL|O_TRUNC", {"if_exists": "error", "if_does_not_exist": "create"}),
    ("O_RDWR", {"direction": "io"}),
    ("O_RDWR|O_CREAT", {"direction": "io", "if_does_not_exist": "create"}),
    ("O_RDWR|O_CREAT|O_EXCL", {"direction": "io", "if_exists": "error"}),
    ("O_RDWR|O_TRUNC", {"direction": "io", "if_exists": "truncate"}),
    (
        "O_RDWR|O_CREAT|O_TRUNC",
        {"direction": "io", "if_exists": "truncate", "if_does_not_exist": "create"},
    ),
    ("O_RDWR|O_CREAT|O_EXCL|O_TRUNC", {"direction": "io", "if_exists": "error"}),
]


def test_each_row_of_the_seeds_table_is_one_openat_with_exactly_these_flags(
    names: NameFactory, trace: Trace
) -> None:
    rows = [(names(), *row) for row in ROWS]
    for name, flags, _ in rows:
        if "O_CREAT" not in flags:
            path_of(name).touch()
    code = "".join(
        f"open_shm({name!r}, permissions=0o640, **{options!r}).close()\n"
        for name, _, options in rows
    )
    done = trace(code, "")
    for name, flags, _ in rows:
        (opened,) = done.of_object(name)
        assert opened.name == "openat"
        wanted = set(flags.split("|"))
        if "O_EXCL" in wanted:  # a new object is empty
            wanted.discard("O_TRUNC")
        assert opened.flags == wanted | {"O_NOFOLLOW", "O_CLOEXEC"}
        assert opened.arguments.endswith(", 0640") == ("O_CREAT" in wanted)


# ---- in one step ------------------------------------------------------------------------------

CREATE = "open_shm(name, direction='io', if_exists='error', size=10000)"
SUPERSEDE = "open_shm(name, direction='io', if_exists='supersede', size=10000)"
TRUNCATE = "open_shm(name, direction='io', if_exists='truncate', size=10000)"
STEPS = ("ftruncate", "fallocate", "linkat", "rename", "unlink")


def test_a_new_object_gets_its_name_when_it_has_its_size_and_its_memory(
    name: str, trace: Trace
) -> None:
    done = trace(f"{CREATE}.close()", name)
    assert set(done.succeeded(*STEPS)[:-1]) == {"ftruncate", "fallocate"}
    assert done.succeeded(*STEPS)[-1] == "linkat"
    (named,) = done.of_object(name)
    assert named.name == "linkat"


def test_a_name_is_superseded_by_a_rename_and_never_unlinked(name: str, trace: Trace) -> None:
    path_of(name).touch()
    done = trace(f"{SUPERSEDE}.close()", name)
    assert set(done.succeeded(*STEPS)[:-2]) == {"ftruncate", "fallocate"}
    assert done.succeeded(*STEPS)[-2:] == ["linkat", "rename"]
    assert done.of_object(name)[-1].name == "rename"
    done.check_no_stray(name)


@pytest.mark.parametrize("size", [0, 10000])
@pytest.mark.parametrize("options", ["", ", direction='io'", ", sealable=True"])
def test_an_anonymous_object_has_no_name_at_any_moment(
    trace: Trace, options: str, size: int
) -> None:
    done = trace(f"open_anonymous_shm(size={size}{options}).close()", "")
    assert done.succeeded("openat", "memfd_create")
    assert not done.succeeded("linkat", "rename", "unlink")
    assert not {name for call in done.calls for name in call.objects}


# ---- errors in between ------------------------------------------------------------------------

CONTENT = b"what was there before"


def shown(call: str) -> str:
    """A program that says what a call raises."""
    return f"""
try:
    shm = {call}
    shm.close()
    print("no error")
except OSError as error:
    print(type(error).__name__, error.errno, error.filename)
"""


@pytest.mark.parametrize(
    "inject",
    [
        "ftruncate:error=EFBIG",
        "fallocate:error=ENOSPC",
        "linkat:error=EDQUOT",
    ],
)
@pytest.mark.parametrize("direction", ["io", "input"])
def test_creating_that_fails_half_way_leaves_nothing(
    name: str, trace: Trace, direction: str, inject: str
) -> None:
    call = f"open_shm(name, direction={direction!r}, if_does_not_exist='create', size=10000)"
    done = trace(shown(call), name, inject)
    error = getattr(errno, inject.partition("error=")[2])
    assert done.output == f"ShmError {error} {name}\n"
    assert not exists(name)
    done.check_no_stray(name)


@pytest.mark.parametrize(
    "inject",
    [
        "ftruncate:error=EFBIG",
        "fallocate:error=ENOSPC",
        "linkat:error=EDQUOT:when=1",
        "linkat:error=EDQUOT:when=2",
        "rename:error=EBUSY",
    ],
)
@pytest.mark.parametrize("direction", ["io", "input"])
def test_superseding_that_fails_half_way_leaves_the_old_object(
    name: str, trace: Trace, direction: str, inject: str
) -> None:
    path_of(name).write_bytes(CONTENT)
    before = path_of(name).stat().st_ino
    call = (
        f"open_shm(name, direction={direction!r}, if_exists='supersede', "
        "if_does_not_exist='create', size=10000)"
    )
    done = trace(shown(call), name, inject)
    error = getattr(errno, inject.partition("error=")[2].partition(":")[0])
    assert done.output == f"ShmError {error} {name}\n"
    assert path_of(name).stat().st_ino == before
    assert path_of(name).read_bytes() == CONTENT
    done.check_no_stray(name)


def test_truncating_without_room_leaves_the_object_as_it_was(name: str, trace: Trace) -> None:
    path_of(name).write_bytes(CONTENT)
    done = trace(shown(TRUNCATE), name, "fallocate:error=ENOSPC")
    assert done.output == f"ShmError {errno.ENOSPC} {name}\n"
    assert path_of(name).read_bytes() == CONTENT


@pytest.mark.parametrize("inject", ["ftruncate:error=EFBIG", "fallocate:error=ENOSPC"])
@pytest.mark.parametrize("options", ["", ", direction='io'", ", sealable=True"])
def test_an_anonymous_object_that_fails_half_way_leaves_nothing(
    trace: Trace, options: str, inject: str
) -> None:
    done = trace(shown(f"open_anonymous_shm(size=10000{options})"), "", inject)
    error = getattr(errno, inject.partition("error=")[2])
    assert done.output == f"ShmError {error} None\n"
    done.check_no_stray("")


# ---- another user's object under fs.protected_regular ------------------------------------------


@pytest.mark.parametrize("options", ["", ", if_exists='truncate'"], ids=["overwrite", "truncate"])
@pytest.mark.parametrize("direction", ["input", "io"])
def test_an_object_that_may_not_be_created_again_is_opened(
    name: str, trace: Trace, direction: str, options: str
) -> None:
    path_of(name).write_bytes(CONTENT)
    code = f"""
with open_shm(name, direction={direction!r}, if_does_not_exist="create"{options}) as shm:
    print(shm.direction, shm.size)
"""
    path = str(path_of(name))
    done = trace(code, name, "openat:error=EACCES:when=1", paths=(path,))
    assert done.output == f"{direction} {0 if options else len(CONTENT)}\n"
    refused, opened = done.of_object(name)
    assert refused.failed
    assert refused.flags - opened.flags == {"O_CREAT"}
    assert opened.flags <= refused.flags


def test_an_object_that_may_not_be_opened_either_is_a_permission_error(
    name: str, trace: Trace
) -> None:
    path_of(name).write_bytes(CONTENT)
    call = "open_shm(name, direction='io', if_does_not_exist='create')"
    done = trace(shown(call), name, "openat:error=EACCES", paths=(str(path_of(name)),))
    assert done.output == f"ShmPermissionError {errno.EACCES} {name}\n"


# ---- where an object can't be made without a name ----------------------------------------------

# What a kernel or a file system without O_TMPFILE says, and what happens without /proc.
WITHOUT: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "EOPNOTSUPP": (("openat:error=EOPNOTSUPP",), ("/dev/shm",)),
    "EISDIR": (("openat:error=EISDIR",), ("/dev/shm",)),
    "EINVAL": (("openat:error=EINVAL",), ("/dev/shm",)),
    "no-proc": (("linkat:error=ENOENT", "access:error=ENOENT"), ()),
}
without = pytest.mark.parametrize(("inject", "paths"), WITHOUT.values(), ids=WITHOUT.keys())


@without
@pytest.mark.parametrize("direction", ["input", "io"])
@pytest.mark.parametrize("if_exists", ["error", "truncate", "supersede"])
def test_an_object_is_made_in_steps_where_one_is_too_much(
    name: str,
    trace: Trace,
    inject: tuple[str, ...],
    paths: tuple[str, ...],
    direction: str,
    if_exists: str,
) -> None:
    code = f"""
os.umask(0o027)
with open_shm(
    name,
    direction={direction!r},
    if_exists={if_exists!r},
    if_does_not_exist="create",
    permissions=0o666,
    size=10000,
) as shm:
    print(shm.direction, shm.size, shm.stat().st_blocks * 512 >= 10000)
"""
    done = trace(code, name, *inject, paths=paths)
    assert done.output == f"{direction} 10000 True\n"
    assert path_of(name).read_bytes() == bytes(10000)
    assert mode_of(name) == 0o640


@without
@pytest.mark.parametrize("direction", ["input", "io"])
def test_a_name_is_superseded_in_steps_where_one_is_too_much(
    name: str, trace: Trace, inject: tuple[str, ...], paths: tuple[str, ...], direction: str
) -> None:
    path_of(name).write_bytes(CONTENT)
    code = f"""
with open_shm(name) as old:
    with open_shm(
        name, direction={direction!r}, if_exists="supersede", if_does_not_exist="create", size=9
    ) as new:
        print(new.direction, new.size, bytes(memoryview(old)).decode())
"""
    done = trace(code, name, *inject, paths=paths)
    assert done.output == f"{direction} 9 {CONTENT.decode()}\n"
    assert path_of(name).read_bytes() == bytes(9)


@without
@pytest.mark.parametrize("if_exists", ["error", "truncate", "supersede"])
def test_an_object_is_made_and_mapped_in_steps_too(
    name: str, trace: Trace, inject: tuple[str, ...], paths: tuple[str, ...], if_exists: str
) -> None:
    if if_exists != "error":
        path_of(name).write_bytes(CONTENT)
    code = f"""
with open_shm_and_mmap(
    name, 10000, direction="io", if_exists={if_exists!r}, if_does_not_exist="create"
) as (shm, mapping):
    mapping[-4:] = b"last"
    print(shm.size, len(mapping))
"""
    done = trace(code, name, *inject, paths=paths)
    assert done.output == "10000 10000\n"
    assert path_of(name).read_bytes() == bytes(9996) + b"last"
    done.check_no_stray(name)


@without
def test_an_object_that_exists_is_an_error_in_steps_too(
    name: str, trace: Trace, inject: tuple[str, ...], paths: tuple[str, ...]
) -> None:
    path_of(name).write_bytes(CONTENT)
    done = trace(shown(CREATE), name, *inject, paths=paths)
    assert done.output == f"ShmExistsError {errno.EEXIST} {name}\n"
    assert path_of(name).read_bytes() == CONTENT


@pytest.mark.parametrize("failing", ["ftruncate:error=EFBIG", "fallocate:error=ENOSPC"])
def test_creating_that_fails_half_way_leaves_nothing_in_steps_too(
    name: str, trace: Trace, failing: str
) -> None:
    paths = ("/dev/shm", str(path_of(name)))
    done = trace(shown(CREATE), name, "openat:error=EOPNOTSUPP:when=1", failing, paths=paths)
    error = getattr(errno, failing.partition("error=")[2])
    assert done.output == f"ShmError {error} {name}\n"
    assert "openat" in done.succeeded("openat"), "the object was never there"
    assert not exists(name)


@pytest.mark.parametrize("size", [None, 10000])
@pytest.mark.parametrize("direction", ["input", "io"])
def test_an_anonymous_object_gives_its_name_up_at_once(
    trace: Trace, direction: str, size: int | None
) -> None:
    code = f"""
os.umask(0o027)
with open_anonymous_shm(direction={direction!r}, permissions=0o666, size={size}) as shm:
    print(shm.name, shm.direction, shm.size, shm.stat().st_nlink, oct(shm.stat().st_mode & 0o777))
"""
    done = trace(code, "", "openat:error=EOPNOTSUPP", paths=("/dev/shm",))
    assert done.output == f"None {direction} {size or 0} 0 0o640\n"


@pytest.mark.parametrize(
    ("attempts", "said"), [(4, f"ShmExistsError {errno.EEXIST} 0"), (5, "opened")]
)
def test_attempts_end_with_the_first_free_name_or_the_last_taken_one(
    names: NameFactory, trace: Trace, attempts: int, said: str
) -> None:
    taken, free = names(), names()
    path_of(taken).write_bytes(CONTENT)
    code = f"""
from posix_shm import _open
tried = [{free!r}] + 4 * [{taken!r}]
_open.fresh_name = tried.pop
try:
    open_anonymous_shm(attempts={attempts}, size=10000).close()
    print("opened")
except ShmExistsError as error:
    print("ShmExistsError", error.errno, tried.count({taken!r}))
"""
    done = trace(code, "", "openat:error=EOPNOTSUPP", paths=("/dev/shm",))
    assert done.output == f"{said}\n"
    assert path_of(taken).read_bytes() == CONTENT, "somebody else's object was touched"
    assert not exists(free)


# ---- signals ----------------------------------------------------------------------------------

INTERRUPTIBLE: dict[str, str] = {
    "ftruncate": CREATE,
    "fallocate": CREATE,
    "linkat": CREATE,
    "rename": SUPERSEDE,
    "unlink": "delete_shm(name)",
}
interruptible = pytest.mark.parametrize(
    ("call", "code"), INTERRUPTIBLE.items(), ids=INTERRUPTIBLE.keys()
)


def prepare(call: str, name: str) -> int | None:
    """Make the object that some of the programs need, and return what it is."""
    if call not in ("rename", "unlink"):
        return None
    path_of(name).write_bytes(CONTENT)
    return path_of(name).stat().st_ino


@interruptible
def test_an_interrupted_call_is_made_again_after_the_signals_handler(
    name: str, trace: Trace, call: str, code: str
) -> None:
    prepare(call, name)
    program = f"""
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
shm = {code}
print("done")
if shm: shm.close()
"""
    done = trace(program, name, f"{call}:error=EINTR:signal=SIGUSR1:when=1")
    assert done.output == "handled\ndone\n"
    interrupted, again = [made for made in done.calls if made.name == call][:2]
    assert interrupted.failed
    assert interrupted.arguments == again.arguments
    assert not again.failed


@interruptible
def test_an_exception_of_a_signals_handler_comes_out_and_undoes_the_call(
    name: str, trace: Trace, call: str, code: str
) -> None:
    before = prepare(call, name)
    program = f"""
def handler(*_):
    raise ZeroDivisionError
signal.signal(signal.SIGUSR1, handler)
try:
    {code}
except ZeroDivisionError:
    print("raised")
"""
    done = trace(program, name, f"{call}:error=EINTR:signal=SIGUSR1:when=1")
    assert done.output == "raised\n"
    assert len([made for made in done.calls if made.name == call]) == 1
    if before is None:
        assert not exists(name)
    else:
        assert path_of(name).stat().st_ino == before
        assert path_of(name).read_bytes() == CONTENT
    done.check_no_stray(name)


def test_an_interrupted_open_is_made_again(name: str, trace: Trace) -> None:
    path_of(name).write_bytes(CONTENT)
    inject = "openat:error=EINTR:when=1"
    done = trace("open_shm(name).close()", name, inject, paths=(str(path_of(name)),))
    assert [call.failed for call in done.of_object(name)] == [True, False]


def test_a_close_that_is_interrupted_is_a_close_and_is_not_made_again(
    name: str, trace: Trace
) -> None:
    path_of(name).write_bytes(CONTENT)
    code = "shm = open_shm(name); fd = shm.fd; shm.close(); print(fd, shm.closed)"
    done = trace(code, name, "close:error=EINTR", paths=(str(path_of(name)),))
    fd, closed = done.output.split()
    assert closed == "True"
    assert [call.arguments for call in done.calls if call.name == "close"] == [fd]
