"""What the processes of test_multiprocessing.py do.

Each function at the end of this file, which takes a start method, is the body of a test, and what
is above them runs in the processes that they start.  pytest is not imported, so that a process
starts quickly.
"""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from posix_shm import (
    SharedMemoryObject,
    _travel,
    delete_shm,
    open_anonymous_shm,
    open_shm,
)

from .support import PAGE, descriptors

Identity = tuple[int, int]
Receive = Callable[[], Any]
Send = Callable[[Any], None]

TIMEOUT = 10


def identity_of(shm: SharedMemoryObject) -> Identity:
    """What two objects never have in common."""
    found = shm.stat()
    return found.st_dev, found.st_ino


def new(text: bytes = b"hello") -> SharedMemoryObject:
    """An object without a name that holds a text."""
    shm = open_anonymous_shm(direction="io", size=PAGE)
    with shm.mmap() as mapping:
        mapping[: len(text)] = text
    return shm


def read(shm: SharedMemoryObject) -> bytes:
    """The text that an object holds."""
    with shm.mmap() as mapping:
        return mapping[:].rstrip(b"\0")


def shout(shm: SharedMemoryObject) -> None:
    """Change the text that an object holds."""
    with shm.mmap() as mapping:
        mapping[:] = mapping[:].upper()


