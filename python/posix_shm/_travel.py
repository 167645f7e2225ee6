"""How an object gets into another process.

A descriptor travels over an ``AF_UNIX`` socket, beside one byte: :mod:`posix_shm.transfer`.  With
multiprocessing it goes one of two ways:

- With the arguments of a new process: multiprocessing passes the descriptor on.
- Through a queue or a pipe, which carry bytes only: what is pickled is a ticket.  Who unpickles it
  gets the descriptor from the sender, where a thread waits for tickets.

What has been sent and not yet taken is held as the object itself, not as a duplicate of its
descriptor.  So nothing leaks if it is never taken: ``close()`` closes it, as always.  What is
forgotten instead, as the result of a task is, goes when it has been taken, without a warning.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import time
import warnings
from contextlib import suppress
from functools import partial

from . import _shm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Never, Protocol, TypeVar

    from ._typing import Direction

    Shm = TypeVar("Shm", bound=_shm.SharedMemoryObject)
    Identity = tuple[int, int]

    class Way(Protocol):
        """How a descriptor gets here.  Those of multiprocessing are like this, too."""

        def detach(self) -> int: ...


# ---- over a socket -------------------------------------------------------

_BYTE = b"\0"
_INT_SIZE = memoryview(b"").cast("i").itemsize
# For all descriptors that a message may have on Linux, and credentials, so that only the limit of
# descriptors of this process can cut it short.
_CONTROL_SIZE = socket.CMSG_SPACE(253 * _INT_SIZE) + socket.CMSG_SPACE(256)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # SharedMemoryObject() sees to the rest


def send(sock: socket.socket, shm: _shm.SharedMemoryObject, flags: int = 0) -> None:
    """Send an object's descriptor with one zero byte."""
    fd = shm._duplicate()
    try:
        socket.send_fds(sock, [_BYTE], [fd], flags)
    finally:
        os.close(fd)


def _receive(sock: socket.socket, size: int) -> tuple[bytes, list[int], int]:
    """Data, all descriptors that came with them, which are the caller's, and the flags."""
    data, messages, flags, _ = sock.recvmsg(size, _CONTROL_SIZE, _CLOSE_ON_EXEC)
    fds: list[int] = []
    for level, kind, payload in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(payload) - len(payload) % _INT_SIZE
            fds += memoryview(payload[:whole]).cast("i")
    return data, fds, flags


def receive(sock: socket.socket) -> int:
    """Receive what :func:`send` sends.

    :raises ShmError: ECONNRESET at the end of file, EMFILE if this process can't have one more
        descriptor, EBADMSG if something else came.
    """
    data, fds, flags = _receive(sock, len(_BYTE))
    cut_short = flags & socket.MSG_CTRUNC
    if data == _BYTE and len(fds) == 1 and not cut_short and not flags & socket.MSG_TRUNC:
        return fds[0]
    for fd in fds:
        os.close(fd)
    if not data and not fds:
        number, note = errno.ECONNRESET, "the other end was closed before a descriptor came"
    elif cut_short and not fds:
        number, note = errno.EMFILE, "a descriptor came, but this process can't have more"
    else:
        number = errno.EBADMSG
        note = f"one zero byte and one descriptor were expected, not {data!r} and {len(fds)}"
    error = _shm.ShmError(number, os.strerror(number))
    error.add_note(note)
    raise error


# ---- through a queue or a pipe -------------------------------------------

_TICKET_SIZE = 16

# Seconds between attempts to get an answer: a sender needs a free descriptor to give one.
_PAUSES = (0.01, 0.05, 0.25)


class _Ticket:
    """What a message holds: where to ask for a descriptor, and the right to get it, once."""

    def __init__(self, address: str | bytes, number: bytes) -> None:
        self._address = address
        self._number = number

    def detach(self) -> int:
        """Take the descriptor.

        The request is one datagram, which holds the end of a socket pair to answer on.  So nobody
        waits for somebody who has died: the kernel closes that end, wherever it is.

        :raises ConnectionError: if the sender is gone.
        :raises FileNotFoundError: the same.
        :raises ShmError: what :func:`receive` raises; ECONNRESET if the sender has nothing for it.
        """
        for pause in _PAUSES:
            try:
                return self._ask()
            except _shm.ShmError as error:
                if error.errno != errno.ECONNRESET:
                    raise
            time.sleep(pause)
        return self._ask()

    def _ask(self) -> int:
        answers, theirs = socket.socketpair()
        with answers:
            with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as requests:
                requests.connect(self._address)
                socket.send_fds(requests, [self._number], [theirs.fileno()])
            return receive(answers)


