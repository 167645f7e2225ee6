"""The command line, run as a user runs it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import posix_shm
import pytest
from posix_shm import _survey, open_shm

from . import elsewhere, support
from .support import exists, mode_of, path_of, run_python

COMMANDS = ["demo", "ls", "stat", "create", "cat", "rm"]
PROGRAM = [sys.executable, "-W", "error", "-m", "posix_shm"]
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run(
    *arguments: str, stdin: str = "", umask: int = -1, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it printed; a traceback fails the test."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        umask=umask,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def output(*arguments: str, **options: Any) -> str:
    """What a command prints that succeeds and that has nothing to complain of.

    Except that it has no permission to look into some processes: this depends on the machine.
    """
    done = run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    assert complaints(done) == []
    return done.stdout


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a command says on standard error, except which processes it could not look into."""
    return [line for line in done.stderr.splitlines() if "no permission to look into" not in line]


def assert_fails(done: subprocess.CompletedProcess[str], message: str, code: int = 1) -> None:
    """That a command did nothing but fail, with one line that says why."""
    assert done.returncode == code
    assert done.stdout == ""
    assert complaints(done) == [f"posix-shm: {message}"]


AS_NOBODY = f"""
import contextlib, grp, io, os, sys
from posix_shm._cli import main

# All that is imported later, perhaps from where only root may read.
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(["ls"])
    main(["ls", "--json"])
    main(["rm", ""])
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.exit(main(sys.argv[1:]))
"""


