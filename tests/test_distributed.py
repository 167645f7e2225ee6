"""The example of docs/distributed.md: one array on each host of a Dask cluster.

A host is a mount namespace with a /dev/shm of its own.  The schedulers, nannies and workers are
those that Dask's own commands start.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from . import elsewhere
from .pages import blocks_of, made_unique
from .support import ROOT, objects

pytest.importorskip("distributed")

BLOCKS = blocks_of(ROOT / "docs" / "distributed.md")
(PROGRAM,) = [made_unique(block.source) for block in BLOCKS if block.file == "once_per_host.py"]
(SESSION,) = [block.source for block in BLOCKS if block.language == "console"]
DEFINITIONS = PROGRAM.partition('if __name__ == "__main__":')[0]
DASK = [sys.executable, "-m", "dask"]
WORKERS_PER_HOST = 2
DEV_SHM = 1 << 27

# Each has `client` and `table`, the plugin; LOADED is a line for each time that it was loaded.
REGISTER = """
import json, os, sys
from pathlib import Path

LOADED = "loaded"

def load_and_say_so(path=str(Path(LOADED).resolve())):
    with open(path, "a") as file:
        file.write("loaded\\n")
    return np.arange(1000)

def identity(name):
    status = os.stat(f"/dev/shm/{name}")
    return [status.st_dev, status.st_ino, int(npy.attach(name).sum())]

def mine(table):
    return [name for name in os.listdir("/dev/shm") if name.startswith(table.prefix)]

def register(client):
    table = OncePerHost(client, "my-table", load_and_say_so)
    client.register_plugin(table, name=table.name)
    return table
"""
SHOW_HOSTS = """
if __name__ == "__main__":
    with Client(scheduler_file="scheduler.json") as client:
        client.wait_for_workers(int(sys.argv[1]))
        table = register(client)
        print(json.dumps(list(client.run(identity, table.name).values())))
"""
UNREGISTER = """
if __name__ == "__main__":
    with Client(n_workers=2, dashboard_address=None) as client:
        table = register(client)
        there = mine(table)
        client.unregister_worker_plugin(table.name, nanny=True)
        assert table.name in there
        assert mine(table) == []
"""
CLOSE = """
if __name__ == "__main__":
    with Client(n_workers=2, dashboard_address=None) as client:
        table = register(client)
        assert table.name in mine(table)
    assert mine(table) == []
"""
RESTART_A_WORKER = """
if __name__ == "__main__":
    with Client(n_workers=2, dashboard_address=None) as client:
        table = register(client)
        before = client.run(identity, table.name).values()
        client.restart()
        after = client.run(identity, table.name).values()
        assert list(before) == list(after), (before, after)
"""
DIE = """
if __name__ == "__main__":
    with Client(n_workers=1, dashboard_address=None) as client:
        register(client)
        os.kill(os.getpid(), 9)  # the scheduler and all nannies
"""


def start(command: list[str], directory: Path) -> subprocess.Popen[str]:
    """A command of Dask's, as the leader of a process group."""
    with (directory / "log").open("a") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )


@contextmanager
def group(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process whose whole group is gone afterwards."""
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def host_command(script: str) -> list[str]:
    """A shell that runs where there is a /dev/shm of its own."""
    return elsewhere.with_dev_shm(["sh", "-c", script], DEV_SHM)


def run(program: str, directory: Path, *arguments: str) -> str:
    """What a program prints that has the definitions of the page."""
    path = directory / "program.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_on_the_page_runs_as_shown_and_leaves_nothing(tmp_path: Path) -> None:
    assert "$ python once_per_host.py\n" + run(PROGRAM, tmp_path) == SESSION
    assert objects() == set()


def test_each_host_has_one_copy_and_none_after_the_scheduler_was_killed(tmp_path: Path) -> None:
    worker = f"worker --scheduler-file scheduler.json --nworkers {WORKERS_PER_HOST}"
    hosted = host_command(f"{' '.join(DASK)} {worker} --nthreads 1; ls -A /dev/shm")
    scheduling = [*DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with (
        group(start([*scheduling, "--scheduler-file", "scheduler.json"], tmp_path)) as scheduler,
        group(start(hosted, tmp_path)) as one,
        group(start(hosted, tmp_path)) as other,
    ):
        program = DEFINITIONS + made_unique(REGISTER) + SHOW_HOSTS
        shown = json.loads(run(program, tmp_path, str(2 * WORKERS_PER_HOST)))
        found = [(device, inode) for device, inode, _ in shown]
        assert {total for *_, total in shown} == {499500}
        assert sorted(found.count(each) for each in set(found)) == [WORKERS_PER_HOST] * 2
        assert (tmp_path / "loaded").read_text() == "loaded\n" * 2
        scheduler.kill()
        left = [host.communicate(timeout=60)[0] for host in (one, other)]
    assert left == ["", ""], (tmp_path / "log").read_text()


@pytest.mark.parametrize("program", [UNREGISTER, CLOSE, RESTART_A_WORKER])
def test_the_array_stays_while_it_is_wanted_and_goes_then(tmp_path: Path, program: str) -> None:
    run(DEFINITIONS + made_unique(REGISTER) + program, tmp_path)
    assert (tmp_path / "loaded").read_text() == "loaded\n"
    assert objects() == set()


def test_a_start_removes_what_a_killed_host_has_left(tmp_path: Path) -> None:
    (tmp_path / "die.py").write_text(DEFINITIONS + made_unique(REGISTER) + DIE)
    (tmp_path / "once_per_host.py").write_text(PROGRAM)
    listing = "echo; ls -A /dev/shm | grep table"
    script = f"{sys.executable} die.py; {listing}; {sys.executable} once_per_host.py; {listing}"
    with group(start(host_command(script), tmp_path)) as host:
        output = host.communicate(timeout=60)[0]
    before, after = output.split("\n49999995000000.0\n")
    assert len(before.split()) == 1, output  # the array
    assert after.split() == [], output
