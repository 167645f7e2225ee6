"""Objects that travel over a socket, to Python and to C."""

from __future__ import annotations

import array
import errno
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from types import FunctionType
from typing import Any

import posix_shm
import pytest
from posix_shm import (
    SharedMemoryObject,
    ShmError,
    _travel,
    delete_shm,
    make_shm,
    open_anonymous_shm,
    open_shm,
    recv_shm,
    send_shm,
)

from .elsewhere import in_a_process
from .support import PAGE, descriptors

Pair = tuple[socket.socket, socket.socket]

KINDS = [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection within this machine."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def send_raw(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    """Send any data with any descriptors."""
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], control)


def fails_with(error: int, sock: socket.socket) -> ShmError:
    """That receiving raises a ShmError with this errno, and leaves no descriptor behind."""
    before = descriptors()
    with pytest.raises(ShmError) as caught:
        recv_shm(sock)
    assert descriptors() == before
    assert caught.value.errno == error
    assert caught.value.strerror == os.strerror(error)
    assert caught.value.__notes__
    return caught.value


# ---- what arrives ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=attrgetter("name"))
def test_the_same_object_arrives_over_every_kind_of_unix_socket(kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs, open_anonymous_shm(direction="io", size=PAGE) as shm:
        send_shm(ours, shm)
        with recv_shm(theirs) as received, shm.mmap() as here, received.mmap() as there:
            assert os.path.samestat(received.stat(), shm.stat())
            assert received.fd != shm.fd
            here[:5] = b"hello"
            assert there[:5] == b"hello"


@pytest.mark.parametrize("direction", ["input", "io"])
def test_the_direction_arrives(name: str, direction: str, pair: Pair) -> None:
    open_shm(name, direction="io", if_exists="error", size=PAGE).close()
    with open_shm(name, direction=direction) as shm:  # type: ignore[call-overload]
        send_shm(pair[0], shm)
    with recv_shm(pair[1]) as received:
        assert received.direction == direction


def test_what_arrives_is_a_shared_memory_object_with_the_name_that_the_receiver_gives(
    pair: Pair,
) -> None:
    with open_anonymous_shm(size=PAGE) as shm:
        for name, canonical in ((None, None), ("known", "/known"), (b"/known", "/known")):
            send_shm(pair[0], shm)
            with recv_shm(pair[1], name) as received:
                assert type(received) is SharedMemoryObject
                assert received.name == canonical


def test_the_sender_may_delete_and_close_the_object_as_soon_as_it_is_sent(
    name: str, pair: Pair
) -> None:
    with open_shm(name, direction="io", if_exists="error", size=PAGE) as shm:
        with shm.mmap() as mapping:
            mapping[:5] = b"hello"
        send_shm(pair[0], shm)
    delete_shm(name)
    pair[0].close()
    with recv_shm(pair[1]) as received, received.mmap() as mapping:
        assert mapping[:5] == b"hello"


def test_objects_arrive_in_the_order_in_which_they_are_sent(pair: Pair) -> None:
    for size in (1, 2, 3):
        with open_anonymous_shm(size=size) as shm:
            send_shm(pair[0], shm)
    for size in (1, 2, 3):
        with recv_shm(pair[1]) as received:
            assert received.size == size


def test_a_sealed_object_arrives_sealed(pair: Pair) -> None:
    with open_anonymous_shm(sealable=True, size=PAGE) as shm:
        shm.seal("shrink", "grow", "write", "seal")
        send_shm(pair[0], shm)
    with recv_shm(pair[1]) as received:
        assert received.seals == {"shrink", "grow", "write", "seal"}


@pytest.mark.parametrize("kind", KINDS, ids=attrgetter("name"))
def test_a_received_descriptor_is_close_on_exec(kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs, open_anonymous_shm(size=PAGE) as shm:
        os.set_inheritable(shm.fd, True)
        send_shm(ours, shm)
        with recv_shm(theirs) as received:
            assert not os.get_inheritable(received.fd)


def test_a_descriptor_is_close_on_exec_from_the_moment_when_it_arrives(pair: Pair) -> None:
    """Another thread may start a program before it is an object."""
    with open_anonymous_shm(size=PAGE) as shm:
        send_shm(pair[0], shm)
    fd = _travel.receive(pair[1])
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_the_message_is_one_zero_byte_and_one_descriptor(pair: Pair) -> None:
    with open_anonymous_shm(size=PAGE) as shm:
        send_shm(pair[0], shm)
        data, fds, _, _ = socket.recv_fds(pair[1], 100, 10)
        assert data == b"\0"
        assert len(fds) == 1
        with make_shm(fds[0]) as received:
            assert os.path.samestat(received.stat(), shm.stat())


def test_a_receiver_that_gets_credentials_too_gets_the_object(pair: Pair) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with open_anonymous_shm(size=PAGE) as shm:
        send_shm(pair[0], shm)
        with recv_shm(pair[1]) as received:
            assert os.path.samestat(received.stat(), shm.stat())


def run_with(sock: socket.socket, *command: str | Path) -> None:
    """Run a program that has one end of a connection, as its argument."""
    with sock:
        fd = sock.fileno()
        subprocess.run([*command[:-1], str(fd), command[-1]], pass_fds=[fd], check=True)


def test_an_object_travels_to_another_interpreter_and_back(name: str, pair: Pair) -> None:
    code = """
import socket, sys
from posix_shm import recv_shm, send_shm
with socket.socket(fileno=int(sys.argv[1])) as sock, recv_shm(sock, sys.argv[2]) as shm:
    with shm.mmap() as mapping:
        mapping[:5] = mapping[:5].upper()
    send_shm(sock, shm)
"""
    with open_anonymous_shm(direction="io", size=PAGE) as shm, shm.mmap() as mapping:
        mapping[:5] = b"hello"
        send_shm(pair[0], shm)
        run_with(pair[1], sys.executable, "-W", "error", "-c", code, name)
        with recv_shm(pair[0]) as received:
            assert os.path.samestat(received.stat(), shm.stat())
        assert mapping[:5] == b"HELLO"


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program that is the other end."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    program = tmp_path_factory.mktemp("peer") / "peer"
    source = Path(__file__).with_name("peer.c")
    libraries = ["-lrt"] if sys.platform == "linux" else []
    subprocess.run(
        [compiler, "-std=c11", "-D_GNU_SOURCE", source, "-o", program, *libraries], check=True
    )
    return program


def test_a_c_program_can_be_the_other_end(name: str, pair: Pair, peer: Path) -> None:
    with open_anonymous_shm(direction="io", size=PAGE) as shm, shm.mmap() as mapping:
        mapping[:5] = b"hello"
        send_shm(pair[0], shm)
        run_with(pair[1], peer, name)
        assert mapping[:6] == b"HELLO\0"
    with recv_shm(pair[0]) as received, received.mmap() as mapping:
        assert received.direction == "io"
        assert mapping[:] == b"made in C\0"


# ---- what can't be received --------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=attrgetter("name")
)
def test_the_end_of_the_file_is_a_connection_that_was_reset(kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        ours.shutdown(socket.SHUT_WR)
        assert "closed" in fails_with(errno.ECONNRESET, theirs).__notes__[0]


@pytest.mark.parametrize(
    ("kind", "data", "count"),
    [
        pytest.param(socket.SOCK_STREAM, b"\0", 0, id="no descriptor"),
        pytest.param(socket.SOCK_STREAM, b"\0", 2, id="two descriptors"),
        pytest.param(socket.SOCK_STREAM, b"\0", 253, id="as many descriptors as Linux sends"),
        pytest.param(socket.SOCK_STREAM, b"x", 1, id="another byte"),
        pytest.param(socket.SOCK_DGRAM, b"\0\0", 1, id="two bytes"),
        pytest.param(socket.SOCK_DGRAM, b"", 1, id="no byte"),
    ],
)
def test_another_message_is_a_bad_message_and_its_descriptors_are_closed(
    kind: socket.SocketKind, data: bytes, count: int
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs, open_anonymous_shm(size=PAGE) as shm:
        send_raw(ours, data, [shm.fd] * count)
        assert str(count) in fails_with(errno.EBADMSG, theirs).__notes__[0]
        send_shm(ours, shm)
        recv_shm(theirs).close()


@in_a_process
def test_a_descriptor_that_this_process_has_no_number_for_is_an_error_that_says_so() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    ours, theirs = socket.socketpair()
    with ours, theirs, open_anonymous_shm(size=PAGE) as shm:
        before = descriptors()
        free = [fd for fd in range(100) if fd not in before]
        for count, allowed, error in ((1, 0, errno.EMFILE), (3, 1, errno.EBADMSG)):
            send_raw(ours, b"\0", [shm.fd] * count)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free[allowed], limits[1]))
            with pytest.raises(ShmError) as caught:
                recv_shm(theirs)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert caught.value.errno == error
            assert descriptors() == before


def test_a_name_that_no_object_can_have_leaves_no_descriptor_behind(pair: Pair) -> None:
    with open_anonymous_shm(size=PAGE) as shm:
        send_shm(pair[0], shm)
    before = descriptors()
    with pytest.raises(ShmError) as caught:
        recv_shm(pair[1], "/a/b")
    assert caught.value.errno == errno.EINVAL
    assert descriptors() == before


# ---- sockets that don't block ------------------------------------------------------------------


def test_receiving_without_blocking_leaves_an_object_that_comes_later_alone(pair: Pair) -> None:
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        recv_shm(pair[1])
    with open_anonymous_shm(size=PAGE) as shm:
        send_shm(pair[0], shm)
    recv_shm(pair[1]).close()


def test_receiving_with_a_timeout_is_a_timeout_and_the_socket_still_works(pair: Pair) -> None:
    pair[1].settimeout(0.001)
    with pytest.raises(TimeoutError):
        recv_shm(pair[1])
    with open_anonymous_shm(size=PAGE) as shm:
        send_shm(pair[0], shm)
    recv_shm(pair[1]).close()


@pytest.mark.parametrize(("timeout", "error"), [(0, BlockingIOError), (0.001, TimeoutError)])
def test_sending_to_a_full_socket_sends_nothing(
    timeout: float, error: type[OSError], pair: Pair
) -> None:
    pair[0].settimeout(timeout)
    pair[0].setblocking(False)
    sent = 0
    with open_anonymous_shm(size=PAGE) as shm:
        with suppress(BlockingIOError):
            while True:
                send_shm(pair[0], shm)
                sent += 1
        pair[0].settimeout(timeout)
        before = descriptors()
        with pytest.raises(error):
            send_shm(pair[0], shm)
        assert descriptors() == before
    for _ in range(sent):
        recv_shm(pair[1]).close()
    pair[0].close()
    fails_with(errno.ECONNRESET, pair[1])


# ---- what can't be sent ------------------------------------------------------------------------


def test_only_a_unix_socket_takes_descriptors() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        open_anonymous_shm(size=PAGE) as shm,
    ):
        with pytest.raises(ValueError, match="AF_UNIX"):
            send_shm(sock, shm)
        with pytest.raises(ValueError, match="AF_UNIX"):
            recv_shm(sock)


@pytest.mark.parametrize(
    "sock", [None, 1, "socket", object()], ids=["None", "int", "str", "object"]
)
def test_what_is_no_socket_is_a_type_error(sock: Any) -> None:
    with open_anonymous_shm(size=PAGE) as shm:
        with pytest.raises(TypeError):
            send_shm(sock, shm)
        with pytest.raises(TypeError):
            recv_shm(sock)


def test_only_a_shared_memory_object_is_sent(pair: Pair) -> None:
    with open(os.devnull, "rb") as file, pytest.raises(TypeError, match="shared memory object"):
        send_shm(pair[0], file)  # type: ignore[arg-type]


def test_a_closed_object_is_not_sent(pair: Pair) -> None:
    shm = open_anonymous_shm(size=PAGE)
    shm.close()
    with pytest.raises(ValueError, match="closed"):
        send_shm(pair[0], shm)
    pair[0].close()
    fails_with(errno.ECONNRESET, pair[1])


def test_a_socket_that_nobody_reads_any_more_is_a_broken_pipe(pair: Pair) -> None:
    pair[1].close()
    with open_anonymous_shm(size=PAGE) as shm:
        before = descriptors()
        with pytest.raises(BrokenPipeError):
            send_shm(pair[0], shm)
        assert descriptors() == before


def test_an_object_that_another_thread_closes_is_sent_or_nothing_is(pair: Pair) -> None:
    barrier = threading.Barrier(2)

    def close_and_open_another_file(shm: SharedMemoryObject) -> int:
        barrier.wait()
        shm.close()
        return os.open(os.devnull, os.O_RDONLY)

    sent = []
    with open_anonymous_shm(size=PAGE) as shm, ThreadPoolExecutor(1) as other:
        for _ in range(200):
            closed = make_shm(os.dup(shm.fd))
            other_file = other.submit(close_and_open_another_file, closed)
            barrier.wait()
            try:
                send_shm(pair[0], closed)
                with recv_shm(pair[1]) as received:
                    sent.append(received.stat().st_ino)
            except ValueError:
                pass
            os.close(other_file.result())
        assert set(sent) <= {shm.stat().st_ino}
    pair[0].close()
    fails_with(errno.ECONNRESET, pair[1])


def test_many_threads_send_and_receive_at_once(pair: Pair) -> None:
    def receive(_: int) -> bool:
        with recv_shm(pair[1]) as received:
            return os.path.samestat(received.stat(), shm.stat())

    count = 200
    with (
        open_anonymous_shm(size=PAGE) as shm,
        ThreadPoolExecutor(3) as senders,
        ThreadPoolExecutor(3) as receivers,
    ):
        sent = senders.map(send_shm, [pair[0]] * count, [shm] * count)
        assert all(receivers.map(receive, range(count)))
        assert list(sent) == [None] * count


# ---- the names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [send_shm, recv_shm])
def test_the_package_has_the_functions_and_their_documentation(
    function: FunctionType,
) -> None:
    assert getattr(posix_shm, function.__name__) is function
    assert "AF_UNIX" in (function.__doc__ or "")
