"""Handing 256 MiB to another process, which reads the first and the last byte and answers.

The other processes run already: one waits on a pipe, for bytes or for a name, and one on a socket,
for descriptors.  A contender's time ends when the right answer is there and, if it made a fresh
object, when that is gone again.
"""

from __future__ import annotations

import errno
import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

from posix_shm import SharedMemoryObject, ShmError, open_shm, recv_shm, send_shm

from . import baseline
from .contenders import OURS, PIPE, C, variant
from .harness import Repeat, Session
from .peers import PEERS, Peer, Populating

SIZE = 256 << 20
FIGURE = "handing 256 MiB to another process"

BY_NAME = "the data in an object, by name"
BY_DESCRIPTOR = "the data in an object, by descriptor"
COPYING = "copied into a fresh object, by name"
POPULATING = "copied into a fresh object that two threads populate, by name"

ENDS = b"\x11\xee"


# ---- the other processes -------------------------------------------------------------------


def _answer(request: bytes | tuple[str, str]) -> bytes:
    if isinstance(request, bytes):
        return bytes((request[0], request[-1]))
    label, name = request
    peer = PEERS[label]
    handle = peer.attach(name)
    pages = peer.pages(handle)
    ends = bytes((pages[0], pages[-1]))
    peer.close(handle)
    return ends


def _serve_pipe(connection: Connection) -> None:
    try:
        while True:
            connection.send(_answer(connection.recv()))
    except EOFError:
        pass


def _serve_socket(sock: socket.socket) -> None:
    try:
        while True:
            with recv_shm(sock) as shm, shm.mmap() as mapping:
                sock.send(bytes((mapping[0], mapping[-1])))
    except ShmError as error:
        if error.errno != errno.ECONNRESET:
            raise


@contextmanager
def _process(serve: Callable[..., None], theirs: Connection | socket.socket) -> Iterator[None]:
    """A process that serves until the other end is closed."""
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield
    finally:
        process.join()


# ---- this one ------------------------------------------------------------------------------


def _repeat(hand_over: Callable[[], bytes]) -> Repeat:
    def run(count: int) -> float:
        start = time.perf_counter_ns()
        for _ in range(count):
            if hand_over() != ENDS:
                raise AssertionError("the other process read something else")
        return (time.perf_counter_ns() - start) / 1e9

    return run


def _by_descriptor(sock: socket.socket, shm: SharedMemoryObject) -> bytes:
    send_shm(sock, shm)
    return sock.recv(len(ENDS))


def _contenders(
    session: Session, stack: ExitStack, connection: Connection, sock: socket.socket
) -> dict[str, Repeat]:
    data = ENDS[:1] + bytes(SIZE - 2) + ENDS[1:]

    def ask(request: bytes | tuple[str, str]) -> bytes:
        connection.send(request)
        answer: bytes = connection.recv()
        return answer

    def copying(label: str, peer: Peer, name: str) -> bytes:
        with peer.fresh(name, SIZE) as handle:
            peer.copy(handle, 0, data)
            return ask((label, name))

    contenders = {PIPE: _repeat(lambda: ask(data))}
    for number, (label, peer) in enumerate(PEERS.items()):
        name, fresh_name = f"{session.prefix}-{number}", f"{session.prefix}-{number}-fresh"
        peer.copy(stack.enter_context(peer.fresh(name, SIZE)), 0, data)
        contenders[variant(label, BY_NAME)] = _repeat(
            lambda label=label, name=name: ask((label, name))
        )
        contenders[variant(label, COPYING)] = _repeat(
            lambda label=label, peer=peer, name=fresh_name: copying(label, peer, name)
        )
        if label == OURS:
            shm = stack.enter_context(open_shm(name))
            contenders[variant(OURS, POPULATING)] = _repeat(
                lambda name=fresh_name: copying(OURS, Populating(reserve=False), name)
            )
    contenders[variant(OURS, BY_DESCRIPTOR)] = _repeat(lambda: _by_descriptor(sock, shm))
    contenders[variant(C, BY_DESCRIPTOR)] = lambda count: baseline.load().hand_over(shm.fd, count)
    return contenders


def run(session: Session) -> None:
    """Measure the ways to hand it over."""
    context = multiprocessing.get_context("spawn")
    connection, their_connection = context.Pipe()
    sock, their_sock = socket.socketpair()
    with (
        _process(_serve_pipe, their_connection),
        connection,
        _process(_serve_socket, their_sock),
        sock,
        ExitStack() as stack,
    ):
        contenders = _contenders(session, stack, connection, sock)
        session.compare(FIGURE, contenders, rounds=session.effort(12, 1))