class _Outbox:
    """The objects of this process that are under way, and a thread that hands them out."""

    def __init__(self) -> None:
        self._requests: socket.socket | None = None
        self.start_empty()

    def start_empty(self) -> None:
        """In a new child process, too: the thread, and what is under way, are the parent's."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        self._objects: dict[bytes, _shm.SharedMemoryObject] = {}
        self._lock = threading.RLock()

    def pause(self) -> None:
        """Before a fork: a child would inherit the descriptors of an answer for good."""
        self._lock.acquire()

    def resume(self) -> None:
        """After it, in the parent."""
        self._lock.release()

    def add(self, shm: _shm.SharedMemoryObject) -> _Ticket:
        """Hold an object until it is taken or closed."""
        number = os.urandom(_TICKET_SIZE)
        with self._lock:
            if self._requests is None:
                self._requests = self._open()
            for old, held in list(self._objects.items()):
                if held.closed:
                    self._objects.pop(old, None)
            self._objects[number] = shm
            shm._hand_over()
            return _Ticket(self._requests.getsockname(), number)

    def _open(self) -> socket.socket:
        requests = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            requests.bind(_fresh_address())
            threading.Thread(
                target=self._serve, args=(requests,), name="posix_shm outbox", daemon=True
            ).start()
        except BaseException:
            requests.close()
            raise
        return requests

    def _serve(self, requests: socket.socket) -> None:
        with requests:
            while True:
                requests.recv(1, socket.MSG_PEEK)  # waits, and takes nothing
                with self._lock:
                    number, fds, _ = _receive(requests, _TICKET_SIZE)
                    no_sockets = [fd for fd in fds if not self._answer(number, fd)]
                for fd in no_sockets:  # of a stranger, whose file system may let us wait
                    os.close(fd)

    def _answer(self, number: bytes, fd: int) -> bool:
        """Answer on a socket, which is closed then; false if it is none."""
        try:
            answers = socket.socket(fileno=fd)
        except OSError:
            return False
        with answers:
            with suppress(OSError):  # closing must not wait, whatever socket a stranger sends
                answers.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(2 * _INT_SIZE))
            shm = self._objects.pop(number, None)
            if shm is not None:
                try:
                    send(answers, shm, socket.MSG_DONTWAIT)
                except _shm.ShmError:  # there is no descriptor free; they will ask again
                    self._objects[number] = shm
                except (OSError, ValueError):  # the receiver has died, or the object is closed
                    pass
        return True


def _fresh_address() -> str | bytes:
    if sys.platform == "linux":
        # Not a file, so that a killed process leaves none.  Everybody may send requests to it, and
        # only a ticket is answered.
        return b"\0posix_shm-" + os.urandom(_TICKET_SIZE).hex().encode()
    from multiprocessing.util import get_temp_dir

    return os.path.join(get_temp_dir(), os.urandom(_TICKET_SIZE // 2).hex())


_outbox = _Outbox()
os.register_at_fork(
    before=_outbox.pause, after_in_parent=_outbox.resume, after_in_child=_outbox.start_empty
)


# ---- pickling ------------------------------------------------------------


class _Anchor:
    """Raises the TypeError of an object that can't be pickled."""

    def __init__(self, shm: _shm.SharedMemoryObject) -> None:
        self._shm = shm

    def __reduce__(self) -> Never:
        _shm.SharedMemoryObject.__reduce__(self._shm)


class _Passenger:
    """Stands for an object in a message of multiprocessing, and is that object on arrival."""

    def __init__(self, shm: _shm.SharedMemoryObject) -> None:
        self._shm = shm

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing import context, reduction

        shm = self._shm
        what = type(shm), shm.name, shm.direction, _identity(shm)
        way: Way
        if context.get_spawning_popen() is not None:
            way = reduction.DupFd(shm.fileno())
        else:
            way = _outbox.add(shm)
        return _arrive, (*what, way)


def reduce(shm: _shm.SharedMemoryObject) -> tuple[Any, ...]:
    """For ``__reduce_ex__``: an object goes with multiprocessing, and with no other pickler.

    A pickler does not say whose it is.  But all of multiprocessing's leave the attributes of a
    ``functools.partial`` behind, and others do not: one has an attribute that can't be pickled.
    That holds whatever was imported first, in every thread, and for classes derived from
    ``ForkingPickler``; and only they come as far as the passenger.
    """
    anchored = partial(_disembark)
    anchored.anchor = _Anchor(shm)  # type: ignore[attr-defined]
    return _disembark, (anchored, _Passenger(shm)), shm.__getstate__()


def _disembark(anchored: partial[object], shm: Shm) -> Shm:
    """The object that has arrived."""
    if vars(anchored):  # copy.copy() does not pickle
        anchored.anchor.__reduce__()  # type: ignore[attr-defined]
    return shm


def _arrive(
    kind: type[Shm], name: str | None, direction: Direction, identity: Identity, way: Way
) -> Shm:
    """What a passenger becomes where it is unpickled.

    If the descriptor can't be had any more, an object that still has its name is opened by it;
    else a closed one arrives.  Nothing is raised: in a process of a pool that would be the end of
    the process, and of no task.
    """
    shm: Shm | None = None
    try:
        shm = _made(kind, way.detach(), name)
    except (ConnectionError, FileNotFoundError):
        pass
    except _shm.ShmError as error:
        if error.errno != errno.ECONNRESET:
            raise
    if shm is not None and _identity(shm) != identity:
        # It was closed while the process was started, and the number is another file's now.
        shm.detach()
        shm = None
    if shm is None and name is not None:
        shm = _opened(kind, name, direction, identity)
    if shm is None:
        warnings.warn(
            f"the shared memory object {name or 'without a name'} arrives closed: its sender "
            "closed it, or ended, before it was received",
            RuntimeWarning,
            stacklevel=2,
        )
        shm = _made(kind, os.open(os.devnull, os.O_RDONLY), name)
        shm.close()
    return shm


def _made(kind: type[Shm], fd: int, name: str | None) -> Shm:
    """As :func:`make_shm`, of a class whose constructor may be another one."""
    return _shm.SharedMemoryObject.__new__(kind, fd, name)


def _opened(kind: type[Shm], name: str, direction: Direction, identity: Identity) -> Shm | None:
    """Open the object by its name, if the name still is that object's."""
    try:
        found = _shm.open_shm(name, direction=direction)
    except _shm.ShmError:
        return None
    with found:
        return _made(kind, found.detach(), name) if _identity(found) == identity else None


def _identity(shm: _shm.SharedMemoryObject) -> Identity:
    found = shm.stat()
    return found.st_dev, found.st_ino