def run_as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user who may do nothing."""
    return run_python(AS_NOBODY, *arguments, check=False)


@contextlib.contextmanager
def held(name: str, how: str) -> Iterator[int]:
    """A process that holds an object; its ID."""
    ways = {
        "mapped": "m = shm.mmap(); shm.close()",
        "open": "pass",
        "mapped and open": "m = shm.mmap()",
    }
    code = f"import sys, posix_shm; shm = posix_shm.open_shm(sys.argv[1]); {ways[how]}\n"
    code += "print(flush=True); sys.stdin.read(); shm.close()"
    command = [sys.executable, "-c", code, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        yield holder.pid
        assert holder.stdin is not None
        holder.stdin.close()


def make(name: str, size: int = 5000, **options: Any) -> None:
    """Make an object whose memory is reserved."""
    open_shm(name, direction="io", if_exists="error", size=size, **options).close()


# ---- ls ----------------------------------------------------------------------------------------

HEADINGS = ["NAME", "SIZE", "RESIDENT", "MODE", "OWNER", "AGE", "HELD BY"]


def cells_of(name: str, *options: str) -> dict[str, str]:
    """A line of ``ls``, by the headings above its cells."""
    lines = output("ls", *options).splitlines()
    assert re.split(r"  +", lines[0].strip()) == HEADINGS
    row = next(line for line in lines if line.split()[0] == name)
    return dict(zip(HEADINGS, re.split(r"  +", row, maxsplit=6), strict=True))


def record_of(name: str) -> dict[str, Any]:
    """An object in the JSON of ``ls``."""
    records = json.loads(output("ls", "--json"))
    found: dict[str, Any] = next(record for record in records if record["name"] == name)
    return found


def test_ls_shows_an_object(name: str) -> None:
    make(name, 3 << 20, permissions=0o640)
    cells = cells_of(name)
    assert cells.pop("OWNER") == pwd.getpwuid(os.geteuid()).pw_name
    assert re.fullmatch("[0-9]+[sm]", cells.pop("AGE"))
    assert cells.pop("HELD BY") in "-?"
    assert cells == {"NAME": name, "SIZE": "3.0M", "RESIDENT": "3.0M", "MODE": "rw-r-----"}


def test_ls_shows_exact_sizes(name: str) -> None:
    open_shm(name, direction="io", if_exists="error").close()
    os.truncate(path_of(name), 3_000_001)
    with path_of(name).open("r+b") as file:
        file.write(b"x")
    cells = cells_of(name, "--bytes")
    assert cells["SIZE"] == "3000001"
    assert cells["RESIDENT"] == str(support.PAGE)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0"),
        (1, "1"),
        (1023, "1023"),
        (1024, "1.0K"),
        (10_000, "9.8K"),
        (10_200, "10K"),
        (1 << 20, "1.0M"),
        ((1 << 20) - 1, "1.0M"),
        (1000 << 20, "1000M"),
        (3 << 40, "3.0T"),
    ],
)
def test_ls_rounds_sizes_for_people(name: str, size: int, shown: str) -> None:
    path_of(name).touch()
    os.truncate(path_of(name), size)
    assert cells_of(name)["SIZE"] == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(100, "1m"), (3599, "59m"), (7300, "2h"), (86400 * 3 + 5, "3d"), (-50, "0s")],
)
def test_ls_shows_the_age_in_its_largest_unit(name: str, seconds: int, shown: str) -> None:
    path_of(name).touch()
    then = time.time() - seconds
    os.utime(path_of(name), (then, then))
    assert cells_of(name)["AGE"] == shown


def test_ls_has_columns_that_line_up(names: support.NameFactory) -> None:
    made = [
        names() + suffix for suffix in ("", "-日本", "-e\u0301", "-much longer than the others")
    ]
    try:
        for i, name in enumerate(made):
            make(name, 10 ** (i + 3))
        lines = output("ls").splitlines()
    finally:
        for name in made:
            path_of(name).unlink()
    end = lines[0].index("SIZE") + len("SIZE")
    rows = {name: line for line in lines for name in made if line.startswith(f"{name} ")}
    assert rows.keys() == set(made)
    for name, wide in zip(made, (0, 2, -1, 0), strict=True):
        assert re.fullmatch(r".* [0-9.]+[KM]?", rows[name][: end - wide])
        assert rows[name][end - wide : end - wide + 2] == "  "


@pytest.mark.parametrize("how", ["mapped", "open", "mapped and open"])
def test_ls_shows_who_holds_an_object(name: str, how: str) -> None:
    make(name)
    with held(name, how) as pid:
        command = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        assert cells_of(name)["HELD BY"] == f"{pid} {command}"
        (holder,) = record_of(name)["holders"]
    expected = {"pid": pid, "command": command, "mapped": "mapped" in how, "open": "open" in how}
    assert holder == expected
    assert record_of(name)["holders"] == []


def test_ls_shows_who_holds_an_object_since_it_was_made(name: str) -> None:
    # The memory map of such a process does not have the name of the object.
    with open_shm(name, direction="io", if_exists="error", size=10) as shm, shm.mmap():
        (holder,) = record_of(name)["holders"]
    assert holder["pid"] == os.getpid()


def test_ls_tells_a_superseded_object_from_the_new_one(name: str) -> None:
    make(name)
    with held(name, "mapped"):
        assert record_of(name)["holders"]
        open_shm(name, direction="io", if_exists="supersede", size=10).close()
        assert record_of(name)["holders"] == []


def test_ls_shows_the_first_of_many_holders(name: str) -> None:
    make(name)
    with contextlib.ExitStack() as stack:
        pids = sorted(stack.enter_context(held(name, "open")) for _ in range(5))
        shown = cells_of(name)["HELD BY"]
        holders = record_of(name)["holders"]
    assert re.findall(r"(\d+) python\S*,", shown) == [str(pid) for pid in pids[:3]]
    assert shown.endswith(", 2 more")
    assert [holder["pid"] for holder in holders] == pids


def test_ls_can_be_limited_to_names_and_patterns(names: support.NameFactory) -> None:
    made = [names() for _ in range(4)]
    for name in made:
        make(name)
    limits = [made[0], made[1][1:], f"{made[2][:-1]}[{made[2][-1]}]"]
    lines = output("ls", *limits).splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *sorted(made[:3])]
    records = json.loads(output("ls", "--json", *limits))
    assert [record["name"] for record in records] == sorted(made[:3])


@pytest.mark.parametrize("what", ["", "*", "\n"])
def test_ls_of_what_does_not_exist_is_an_error(names: support.NameFactory, what: str) -> None:
    missing, present = names(), names()
    make(present)
    done = run("ls", missing + what, present)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    shown = (missing + what).replace("\n", "\\n")
    assert complaints(done) == [f"posix-shm: {shown}: No such file or directory"]


def test_ls_prints_json(name: str) -> None:
    make(name, 5000, permissions=0o604)
    record = record_of(name)
    assert 0 <= record.pop("age") < 600
    assert isinstance(record.pop("all_processes_seen"), bool)
    assert isinstance(record.pop("owner"), str)
    assert record == {
        "name": name,
        "size": 5000,
        "resident": 2 * support.PAGE,
        "mode": "0604",
        "uid": os.geteuid(),
        "holders": [],
    }


HOSTILE_SUFFIXES = ["\x1b[31m", "\n", "\r", "\t", "\x7f", "\x9b", "\u202e", "\udcff"]


@pytest.mark.parametrize("suffix", HOSTILE_SUFFIXES, ids=ascii)
@pytest.mark.parametrize("command", ["ls", "stat", "rm"])
def test_what_would_command_the_terminal_is_escaped(
    names: support.NameFactory, command: str, suffix: str
) -> None:
    name = names() + suffix
    escaped = name.replace(suffix, ascii(suffix)[1:-1])
    make(name)
    done = run(command) if command == "ls" else run(command, name)
    again = run("rm", name)
    shown = done.stdout if command != "rm" else again.stderr
    assert escaped in shown
    for line in (done.stdout + again.stderr).split("\n"):
        assert line.isprintable()
    assert not exists(name)


def test_ls_prints_every_name_whatever_the_encoding(names: support.NameFactory) -> None:
    name = names() + "-日本"
    make(name)
    try:
        shown = output("ls", PYTHONIOENCODING="ascii")
        assert name.encode("ascii", "backslashreplace").decode() in shown
        records = json.loads(output("ls", "--json", PYTHONIOENCODING="ascii"))
        assert name in [record["name"] for record in records]
    finally:
        path_of(name).unlink()


@elsewhere.in_a_dev_shm(1 << 20)
def test_ls_lists_all_objects_by_name_and_nothing_else() -> None:
    assert re.split(r"  +", output("ls")) == [*HEADINGS[:-1], "HELD BY\n"]
    assert json.loads(output("ls", "--json")) == []
    for name in ("/b", "/a", "/.hidden", "/sem.x"):
        make(name, 1)
    Path("/dev/shm/directory").mkdir()
    Path("/dev/shm/link").symlink_to("/dev/shm/a")
    expected = ["/.hidden", "/a", "/b", "/sem.x"]
    assert [line.split()[0] for line in output("ls").splitlines()[1:]] == expected
    assert [record["name"] for record in json.loads(output("ls", "--json"))] == expected
    Path("/dev/shm/directory").rmdir()
    for path in Path("/dev/shm").iterdir():
        path.unlink()


@as_root
def test_ls_says_what_it_has_no_permission_to_see(name: str) -> None:
    make(name)
    with held(name, "mapped"):
        done = run_as_nobody("ls")
        records = json.loads(run_as_nobody("ls", "--json").stdout)
    assert done.returncode == 0
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name} "))
    assert line.endswith(" ?")
    pattern = (
        "posix-shm: no permission to look into ([0-9]+) processes "
        r"\([0-9]+ .*\), which may hold objects, too"
    )
    match = re.fullmatch(pattern, done.stderr.strip())
    assert match is not None
    kernel_threads = sum(not line for line in map(command_line, processes()))
    assert 0 < int(match[1]) <= len(processes()) - kernel_threads + 100
    (record,) = (record for record in records if record["name"] == name)
    assert record["holders"] == []
    assert record["all_processes_seen"] is False


def processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"ended"


@as_root
@elsewhere.in_a_dev_shm(1 << 20)
def test_ls_says_when_processes_are_hidden_from_it() -> None:
    subprocess.run(["mount", "-t", "proc", "-o", "hidepid=invisible", "proc", "/proc"], check=True)
    make("/a", 1)
    done = run_as_nobody("ls")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].endswith(" ?")
    assert "other users' processes are hidden, and may hold objects, too" in done.stderr
    posix_shm.delete_shm("/a")


@elsewhere.in_a_dev_shm(1 << 20)
def test_ls_says_where_objects_can_not_be_listed() -> None:
    command = ["sh", "-c", 'mount -t tmpfs tmpfs /dev && exec "$@"', "sh", *PROGRAM]
    for arguments in (["ls"], ["ls", "--json"], ["rm", "--unused"]):
        done = subprocess.run(
            ["unshare", "--mount", *command, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert_fails(done, "this system does not list its objects: it has no /dev/shm")


# ---- stat --------------------------------------------------------------------------------------


def details_of(name: str) -> dict[str, str]:
    """What ``stat`` prints, by its headings."""
    lines = [re.split(r"  +", line, maxsplit=1) for line in output("stat", name).splitlines()]
    return dict(lines)


def test_stat_tells_everything(name: str) -> None:
    make(name, 3 << 20, permissions=0o640)
    details = details_of(name[1:])
    status = path_of(name).stat()
    assert details["name"] == name
    assert details["size"] == f"{3 << 20} (3.0M)"
    assert details["resident"] == f"{3 << 20} (3.0M)"
    assert details["mode"] == "0640 rw-r-----"
    assert details["owner"].startswith(f"{status.st_uid} (")
    assert details["group"].startswith(f"{status.st_gid} (")
    assert details["inode"] == str(status.st_ino)
    assert details["device"] == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    assert details["links"] == "1"
    moments = (status.st_atime, status.st_mtime, status.st_ctime)
    for heading, moment in zip(("accessed", "modified", "changed"), moments, strict=True):
        shown = time.strptime(details[heading], "%Y-%m-%d %H:%M:%S %z")
        assert time.mktime(shown) == int(moment)
    assert details["seals"] == "it can't be sealed"  # no object with a name can
    assert details["held by"] in "-?"


@pytest.mark.parametrize("how", ["mapped", "open", "mapped and open"])
def test_stat_shows_who_holds_the_object_and_how(name: str, how: str) -> None:
    make(name)
    with held(name, how) as pid:
        assert details_of(name)["held by"].startswith(f"{pid} ({how}): {sys.executable} -c ")


def test_stat_shows_all_holders(name: str) -> None:
    make(name)
    with contextlib.ExitStack() as stack:
        pids = sorted(stack.enter_context(held(name, "open")) for _ in range(5))
        shown = output("stat", name)
    assert [int(pid) for pid in re.findall(r"([0-9]+) \(open\): ", shown)] == pids


@as_root
def test_stat_tells_what_it_can_of_an_object_that_can_not_be_opened(name: str) -> None:
    make(name, 5000)
    done = run_as_nobody("stat", name)
    assert done.returncode == 0
    assert "size      5000 (4.9K)" in done.stdout
    assert "seals     ? (no permission to open it)" in done.stdout


def test_stat_of_a_missing_object_is_an_error(name: str) -> None:
    assert_fails(run("stat", name), f"{name}: No such file or directory")


# ---- create ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("4097", 4097),
        ("2K", 2048),
        ("2k", 2048),
        ("3M", 3 << 20),
        ("3MiB", 3 << 20),
        ("1mib", 1 << 20),
    ],
)
def test_create_makes_an_object_of_that_size_with_its_memory(
    name: str, text: str, size: int
) -> None:
    assert output("create", name, text) == ""
    status = path_of(name).stat()
    assert status.st_size == size
    assert status.st_blocks * 512 == -(-size // support.PAGE) * support.PAGE
    assert path_of(name).read_bytes() == bytes(size)


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5M", "M", "1Q", "1MB", "1 M", "0x10", "1e3", "\u0661"]
)
def test_create_refuses_what_is_no_size(name: str, text: str) -> None:
    done = run("create", name, "--", text)
    assert done.returncode == 2
    assert "is not a size such as 4096, 64M or 2GiB" in done.stderr
    assert not exists(name)


def test_create_refuses_a_size_beyond_every_file(name: str) -> None:
    done = run("create", name, "99999999T")
    assert done.returncode == 2
    assert "99999999T is more than there can be" in done.stderr


def test_create_leaves_an_existing_object_alone(name: str) -> None:
    make(name, 10)
    assert_fails(run("create", name, "20"), f"{name}: File exists")
    assert path_of(name).stat().st_size == 10


def test_create_truncates_if_it_is_told_to(name: str) -> None:
    path_of(name).write_bytes(b"what was there before")
    inode = path_of(name).stat().st_ino
    output("create", name, "5", "--if-exists", "truncate")
    assert path_of(name).read_bytes() == bytes(5)
    assert path_of(name).stat().st_ino == inode


def test_create_supersedes_if_it_is_told_to(name: str) -> None:
    make(name)
    with held(name, "open"):  # so that its inode is not used again
        inode = path_of(name).stat().st_ino
        output("create", name, "5", "--if-exists", "supersede")
        assert path_of(name).stat().st_ino != inode


@pytest.mark.parametrize("word", ["truncate", "supersede"])
def test_create_makes_what_does_not_exist_in_every_case(name: str, word: str) -> None:
    output("create", name, "5", "--if-exists", word)
    assert path_of(name).stat().st_size == 5


def test_create_applies_the_umask_to_the_default_mode(name: str) -> None:
    output("create", name, "5", umask=0o277)
    assert mode_of(name) == 0o400


@pytest.mark.parametrize("text", ["666", "0666"])
def test_create_gives_the_mode_that_it_is_told(name: str, text: str) -> None:
    output("create", name, "5", "--mode", text, umask=0o077)
    assert mode_of(name) == 0o666


@pytest.mark.parametrize("text", ["8", "rw", "6666", "66", "0o660"])
def test_create_refuses_what_is_no_mode(name: str, text: str) -> None:
    done = run("create", name, "5", "--mode", text)
    assert done.returncode == 2
    assert "is not three octal digits such as 640" in done.stderr
    assert not exists(name)


@elsewhere.in_a_dev_shm(1 << 20)
def test_create_says_how_much_room_there_is() -> None:
    done = run("create", "/too-large", "2M")
    free = elsewhere.free_bytes()
    assert done.returncode == 1
    (line,) = complaints(done)
    assert line.startswith(
        f"posix-shm: /too-large: No space left on device ({free} bytes are free"
    )


@pytest.mark.parametrize("command", [["stat"], ["create", "5"], ["cat"], ["rm"]])
@pytest.mark.parametrize(
    ("impossible", "message"),
    [("a/b", "Invalid argument"), ("", "Invalid argument"), ("x" * 300, "File name too long")],
)
def test_impossible_names_are_errors(command: list[str], impossible: str, message: str) -> None:
    done = run(command[0], impossible, *command[1:])
    assert done.returncode == 1
    (line,) = complaints(done)
    assert line.startswith(f"posix-shm: {impossible}: {message} (a name ")


# ---- cat ---------------------------------------------------------------------------------------


def cat(name: str, **environment: str) -> bytes:
    done = subprocess.run(
        [*PROGRAM, "cat", name],
        capture_output=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("size", [0, 1, 5000, 5_000_000])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_cat_writes_the_content(name: str, size: int, unbuffered: str) -> None:
    content = random.Random(size).randbytes(size)
    path_of(name).write_bytes(content)
    assert cat(name, PYTHONUNBUFFERED=unbuffered) == content
    assert cat(name[1:], PYTHONUNBUFFERED=unbuffered) == content


def test_cat_of_a_missing_object_is_an_error(name: str) -> None:
    assert_fails(run("cat", name), f"{name}: No such file or directory")


@as_root
def test_cat_of_an_object_that_may_not_be_read_is_an_error(name: str) -> None:
    make(name)
    assert_fails(run_as_nobody("cat", name), f"{name}: Permission denied")


def test_cat_of_an_object_that_shrinks_meanwhile_is_an_error(name: str) -> None:
    path_of(name).write_bytes(b"x" * (1 << 20))
    with subprocess.Popen(
        [*PROGRAM, "cat", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"  # and no more of it fits into the pipe
        os.truncate(path_of(name), 0)
        rest, errors = process.communicate()
    assert process.returncode == 1
    assert len(rest) < 1 << 20
    assert errors.decode() == f"posix-shm: {name}: became shorter while it was read\n"


# ---- rm ----------------------------------------------------------------------------------------


def test_rm_removes_objects(names: support.NameFactory) -> None:
    made = [names(), names(), names()]
    for name in made:
        make(name)
    assert output("rm", made[0], made[1][1:]) == ""
    assert [exists(name) for name in made] == [False, False, True]


def test_rm_leaves_the_object_to_its_holders(name: str) -> None:
    path_of(name).write_bytes(b"content")
    with open_shm(name) as shm:
        output("rm", name)
        assert shm.size == 7


def test_rm_removes_the_others_if_one_is_missing(names: support.NameFactory) -> None:
    missing, present = names(), names()
    make(present)
    assert_fails(run("rm", missing, present), f"{missing}: No such file or directory")
    assert not exists(present)


def test_rm_can_ignore_missing_objects(names: support.NameFactory) -> None:
    missing, present = names(), names()
    make(present)
    assert output("rm", "-f", missing, present) == ""
    assert not exists(present)


def test_rm_needs_to_know_what_to_remove() -> None:
    done = run("rm")
    assert done.returncode == 2
    assert "NAME or --unused is required" in done.stderr


@as_root
def test_rm_of_another_users_object_is_an_error(name: str) -> None:
    make(name)
    done = run_as_nobody("rm", name)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"posix-shm: {name}: (Permission denied|Operation not permitted)", done.stderr.strip()
    )
    assert exists(name)


# ---- rm --unused: the objects of this test only, for everybody's are in the same place ---------


def test_rm_unused_shows_asks_and_removes(names: support.NameFactory) -> None:
    one, other = names(), names()
    make(one, 3 << 20)
    make(other, 1 << 20)
    done = run("rm", "--unused", one, other, stdin="y\n")
    assert done.returncode == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["NAME", "SIZE"],
        *sorted([[one, "3.0M"], [other, "1.0M"]]),
    ]
    (question,) = complaints(done)
    assert re.fullmatch(
        r"Remove these 2 objects, the youngest \d+s old, and free 4\.0M\? \[y/N\] ", question
    )
    assert not exists(one)
    assert not exists(other)


@pytest.mark.parametrize("answer", ["n\n", "\n", "what?\n", "N\n", "n"])
def test_rm_unused_removes_nothing_without_a_yes(name: str, answer: str) -> None:
    make(name)
    done = run("rm", "--unused", name, stdin=answer)
    assert done.returncode == 0
    (question,) = complaints(done)
    assert re.fullmatch(r"Remove this object, \d+s old, and free 8\.0K\? \[y/N\] ", question)
    assert exists(name)


@pytest.mark.parametrize("answer", ["y\n", "yes\n", "Y\n", " YES \n", "y"])
def test_rm_unused_takes_every_yes(name: str, answer: str) -> None:
    make(name)
    assert run("rm", "--unused", name, stdin=answer).returncode == 0
    assert not exists(name)


def test_rm_unused_fails_if_nobody_answers(name: str) -> None:
    make(name)
    done = run("rm", "--unused", name, stdin="")
    assert done.returncode == 1
    message = "posix-shm: nobody answers, so nothing was removed; --yes does not ask"
    assert complaints(done)[1:] == [message]
    assert exists(name)


def test_rm_unused_does_not_ask_scripts(name: str) -> None:
    make(name)
    assert output("rm", "--unused", "--yes", name).splitlines()[1].startswith(f"{name} ")
    assert not exists(name)


@pytest.mark.parametrize("how", ["mapped", "open", "mapped and open"])
def test_rm_unused_leaves_what_a_process_holds(names: support.NameFactory, how: str) -> None:
    used, unused = names(), names()
    make(used)
    make(unused)
    with held(used, how):
        for stdout in (None, "no unused objects\n"):
            done = run("rm", "--unused", "--yes", "--force", used, unused)
            assert done.returncode == 0
            assert stdout in (None, done.stdout)
            assert complaints(done) == [f"posix-shm: {used}: left alone, because somebody uses it"]
            assert exists(used)
    assert not exists(unused)
    output("rm", "--unused", "--yes", used)
    assert not exists(used)


def test_rm_unused_leaves_what_is_on_its_way_in_a_socket(name: str) -> None:
    make(name)
    one, other = socket.socketpair()
    with one, other:
        with open_shm(name) as shm:
            socket.send_fds(one, [b"\0"], [shm.fd])
        done = run("rm", "--unused", "--yes", name)
        assert exists(name)
    assert done.returncode == 0
    assert complaints(done) == [f"posix-shm: {name}: left alone, because somebody uses it now"]
    output("rm", "--unused", "--yes", name)
    assert not exists(name)


@contextlib.contextmanager
def asking(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that has asked its question and waits for the answer."""
    with subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stderr is not None
        asked = b""
        while not asked.endswith(b"[y/N] "):
            asked += process.stderr.read(1)
        yield process


