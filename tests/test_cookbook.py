"""The recipes of docs/cookbook.md run as they stand there.

The files of a section are written into a directory, its sessions run there in a shell, and what
they print is compared with the page.  What the page says beyond that is tested with the same
files.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from posix_shm import open_shm

from . import elsewhere
from .pages import Block, blocks_of, made_unique, shared_names
from .support import ROOT

BLOCKS = blocks_of(ROOT / "docs" / "cookbook.md")
FILES = [block for block in BLOCKS if block.file]
SESSIONS = [block for block in BLOCKS if block.language == "console"]
PROMPT = "$ "
SKIP = "…"  # on the page: whatever stands there

# What only some users are told, and what some shells say at more length.
NOT_SHOWN = re.compile(r"posix-shm: no permission to look into .*\n")
KILLED = re.compile(r"^\S*sh: .*\bKilled\b.*$", re.MULTILINE)


def label(block: Block) -> str:
    """What the test of a block is called."""
    return f"{block.section}:{block.line}"


def write_files(section: str, directory: Path) -> None:
    """Write the files of a section; skips the test where they can't run."""
    for block in FILES:
        if block.section == section:
            block.skip_without_needs()
            assert block.file is not None
            path = directory / block.file
            path.write_text(made_unique(block.source), encoding="utf-8")


