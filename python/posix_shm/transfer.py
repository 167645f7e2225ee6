"""Objects that travel to other processes over a socket.

Through the queues, pipes and pools of multiprocessing they travel by themselves.
"""

from __future__ import annotations

from . import _travel
from ._shm import SharedMemoryObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

    from ._typing import Name

__all__ = ["recv_shm", "send_shm"]


def _check(sock: socket) -> None:
    from socket import AF_UNIX

    if not hasattr(sock, "family"):
        raise TypeError(f"a socket is needed, not {sock!r}")
    if sock.family != AF_UNIX:
        raise ValueError(f"descriptors travel over AF_UNIX sockets only, not {sock.family!r}")


def send_shm(sock: socket, shm: SharedMemoryObject) -> None:
    """Send an object over a socket: one zero byte, with a descriptor of it.

    The message holds the object: the sender may close it, and delete its name, at once.

    :param sock: an ``AF_UNIX`` socket, blocking or not.  What it raises itself, such as
        :exc:`BlockingIOError`, comes as it is, and then nothing was sent.
    :param shm: an object, with a name or without.  The name does not travel.
    :raises ValueError: for another kind of socket, or once ``shm`` is closed.
    :raises TypeError: if they are no socket and no shared memory object.

    Source: ``sendmsg`` with ``SCM_RIGHTS``.
    """
    _check(sock)
    if not isinstance(shm, SharedMemoryObject):
        raise TypeError(f"a shared memory object is needed, not {shm!r}")
    _travel.send(sock, shm)


def recv_shm(sock: socket, name: Name | None = None) -> SharedMemoryObject:
    """Receive an object over a socket: one zero byte, with a descriptor of it.

    :param sock: an ``AF_UNIX`` socket, blocking or not.  What it raises itself, such as
        :exc:`TimeoutError`, comes as it is, and then nothing was received.
    :param name: for :attr:`SharedMemoryObject.name`, if it is known.
    :returns: the object that was sent, with the sender's direction.  Its descriptor is
        close-on-exec.
    :raises ShmError: ECONNRESET at the end of file, EMFILE if this process can't have one more
        descriptor, EBADMSG if anything else than one zero byte with one descriptor came.  No
        descriptor is left open.
    :raises ValueError: for another kind of socket.
    :raises TypeError: if it is none.

    Source: ``recvmsg`` with ``SCM_RIGHTS``.
    """
    _check(sock)
    fd = _travel.receive(sock)
    try:
        return SharedMemoryObject(fd, name)
    except BaseException:
        import os

        os.close(fd)
        raise