def test_rm_unused_leaves_what_is_taken_into_use_meanwhile(name: str) -> None:
    make(name)
    with asking("rm", "--unused", name) as process, open_shm(name):
        _, errors = process.communicate(b"y\n")
        assert exists(name)
    assert process.returncode == 0
    assert errors.decode() == f"posix-shm: {name}: left alone, because somebody uses it now\n"


def test_rm_unused_leaves_what_has_the_name_meanwhile(name: str) -> None:
    make(name)
    with asking("rm", "--unused", name) as process:
        with open_shm(name):  # so that its inode is not used again
            open_shm(name, direction="io", if_exists="supersede", size=10).close()
        process.communicate(b"y\n")
    assert process.returncode == 0
    assert path_of(name).stat().st_size == 10


def test_rm_unused_says_what_another_process_has_removed_meanwhile(name: str) -> None:
    make(name)
    with asking("rm", "--unused", name) as process:
        posix_shm.delete_shm(name)
        _, errors = process.communicate(b"y\n")
    assert process.returncode == 1
    assert errors.decode() == f"posix-shm: {name}: No such file or directory\n"


def test_rm_unused_forced_does_not_miss_what_another_process_has_removed_meanwhile(
    name: str,
) -> None:
    make(name)
    with asking("rm", "--unused", "--force", name) as process:
        posix_shm.delete_shm(name)
        _, errors = process.communicate(b"y\n")
    assert process.returncode == 0
    assert errors == b""


