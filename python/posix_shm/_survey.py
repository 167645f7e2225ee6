"""Which shared memory objects there are and who holds them, as Linux tells it.

The objects are files in ``/dev/shm``.  ``/proc`` says which processes have them mapped or open, as
far as it lets this process look.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import stat
import time
from contextlib import suppress
from fnmatch import fnmatchcase

from . import delete_shm
from ._shm import open_shm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Identity = tuple[int, int]  # device and inode: what stays when names change

DIRECTORY = "/dev/shm"

_WAITS = (0, 0.001, 0.004, 0.016, 0.064)  # seconds, before each attempt to delete an object
_PF_KTHREAD = 0x00200000  # among the flags in /proc/PID/stat


# ---- objects -----------------------------------------------------------------------------------


class Found:
    """An object that there was at some moment."""

    __slots__ = ("name", "status")

    def __init__(self, name: str, status: os.stat_result) -> None:
        self.name = name  # canonical
        self.status = status

    @property
    def identity(self) -> Identity:
        """What tells it from every other object."""
        return self.status.st_dev, self.status.st_ino

    @property
    def resident(self) -> int:
        """How many bytes of memory it takes, in swap space or not."""
        return self.status.st_blocks * 512

    @property
    def is_ours_to_delete(self) -> bool:
        """Whether the system lets us delete it, and it is no semaphore of the C library."""
        may = os.geteuid() in (0, self.status.st_uid)
        return may and not self.name.startswith("/sem.")

    def matches(self, patterns: list[str]) -> bool:
        """Whether its name is like one of the patterns; without any, all names are."""
        if not patterns:
            return True
        return any(fnmatchcase(self.name[1:], pattern.removeprefix("/")) for pattern in patterns)


def objects() -> list[Found]:
    """All objects, sorted by name.

    :raises OSError: where the system has no list of them.
    """
    try:
        files = sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        raise OSError(
            errno.ENOTSUP, f"this system does not list its objects: it has no {DIRECTORY}"
        ) from None
    result = []
    for file in files:
        with suppress(FileNotFoundError):  # deleted meanwhile
            one = Found(f"/{file}", os.lstat(path_of(f"/{file}")))
            if stat.S_ISREG(one.status.st_mode):
                result.append(one)
    return result


def path_of(name: str) -> str:
    """The file that is the object of a canonical name."""
    return DIRECTORY + name


def delete_if_unused(one: Found) -> bool:
    """Delete an object unless a process holds it.

    Another process that is about to do the same holds it for a moment, and finds it held by this
    one: both try again.

    :returns: whether it was deleted; it was not if its name is another object's by now, either.
    :raises OSError: if it can't be opened or deleted.
    """
    for longest in _WAITS:
        time.sleep(random.uniform(0, longest))  # or both would meet again
        if _delete_if_nobody_has(one):
            return True
    return False


def _delete_if_nobody_has(one: Found) -> bool:
    with open_shm(one.name, if_does_not_exist="error") as shm:
        opened = Found(one.name, shm.stat())
        if opened.identity != one.identity or not _is_all_there_is(shm.fd, one):
            return False
        named = Found(one.name, os.lstat(path_of(one.name)))
        if named.identity != one.identity or _somebody_waits(shm.fd):
            return False
        delete_shm(one.name)
        return True


def _is_all_there_is(fd: int, one: Found) -> bool:
    """Whether nobody else holds the object that a descriptor refers to.

    The kernel knows it: it grants a lease only then, whoever and wherever the others may be, and
    until the descriptor is closed it lets everybody wait who wants to open the object.
    """
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # is ignored; would say that somebody waits
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LEASES:
            error.add_note("only its owner, or CAP_LEASE, may ask whether anybody else holds it")
            raise
        seen = survey([one])
        return seen.complete and not seen.holders(one)
    return True


_NO_LEASES = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # on this file system


def _somebody_waits(fd: int) -> bool:
    """Whether somebody wants to open the object, and our lease keeps them from it.

    They would get it without its name.
    """
    lease = fcntl.fcntl(fd, fcntl.F_GETLEASE)
    return lease != fcntl.F_WRLCK


# ---- processes ---------------------------------------------------------------------------------


class Holder:
    """A process that has an object mapped or open."""

    __slots__ = ("command", "mapped", "open", "pid")

    def __init__(self, pid: int, *, mapped: bool, open: bool) -> None:
        self.pid = pid
        self.mapped = mapped
        self.open = open
        self.command = _first_line_of(f"/proc/{pid}/comm")

    def command_line(self) -> str:
        """What the process was started with, or what it calls itself instead."""
        line = _first_line_of(f"/proc/{self.pid}/cmdline")
        return line.replace("\0", " ").strip() or self.command


class Survey:
    """Who holds which of some objects."""

    def __init__(self, found: Iterable[Found]) -> None:
        self._holders: dict[Identity, list[Holder]] = {one.identity: [] for one in found}
        self.unseen: list[int] = []  # the IDs of processes that could not be looked into
        self.hidden = _hides_processes()  # whether there may be some without an ID here

    @property
    def complete(self) -> bool:
        """Whether every process could be looked into."""
        return not self.unseen and not self.hidden

    def holders(self, one: Found) -> list[Holder]:
        """The processes that hold an object."""
        return self._holders[one.identity]

    def names_of_unseen(self, most: int) -> list[str]:
        """The IDs and commands of some processes that could not be looked into."""
        return [f"{pid} {_first_line_of(f'/proc/{pid}/comm')}" for pid in self.unseen[:most]]

    def look_into(self, pid: int) -> None:
        """Note what a process holds."""
        try:
            mapped, opened = _mapped_by(pid), _opened_by(pid)
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            return
        except PermissionError:
            if not _holds_nothing(pid):
                self.unseen.append(pid)
            return
        for one in self._holders.keys() & (mapped | opened):
            self._holders[one].append(Holder(pid, mapped=one in mapped, open=one in opened))


def survey(found: Iterable[Found]) -> Survey:
    """Look for the processes, other than this one, that hold any of some objects."""
    result = Survey(found)
    for pid in _processes():
        if pid != os.getpid():
            result.look_into(pid)
    return result


def _processes() -> list[int]:
    try:
        return sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal())
    except FileNotFoundError:
        return []


def _mapped_by(pid: int) -> set[Identity]:
    result = set()
    with open(f"/proc/{pid}/maps", "rb") as lines:
        for line in lines:
            device, inode = line.split(None, 5)[3:5]
            major, minor = device.split(b":")
            result.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return result


def _opened_by(pid: int) -> set[Identity]:
    result = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):  # closed meanwhile
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            result.add((status.st_dev, status.st_ino))
    return result


def _first_line_of(path: str) -> str:
    try:
        with open(path, "rb") as lines:
            return os.fsdecode(lines.readline().rstrip(b"\n"))
    except OSError:  # the process has ended
        return ""


def _holds_nothing(pid: int) -> bool:
    """Whether this is a thread of the kernel, or has ended: nobody may look into these."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # from the third one on
    except (FileNotFoundError, ProcessLookupError):
        return True
    except PermissionError:
        return False
    return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & _PF_KTHREAD)


def _hides_processes() -> bool:
    """Whether there is no /proc, or one that does not even show other users' processes."""
    try:
        with open("/proc/self/mountinfo", "rb") as lines:
            mounts = [line.split() for line in lines]
    except FileNotFoundError:
        return True
    hides = any(fields[4] == b"/proc" and b"hidepid=" in fields[-1] for fields in mounts)
    return hides and os.geteuid() != 0