@contextmanager
def started(context: Any, target: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """A process that must end well, and leaves nothing behind in this one."""
    process = context.Process(target=target, args=arguments)
    process.start()
    yield process
    process.join(TIMEOUT)
    assert process.exitcode == 0, process.exitcode
    process.close()


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """After the block, the descriptors are those of before."""
    gc.collect()
    before = descriptors()
    yield
    gc.collect()
    if _travel._outbox._requests is not None:
        assert ask(b"nothing") == b""  # when that is answered, so is what was asked before
    now = descriptors()
    assert now == before, set(now.items()) ^ set(before.items())


def ask(ticket: bytes) -> bytes:
    """What the outbox of this process says to a ticket that is none of its own."""
    assert _travel._outbox._requests is not None
    answers, theirs = socket.socketpair()
    with answers:
        with theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as requests:
            requests.connect(_travel._outbox._requests.getsockname())
            socket.send_fds(requests, [ticket], [theirs.fileno()])
        return answers.recv(1)


@contextmanager
def raises(kind: type[Exception], words: str) -> Iterator[None]:
    """That the block raises this, with these words."""
    caught = None
    try:
        yield
    except kind as error:
        caught = error
    assert words in str(caught)


def warm_up(context: Any) -> None:
    """Open what multiprocessing and the library keep open for as long as a process lives."""
    here, there = context.Pipe()
    with here, there, new() as shm:
        here.send(shm)
        there.recv().close()
        with started(context, SharedMemoryObject.close, shm):
            pass


# ---- what the other processes do ---------------------------------------------------------------


def look_at_arguments(
    shm: SharedMemoryObject, again: SharedMemoryObject, *, named: SharedMemoryObject, report: Send
) -> None:
    assert again is shm
    assert not os.get_inheritable(shm.fd)
    assert not os.get_inheritable(named.fd)
    shout(shm)
    report([(s.name, s.direction, identity_of(s)) for s in (shm, named)])
    shm.close()
    named.close()


def answer(ways: list[tuple[Receive, Send]]) -> None:
    """Over each way: take an object, change it, and send back one made here."""
    for receive, send in ways:
        with receive() as shm:
            shout(shm)
            assert not os.get_inheritable(shm.fd)
            send((shm.name, shm.direction, identity_of(shm)))
        with new(b"made there") as made:
            send(made)
            receive()


_initial_texts: list[bytes] = []


def initialize(shm: SharedMemoryObject) -> None:
    with shm:
        _initial_texts.append(read(shm))


def shouted(shm: SharedMemoryObject) -> SharedMemoryObject:
    """Change the object; return a new one with both texts, and forget it."""
    with shm:
        shout(shm)
        return new(_initial_texts[0] + b" " + read(shm))


def take_nothing(connection: Connection, report: Send) -> None:
    """Have the message, do not unpickle it, and wait for the end."""
    connection.recv_bytes()
    report("ready")
    signal.pause()


def take_until_killed(connection: Connection) -> None:
    while True:
        connection.recv().close()


def take_all(connection: Connection) -> None:
    """Nothing is left open after the objects that came."""
    connection.recv().close()
    with nothing_left_behind():
        while (shm := connection.recv()) is not None:
            shm.close()
    connection.send("thanks")


def send_and_end(connection: Connection, name: str) -> None:
    for shm in (new(), open_shm(name)):
        with shm:
            connection.send(shm)


def send_and_forget(connection: Connection) -> None:
    for text in (b"one", b"two"):
        connection.send(new(text))
    connection.recv()


def look_at_what_was_forked(outbox: set[str], connection: Connection) -> None:
    """Nothing of the parent's outbox is here, and this process may send objects itself."""
    left = outbox.intersection(descriptors().values())
    assert not left, left
    with new(b"made there") as shm:
        connection.send(shm)
        connection.recv()


def look_at_what_arrives_closed(shm: SharedMemoryObject) -> None:
    assert shm.closed


class Labelled(SharedMemoryObject):
    """A subclass with a constructor and an attribute of its own."""

    label: str

    def __new__(cls, label: str) -> Labelled:
        with new() as shm:
            self = super().__new__(cls, os.dup(shm.fd))
        self.label = label
        return self

    def __init__(self, label: str) -> None:
        super().__init__()


def report_label(shm: Labelled, report: Send) -> None:
    with shm:
        report((type(shm), shm.label, read(shm)))


class ReplacedMeanwhile(SharedMemoryObject):
    """Another thread closes it while it is on its way, and another file gets its number."""

    def fileno(self) -> int:
        fd = super().fileno()
        self.close()
        assert os.open(os.devnull, os.O_RDONLY) == fd
        return fd


class OurPickler(ForkingPickler):
    """As other libraries have them."""


# ---- the tests ---------------------------------------------------------------------------------


def arguments(method: str, name: str) -> None:
    context = get_context(method)
    here, there = context.Pipe()
    open_shm(name, direction="io", if_exists="error", size=PAGE).close()
    with here, there, new() as shm, open_shm(name) as named:
        delete_shm(name)
        target = partial(look_at_arguments, named=named, report=there.send)
        with started(context, target, shm, shm):
            expected = [(s.name, s.direction, identity_of(s)) for s in (shm, named)]
            assert here.recv() == expected
        assert read(shm) == b"HELLO"


def channels(method: str) -> None:
    context = get_context(method)
    with context.Manager() as manager:
        here, there = context.Pipe()
        ways: list[tuple[Receive, Send]] = [(here.recv, here.send)]
        others: list[tuple[Receive, Send]] = [(there.recv, there.send)]
        kinds = (context.SimpleQueue, context.Queue, context.JoinableQueue, manager.Queue)
        queues: list[tuple[Any, Any]] = [(kind(), kind()) for kind in kinds]
        for to, fro in queues:
            ways.append((fro.get, to.put))
            others.append((to.get, fro.put))
        with started(context, answer, others):
            for receive, send in ways:
                with new() as shm:
                    send(shm)
                    assert receive() == (None, "io", identity_of(shm))
                    assert read(shm) == b"HELLO"
                with receive() as made:
                    send("thanks")
                    assert read(made) == b"made there"
        with new() as shm:
            kept = manager.dict(it=shm)
        with kept["it"] as shm:
            assert read(shm) == b"hello"
        del kept
        for queue in (queue for pair in queues[1:3] for queue in pair):
            queue.close()
            queue.join_thread()


def pools(method: str) -> None:
    context = get_context(method)
    with new(b"first") as first:
        objects = [new(text) for text in (b"one", b"two", b"three")]
        with context.Pool(2, initialize, (first,)) as pool:
            results = pool.map(shouted, objects)
        with ProcessPoolExecutor(2, context, initialize, (first,)) as executor:
            results += executor.map(shouted, objects)
        for result, text in zip(results, 2 * (b"ONE", b"TWO", b"THREE"), strict=True):
            with result:
                assert read(result) == b"first " + text
        for shm in objects:
            shm.close()


def forgotten_objects(method: str) -> None:
    context = get_context(method)
    here, there = context.Pipe()
    with started(context, send_and_forget, there):
        for text in (b"one", b"two"):
            with here.recv() as shm:
                assert read(shm) == text
        here.send("thanks")
    here.send(new(b"three"))
    gc.collect()
    with there.recv() as shm:
        assert read(shm) == b"three"
    ask(b"nothing")
    assert not _travel._outbox._objects, "what was taken is still held"


def names_that_change(method: str, name: str) -> None:
    context = get_context(method)
    here, there = context.Pipe()
    changes: list[Callable[[], None]] = [
        lambda: delete_shm(name),
        lambda: open_shm(name, direction="io", if_exists="supersede").close(),
    ]
    for change in changes:
        with open_shm(name, direction="io", if_exists="supersede", size=PAGE) as shm:
            here.send(shm)
            change()
            with there.recv() as received:
                assert identity_of(received) == identity_of(shm)
                assert received.name == shm.name == name
                assert received.direction == "io"
    delete_shm(name)


def withdrawn_objects(method: str, name: str) -> None:
    """What has been closed arrives by its name, if that is certain, and else closed."""
    here, there = get_context(method).Pipe()
    with new() as shm:
        here.send(shm)
    assert_arrives_closed(there, None)
    for direction in ("input", "io"):
        open_shm(name, direction="io", if_exists="supersede", size=PAGE).close()
        with open_shm(name, direction=direction) as shm:
            here.send(shm)
            here.send(shm)
            identity = identity_of(shm)
        with there.recv() as received:
            assert identity_of(received) == identity
            assert (received.name, received.direction) == (name, direction)
        open_shm(name, direction="io", if_exists="supersede", size=PAGE).close()
        assert_arrives_closed(there, name)
    with open_shm(name) as shm:
        here.send(shm)
        delete_shm(name)
    assert_arrives_closed(there, name)


def assert_arrives_closed(connection: Connection, name: str | None) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shm = connection.recv()
    assert shm.closed
    assert shm.name == name
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert "closed" in str(caught[0].message)


def senders_that_ended(method: str, name: str) -> None:
    context = get_context(method)
    here, there = context.Pipe()
    with open_shm(name, direction="io", if_exists="error", size=PAGE) as shm:
        with started(context, send_and_end, there, name):
            pass
        assert_arrives_closed(here, None)
        with here.recv() as received:
            assert identity_of(received) == identity_of(shm)
    delete_shm(name)


def tasks_that_come_too_late(method: str) -> None:
    """A task whose object was closed fails, and the pool goes on."""
    context = get_context(method)
    gate, worker = context.Pipe()
    with context.Pool(1) as pool:
        first = pool.apply_async(worker.recv)
        with new() as shm:
            late = pool.apply_async(read, (shm,))
            while not _travel._outbox._objects:  # until the message is in the pipe
                os.sched_yield()
        gate.send("go on")
        assert first.get(TIMEOUT) == "go on"
        with raises(ValueError, "closed"):
            late.get(TIMEOUT)
        with new() as shm:
            assert pool.apply(read, (shm,)) == b"hello"


def what_is_never_taken(method: str) -> None:
    context = get_context(method)
    warm_up(context)
    with nothing_left_behind():
        here, there = context.Pipe()
        queue = context.Queue()
        for _ in range(100):
            with new() as shm:
                here.send(shm)
        with new() as shm:
            queue.put(shm)
            queue.close()
            queue.join_thread()
        here.close()
        there.close()
        del queue


def receivers_that_die(method: str) -> None:
    context: Any = get_context(method)
    warm_up(context)
    with nothing_left_behind():
        here, there = context.Pipe()
        reader, report = context.Pipe()
        process = context.Process(target=take_nothing, args=(there, report.send))
        process.start()
        with new() as shm:
            here.send(shm)
            assert reader.recv() == "ready"
            process.kill()
            process.join()
        process.close()
        for end in (here, there, reader, report):
            end.close()
    with nothing_left_behind():
        here, there = context.Pipe()
        process = context.Process(target=take_until_killed, args=(there,))
        process.start()
        with new() as shm:
            for i in range(100):
                here.send(shm)
                if i == 50:
                    process.kill()
            process.join()
        process.close()
        here.close()
        there.close()


def receivers_that_live(method: str) -> None:
    context = get_context(method)
    warm_up(context)
    with nothing_left_behind():
        here, there = context.Pipe()
        with started(context, take_all, there), new() as shm:
            for _ in range(100):
                here.send(shm)
            here.send(None)
            assert here.recv() == "thanks"
        here.close()
        there.close()


def processes_that_are_forked_meanwhile(method: str) -> None:
    here, there = get_context(method).Pipe()
    before = descriptors()
    with new() as shm:
        here.send(shm)
        here.send(new(b"forgotten"))
        outbox = {what for fd, what in descriptors().items() if fd not in {*before, shm.fd}}
        assert len(outbox) == 2  # a socket, and what only the outbox holds
        back, forth = get_context(method).Pipe()
        with started(get_context(method), look_at_what_was_forked, outbox, forth):
            with back.recv() as made:
                assert read(made) == b"made there"
            back.send("thanks")
        for text in (b"hello", b"forgotten"):
            with there.recv() as received:
                assert read(received) == text


def processes_that_are_forked_at_that_moment(method: str) -> None:
    """None inherits a descriptor that the outbox has for the moment of an answer."""
    here, there = get_context(method).Pipe()
    with new() as shm:
        here.send(shm)
        there.recv().close()
        ask(b"nothing")
        assert _travel._outbox._requests is not None
        expected = descriptors().keys() - {_travel._outbox._requests.fileno()}
        for _ in range(100):
            here.send(shm)
            with there.recv() as received:
                child = os.fork()
                if child == 0:
                    os._exit(descriptors().keys() != expected | {received.fd})
                assert os.waitpid(child, 0) == (child, 0)


def subclasses(method: str) -> None:
    context = get_context(method)
    here, there = context.Pipe()
    with Labelled("ours") as shm:
        with started(context, report_label, shm, there.send):
            assert here.recv() == (Labelled, "ours", b"hello")
        here.send(shm)
        with there.recv() as received:
            assert (type(received), received.label) == (Labelled, "ours")


def numbers_that_are_used_again(method: str) -> None:
    context = get_context(method)
    with new() as shm:
        replaced = ReplacedMeanwhile(os.dup(shm.fd))
        number = SharedMemoryObject.fileno(replaced)
        with started(context, look_at_what_arrives_closed, replaced):
            pass
        os.close(number)


def other_picklers(method: str) -> None:
    """Whatever is made of multiprocessing's pickler takes objects, and nothing else does."""
    with new() as shm:
        for refuse in (pickle.dumps, copy.copy, copy.deepcopy):
            with raises(TypeError, "open_shm"):
                refuse(shm)
        assert _travel._outbox._requests is None, "what was refused is under way all the same"
        buffer = io.BytesIO()
        OurPickler(buffer, pickle.HIGHEST_PROTOCOL).dump([shm, shm])
        received, again = pickle.loads(buffer.getvalue())
        assert received is again
        with received:
            assert identity_of(received) == identity_of(shm)
    here, there = get_context(method).Pipe()
    with here, there, new() as closed, raises(ValueError, "closed"):
        closed.close()
        here.send(closed)


def strangers(method: str) -> None:
    """What comes to the outbox from somebody who has no ticket."""
    warm_up(get_context(method))
    assert _travel._outbox._requests is not None
    address = _travel._outbox._requests.getsockname()
    with nothing_left_behind(), new() as shm:
        here, there = get_context(method).Pipe()
        with here, there, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            here.send(shm)
            sock.connect(address)
            sock.send(b"")
            sock.send(b"x" * 1000)
            socket.send_fds(sock, [b"x" * 16], [shm.fd, shm.fd])
            assert ask(b"x" * 16) == b""
            with there.recv() as received:
                assert identity_of(received) == identity_of(shm)


def many_threads(method: str) -> None:
    context = get_context(method)
    failures = []

    def converse() -> None:
        try:
            here, there = context.Pipe()
            with here, there:
                for i in range(50):
                    with new(b"%d" % i) as shm:
                        here.send(shm)
                        with there.recv() as received:
                            assert read(received) == b"%d" % i
        except BaseException as error:
            failures.append(error)
            raise

    warm_up(context)
    with nothing_left_behind():
        threads = [threading.Thread(target=converse) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