def test_an_unused_object_is_removed_even_if_somebody_else_has_just_looked_at_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name)
    (found,) = (one for one in _survey.objects() if one.name == name)
    looking = open_shm(name)

    def wait(seconds: float) -> None:
        if seconds:  # it has been tried once
            looking.close()

    monkeypatch.setattr(time, "sleep", wait)
    assert _survey.delete_if_unused(found)
    assert not exists(name)


def test_an_object_that_somebody_waits_for_is_not_removed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(name)
    (found,) = (one for one in _survey.objects() if one.name == name)
    ask = _survey._somebody_waits
    opened = []

    def ask_while_somebody_opens(fd: int) -> bool:
        waiting = threading.Thread(target=lambda: opened.append(open_shm(name)))
        waiting.start()
        while not ask(fd):
            pass
        monkeypatch.setattr(_survey, "_somebody_waits", ask)
        threads.append(waiting)
        return True

    threads: list[threading.Thread] = []
    monkeypatch.setattr(_survey, "_somebody_waits", ask_while_somebody_opens)
    assert not _survey._delete_if_nobody_has(found)
    threads[0].join()
    with opened[0] as shm:
        assert shm.stat().st_nlink == 1
    assert exists(name)


@as_root
def test_rm_unused_without_the_right_to_ask_the_kernel_removes_nothing(name: str) -> None:
    make(name)
    os.chown(path_of(name), NOBODY, NOBODY)
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    command = ["setpriv", "--bounding-set", "-lease", "--inh-caps", "-lease", *PROGRAM]
    done = subprocess.run(
        [*command, "rm", "--unused", "--yes", name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "CAP_LEASE" in done.stderr
    assert exists(name)


def test_rm_unused_takes_patterns(names: support.NameFactory) -> None:
    made = [names() for _ in range(3)]
    for name in made:
        make(name)
    output("rm", "--unused", "--yes", f"{made[0]}*", f"{made[1][1:-1]}[{made[1][-1]}]")
    assert [exists(name) for name in made] == [False, False, True]


def test_rm_unused_takes_a_missing_name_for_a_mistake_but_not_a_pattern(name: str) -> None:
    done = run("rm", "--unused", "--yes", name)
    assert (done.returncode, done.stdout) == (1, "no unused objects\n")
    assert complaints(done) == [f"posix-shm: {name}: No such file or directory"]
    for arguments in (["--force", name], [f"{name}*"]):
        assert output("rm", "--unused", "--yes", *arguments) == "no unused objects\n"


def test_rm_takes_names_literally(name: str) -> None:
    make(name)
    done = run("rm", f"{name[:-1]}*")
    assert done.returncode == 1
    assert "patterns are for --unused" in done.stderr
    assert exists(name)


def test_rm_force_without_names_does_nothing() -> None:
    assert output("rm", "--force") == ""


@pytest.mark.parametrize("command", ["stat", "cat"])
def test_what_is_no_object_is_not_opened(command: str, name: str) -> None:
    os.mkfifo(path_of(name))  # opening it would wait for a writer
    done = run(command, name)
    assert done.returncode == 1
    assert complaints(done) == [f"posix-shm: {name}: it is no shared memory object"]


@as_root
def test_rm_unused_leaves_the_objects_of_other_users(name: str) -> None:
    make(name)
    done = run_as_nobody("rm", "--unused", "--yes", name)
    assert done.returncode == 0
    assert done.stdout == "no unused objects\n"
    assert complaints(done) == [
        f"posix-shm: {name}: left alone, because it is not yours to remove"
    ]
    assert exists(name)


@as_root
def test_rm_unused_leaves_what_a_process_holds_that_it_can_not_see(name: str) -> None:
    make(name)
    os.chown(path_of(name), NOBODY, NOBODY)
    with held(name, "mapped"):
        done = run_as_nobody("rm", "--unused", "--yes", name)
        assert exists(name)
    assert done.returncode == 0
    assert "no permission to look into" in done.stderr
    assert complaints(done) == [f"posix-shm: {name}: left alone, because somebody uses it now"]
    assert run_as_nobody("rm", "--unused", "--yes", name).returncode == 0
    assert not exists(name)


@elsewhere.in_a_dev_shm(1 << 20)
def test_rm_unused_means_all_objects_but_no_semaphores() -> None:
    for name in ("/a", "/b", "/used", "/sem.a"):
        make(name, 10)
    with held("/used", "open"):
        output("rm", "--unused", "--yes")
    assert sorted(os.listdir("/dev/shm")) == ["sem.a", "used"]
    output("rm", "/used", "/sem.a")


# ---- demo --------------------------------------------------------------------------------------


def test_demo_writes_in_one_process_and_reads_in_another() -> None:
    lines = output("demo").splitlines()
    made = re.fullmatch(r"made (/\S+), 40 bytes", lines[0])
    assert made is not None
    assert lines[1:] == [
        "wrote 10 ints through a mapping in this process",
        "read through a mapping in another process, without a copy:",
        "0 10 20 30 40 50 60 70 80 90",
        f"deleted {made[1]}",
    ]
    assert not exists(made[1])


# ---- what all commands do ----------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert output(command, "--help").startswith(f"usage: posix-shm {command} ")
    assert re.search(rf"^    {command} +\w", output("--help"), re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["stat"], ["stat", "a", "b"], ["create", "x"], ["cat", "-x", "y"]],
)
def test_wrong_usage_is_exit_code_2_and_shows_the_right_one(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    command = " ".join(["posix-shm", *(word for word in arguments[:1] if word in COMMANDS)])
    assert done.stderr.startswith(f"usage: {command} [-h]")
    assert f"\n{command}: error: " in done.stderr


def test_the_version_is_that_of_the_distribution() -> None:
    assert output("--version") == f"posix-shm {importlib.metadata.version('posix-shm')}\n"


@pytest.mark.parametrize("command", ["ls", "cat", "demo"])
def test_a_reader_that_has_enough_is_no_error(name: str, command: str) -> None:
    make(name, 1 << 20)
    arguments = ["cat", name] if command == "cat" else [command]
    before = support.objects()
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 128 + signal.SIGPIPE
    assert complaints(done) == []
    assert support.objects() == before


@pytest.mark.parametrize("command", ["ls", "cat"])
def test_output_that_can_not_be_written_is_an_error(name: str, command: str) -> None:
    make(name)
    arguments = ["cat", name] if command == "cat" else [command]
    with Path("/dev/full").open("wb") as output:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert complaints(done) == ["posix-shm: No space left on device"]


def test_standard_streams_may_be_closed(name: str) -> None:
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *PROGRAM]
    assert subprocess.run([*command, "create", name, "5"], check=False).returncode == 0
    assert path_of(name).read_bytes() == bytes(5)
    for arguments in (["ls"], ["cat", name], ["stat", name]):
        assert subprocess.run([*command, *arguments], check=False).returncode == 0
    assert subprocess.run([*command, "rm", "--unused", name], check=False).returncode == 1
    assert path_of(name).read_bytes() == bytes(5)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children are not deaf to SIGINT, as those of a background job of a shell's are."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_command_quietly(name: str) -> None:
    make(name)
    with asking("rm", "--unused", name) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    assert errors == b""
    assert exists(name)


def test_the_program_is_installed_under_its_name() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="posix-shm")
    from posix_shm._cli import main

    assert script.load() is main


def test_starting_imports_nothing_heavy() -> None:
    heavy = {"numpy", "multiprocessing", "subprocess", "typing", "socket", "asyncio", "json"}
    code = "import sys, posix_shm._cli; print(*sys.modules)"
    assert not heavy & set(run_python(code).stdout.split())


def test_resident_memory_counts_only_pages_that_are_there(name: str) -> None:
    path_of(name).touch()
    os.truncate(path_of(name), 100 * support.PAGE)
    assert record_of(name)["resident"] == 0
    with open_shm(name, direction="io") as shm, shm.mmap() as m:
        m[0] = m[50 * support.PAGE] = 1
    assert record_of(name)["resident"] == 2 * support.PAGE
    assert stat.S_ISREG(path_of(name).stat().st_mode)