def run_shell(script: str, directory: Path) -> str:
    """What a script prints, standard error included; this Python's programs are in its path."""
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=directory,
        env={
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONWARNINGS": "always::ResourceWarning",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return KILLED.sub("Killed", NOT_SHOWN.sub("", done.stdout))


def words(text: str) -> str:
    """A text without what depends on the width of its columns."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def printed_by(program: str, directory: Path) -> str:
    """What a Python program prints that uses the files of a section."""
    (directory / "program.py").write_text(program, encoding="utf-8")
    return run_shell("python program.py", directory)


# ---- the page ----------------------------------------------------------------------------------


@pytest.mark.parametrize("session", SESSIONS, ids=label)
def test_each_recipe_runs_as_it_stands_on_the_page(session: Block, tmp_path: Path) -> None:
    write_files(session.section, tmp_path)
    lines = made_unique(session.source).splitlines()
    commands = [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
    if any(command.startswith("unshare ") for command in commands):
        elsewhere.namespace()
    if any(command.startswith("cc ") for command in commands):
        need_a_compiler()
    printed = run_shell("\n".join(commands), tmp_path)
    expected = "\n".join(line for line in lines if not line.startswith(PROMPT))
    pattern = ".*".join(map(re.escape, words(expected).split(SKIP)))
    assert re.fullmatch(pattern, words(printed), re.DOTALL), printed


def test_each_block_on_the_page_is_a_file_or_a_session() -> None:
    assert [label(block) for block in BLOCKS if block not in [*FILES, *SESSIONS]] == []


@pytest.mark.parametrize(
    "file", [block for block in FILES if block.language in {"c", "python"}], ids=label
)
def test_each_program_on_the_page_is_used(file: Block) -> None:
    assert file.file is not None
    stem, _, ending = file.file.partition(".")
    uses = rf"^(\$ .*\b{stem}\.{ending}\b|from {stem} import )"
    section = [block for block in [*FILES, *SESSIONS] if block.section == file.section]
    assert any(re.search(uses, block.source, re.MULTILINE) for block in section)


def test_names_of_objects_on_the_page_can_be_made_unique() -> None:
    names = [name for block in FILES for name in shared_names(block.source)]
    assert [name for name in names if not name.startswith("my-")] == []


# ---- a ring of frames --------------------------------------------------------------------------

KILLED_CONSUMER = """
import os
import signal
from multiprocessing import get_context

from posix_shm import open_anonymous_shm
from ring import FRAME, SLOTS, Consumer, Producer, look


def look_and_die(frame):
    if frame["number"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    context = get_context("spawn")
    with open_anonymous_shm(direction="io", size=SLOTS * FRAME.itemsize) as shm:
        consumers = [Consumer(context, shm, f) for f in (look, look_and_die, look)]
        producer = Producer(shm, consumers)
        for brightness in range(200):
            producer.publish(brightness)
        producer.end()
        for consumer in consumers:
            consumer.process.join()
            print(consumer.process.exitcode, consumer in producer.consumers)
"""


def test_the_producer_of_a_ring_goes_on_without_a_consumer_that_was_killed(tmp_path: Path) -> None:
    write_files("A ring of frames", tmp_path)
    assert printed_by(KILLED_CONSUMER, tmp_path) == "0 True\n-9 False\n0 True\n"


SLOW_CONSUMER = """
from functools import partial
from multiprocessing import get_context

from posix_shm import open_anonymous_shm
from ring import FRAME, SLOTS, Consumer, Producer, look


def look_for_long(begun, end, frame):
    if frame["number"] == 0:
        begun.set()
        end.wait()
    look(frame)


if __name__ == "__main__":
    context = get_context("spawn")
    begun, end = context.Event(), context.Event()
    with open_anonymous_shm(direction="io", size=SLOTS * FRAME.itemsize) as shm:
        slow = Consumer(context, shm, partial(look_for_long, begun, end))
        fast = Consumer(context, shm, look)
        producer = Producer(shm, [slow, fast])
        for brightness in range(SLOTS):
            producer.publish(brightness)
        begun.wait()
        print("may write over what it looks at:", slow.free.acquire(block=False))
        end.set()
        for brightness in range(SLOTS, 200):
            producer.publish(brightness)
        producer.end()
        for consumer in (slow, fast):
            consumer.process.join()
            print(consumer.process.exitcode)
"""


def test_the_producer_of_a_ring_waits_for_a_consumer_that_still_looks(tmp_path: Path) -> None:
    write_files("A ring of frames", tmp_path)
    expected = "may write over what it looks at: False\n0\n0\n"
    assert printed_by(SLOW_CONSUMER, tmp_path) == expected


ORPHAN = """
import os
from multiprocessing import get_context

from posix_shm import open_anonymous_shm
from ring import FRAME, SLOTS, Consumer, Producer, look

if __name__ == "__main__":
    with open_anonymous_shm(direction="io", size=SLOTS * FRAME.itemsize) as shm:
        Producer(shm, [Consumer(get_context("spawn"), shm, look)]).publish(0)
        print("published", flush=True)
        os._exit(0)
"""


def test_the_consumers_of_a_ring_end_if_the_producer_dies(tmp_path: Path) -> None:
    write_files("A ring of frames", tmp_path)
    # This waits for whoever has the output open, and so for the consumer.  Then multiprocessing's
    # tracker may say what the producer has left.
    first, *_ = printed_by(ORPHAN, tmp_path).splitlines()
    assert first == "published"


# ---- a C program and Python --------------------------------------------------------------------


def need_a_compiler() -> None:
    """Skip the test if there is none."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")


def test_a_c_program_with_another_layout_finds_out(name: str, tmp_path: Path) -> None:
    need_a_compiler()
    write_files("A C program and Python", tmp_path)
    (compile_it,) = (
        line.removeprefix(PROMPT)
        for block in SESSIONS
        for line in block.source.splitlines()
        if line.startswith(f"{PROMPT}cc ")
    )
    run_shell(compile_it, tmp_path)
    with open_shm(name, direction="io", if_exists="error", size=1 << 16) as shm:
        with shm.mmap() as mapping:
            mapping[0] = 42
        complaint = run_shell(f"./worker {name} </dev/null || true", tmp_path)
    assert complaint == "worker: Python's struct has 42 bytes, ours 8016\n"


# ---- a less trusted process --------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_less_trusted_process_is_another_user(tmp_path: Path) -> None:
    write_files("A less trusted process", tmp_path)
    assert run_shell("python trusted.py shout.py", tmp_path) == "HELLO from user 65534\n"


UNSEALED = """
import os
import socket
import sys

from posix_shm import make_shm, open_anonymous_shm, open_shm, send_shm
from sealed import SEALS, receive_sealed, send_sealed


def sealed(size, *seals):
    shm = open_anonymous_shm(sealable=True, size=size)
    shm.seal(*seals)
    return shm


KINDS = {
    "sealed": lambda: sealed(100, *SEALS),
    "too large": lambda: sealed(101, *SEALS),
    "empty": lambda: sealed(0, *SEALS),
    "without seal": lambda: sealed(100, *(SEALS - {"seal"})),
    "without write": lambda: sealed(100, *(SEALS - {"write"})),
    "without shrink": lambda: sealed(100, *(SEALS - {"shrink"})),
    "with future-write only": lambda: sealed(100, *(SEALS - {"write"}), "future-write"),
    "not sealable": lambda: open_anonymous_shm(size=100),
    "named": lambda: open_shm(sys.argv[1], if_does_not_exist="create", size=100),
    "file": lambda: make_shm(os.open(__file__, os.O_RDWR)),
    "pipe": lambda: make_shm(os.pipe()[0]),
}

ours, theirs = socket.socketpair()
with ours, theirs:
    for kind, make in KINDS.items():
        with make() as shm:
            send_shm(theirs, shm)
        try:
            with receive_sealed(ours, limit=100) as mapping:
                print(kind, len(mapping))
        except (OSError, ValueError):
            print(kind, "refused")
"""


def test_what_is_not_sealed_is_refused(name: str, tmp_path: Path) -> None:
    write_files("A less trusted process", tmp_path)
    (tmp_path / "program.py").write_text(UNSEALED, encoding="utf-8")
    first, *others = run_shell(f"python program.py {name}", tmp_path).splitlines()
    assert first == "sealed 100"
    assert len(others) == 10
    assert all(line.endswith(" refused") for line in others), others


# ---- PyTorch -----------------------------------------------------------------------------------

TENSORS = """
import torch

from posix_shm import open_anonymous_shm

MAKERS = {
    "mapping": lambda mapping: torch.frombuffer(mapping, dtype=torch.uint8),
    "view": lambda mapping: torch.frombuffer(memoryview(mapping), dtype=torch.uint8),
    "array": lambda mapping: torch.from_numpy(mapping.ndarray(4)),
}

with open_anonymous_shm(direction="io", size=4) as shm:
    for over, make in MAKERS.items():
        with shm.mmap() as mapping:
            mapping[:] = b"abcd"
            tensor = make(mapping)
            before = bytes(tensor.tolist())
        print(over, before, bytes(tensor.tolist()))
    private = shm.mmap(protections=["read", "write"], flags="private")
    torch.frombuffer(memoryview(private), dtype=torch.uint8)[0] = 0
    print("shared", shm.mmap()[:])
"""


def test_tensors_over_a_view_or_an_array_keep_the_pages_and_one_over_a_mapping_does_not(
    tmp_path: Path,
) -> None:
    write_files("PyTorch", tmp_path)
    assert printed_by(TENSORS, tmp_path).splitlines() == [
        r"mapping b'abcd' b'\x00\x00\x00\x00'",
        "view b'abcd' b'abcd'",
        "array b'abcd' b'abcd'",
        "shared b'abcd'",
    ]
