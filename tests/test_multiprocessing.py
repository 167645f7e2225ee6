"""Objects that travel with multiprocessing and concurrent.futures.

The bodies of the tests are in travellers.py, and each runs in an interpreter of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import travellers
from .support import ROOT, run_python

METHODS = ["fork", "forkserver", "spawn"]

# Since Python 3.12 to fork a process with threads is worth a warning; multiprocessing itself does.
OPTIONS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")

every_method = pytest.mark.parametrize("method", METHODS)


ARRIVES_CLOSED = ("-W", "always:the shared memory object:RuntimeWarning")


def run(body: Callable[..., None], *arguments: str, options: tuple[str, ...] = ()) -> str:
    """Call a function of travellers.py in a new interpreter; return its standard error."""
    code = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        f"from tests.travellers import {body.__name__}\n"
        f"{body.__name__}(*sys.argv[2:])\n"
    )
    return run_python(code, str(ROOT), *arguments, options=(*OPTIONS, *options)).stderr


@every_method
def test_objects_are_arguments_of_a_process(method: str, name: str) -> None:
    assert run(travellers.arguments, method, name) == ""


@every_method
def test_objects_go_through_pipes_queues_and_managers_and_back(method: str) -> None:
    assert run(travellers.channels, method) == ""


@every_method
def test_objects_go_into_pools_as_initial_arguments_arguments_and_results(method: str) -> None:
    assert run(travellers.pools, method) == ""


@every_method
def test_what_is_sent_and_forgotten_arrives_and_nobody_is_warned(method: str) -> None:
    assert run(travellers.forgotten_objects, method) == ""


@every_method
def test_no_descriptor_is_left_if_a_receiver_dies(method: str) -> None:
    assert run(travellers.receivers_that_die, method) == ""


@every_method
def test_no_descriptor_is_left_in_a_receiver(method: str) -> None:
    assert run(travellers.receivers_that_live, method) == ""


@every_method
def test_a_task_whose_object_was_closed_fails_and_the_pool_goes_on(method: str) -> None:
    warnings = run(travellers.tasks_that_come_too_late, method, options=ARRIVES_CLOSED)
    assert warnings.count("arrives closed") == 1


@every_method
def test_an_object_whose_sender_has_ended_arrives_by_its_name_or_closed(
    method: str, name: str
) -> None:
    assert run(travellers.senders_that_ended, method, name) == ""


@every_method
def test_a_subclass_travels_with_its_attributes(method: str) -> None:
    assert run(travellers.subclasses, method) == ""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_process_never_gets_another_file_that_has_the_descriptor_meanwhile(method: str) -> None:
    warnings = run(travellers.numbers_that_are_used_again, method, options=ARRIVES_CLOSED)
    assert warnings.count("arrives closed") == 1


def test_a_child_holds_nothing_of_what_its_parent_sends() -> None:
    assert run(travellers.processes_that_are_forked_meanwhile, "fork") == ""


def test_a_child_that_is_forked_in_the_middle_of_an_answer_holds_nothing_of_it() -> None:
    assert run(travellers.processes_that_are_forked_at_that_moment, "fork") == ""


# What follows happens in one process, or does not depend on how another one was started.


def test_the_same_object_arrives_if_its_name_is_deleted_or_superseded_meanwhile(name: str) -> None:
    assert run(travellers.names_that_change, "spawn", name) == ""


def test_a_closed_object_arrives_by_its_name_if_that_is_its_own_and_else_closed(name: str) -> None:
    assert run(travellers.withdrawn_objects, "spawn", name) == ""


def test_no_descriptor_is_left_if_nobody_takes_an_object() -> None:
    assert run(travellers.what_is_never_taken, "spawn") == ""


def test_the_pickler_of_multiprocessing_takes_objects_and_no_other_does() -> None:
    assert run(travellers.other_picklers, "spawn") == ""


def test_requests_of_strangers_get_nothing_and_leave_nothing() -> None:
    assert run(travellers.strangers, "spawn") == ""


def test_many_threads_send_and_receive_at_once() -> None:
    assert run(travellers.many_threads, "spawn") == ""


OBJECT = """
shm = posix_shm.open_anonymous_shm(direction="io", size=5)
with shm.mmap() as mapping:
    mapping[:] = b"hello"
"""

# A process that multiprocessing starts has imported neither before it gets the object.
SEND = """
with shm, multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
    here, there = multiprocessing.Pipe()
    here.send(shm)
    print(bytes(there.recv()), pool.apply(bytes, (shm,)))
"""


@pytest.mark.parametrize(
    "steps",
    [
        ("import sys, posix_shm", OBJECT, "import multiprocessing", SEND),
        ("import sys, posix_shm", "import multiprocessing", OBJECT, SEND),
        ("import sys, multiprocessing", "import posix_shm", OBJECT, SEND),
    ],
    ids=["object first", "library first", "multiprocessing first"],
)
def test_objects_travel_whatever_was_imported_first(steps: tuple[str, ...]) -> None:
    options = (*OPTIONS, "-W", "ignore::ResourceWarning")
    assert run_python("\n".join(steps), "spawn", options=options).stdout == "b'hello' b'hello'\n"


# ---- without a free descriptor ----------------------------------------------------------------

WITHOUT_DESCRIPTORS = """
import multiprocessing, os, pickle, resource, sys, time
from multiprocessing.reduction import ForkingPickler
import posix_shm

free = int(sys.argv[1])

def receive(connection):
    def sleep(seconds):
        connection.send("asks again")
        connection.recv()
    time.sleep = sleep
    shm = pickle.loads(connection.recv_bytes())
    connection.send(None if shm.closed else shm.size)
    shm.close()

ours, theirs = multiprocessing.get_context("fork").Pipe()
child = multiprocessing.get_context("fork").Process(target=receive, args=(theirs,))
child.start()
shm = posix_shm.open_anonymous_shm(direction="io", size=123)
message = ForkingPickler.dumps(shm)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
for _ in range(free):
    os.close(taken.pop())
ours.send_bytes(message)
print(ours.recv())
for fd in taken:
    os.close(fd)
ours.send(None)
print(ours.recv())
child.join()
shm.close()
"""


@pytest.mark.parametrize("free", [0, 1])  # none to be asked on, and none to answer with
def test_a_sender_without_a_free_descriptor_is_asked_again(free: int) -> None:
    done = run_python(WITHOUT_DESCRIPTORS, str(free))
    assert done.stdout == "asks again\n123\n"
