"""What a reader must know of the machine and the versions."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pyperf

from . import baseline

# Of what pyperf knows: nothing that names a path or a host.
_FROM_PYPERF = (
    "aslr",
    "cpu_config",
    "cpu_count",
    "cpu_model_name",
    "date",
    "load_avg_1min",
    "perf_version",
    "platform",
    "python_cflags",
    "python_compiler",
    "python_implementation",
    "python_version",
    "timer",
)
_PACKAGES = ("posix-shm", "posix-ipc", "SharedArray", "numpy")


def python_tag() -> str:
    """The Python that runs this, as a file name: "cpython-3.13", "cpython-3.13t"."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"{sys.implementation.name}-{version}{sys.abiflags}"


def describe(*, quick: bool) -> dict[str, str | int | float]:
    """The machine, the versions, and how hard the run tried."""
    known = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    facts = {name: known[name] for name in _FROM_PYPERF if name in known}
    facts["python_tag"] = python_tag()
    facts["effort"] = "quick" if quick else "full"
    facts["memory"] = f"{memory('MemTotal') / 2**30:.1f} GiB"
    facts["shmem_huge_pages"] = _chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    facts["c_compiler"] = _first_line_of([baseline.COMPILE[0], "--version"])
    facts["c_flags"] = " ".join(baseline.COMPILE[1:])
    if revision := _first_line_of(["git", "describe", "--always", "--dirty"]):
        facts["revision"] = revision
    for package in _PACKAGES:
        facts[f"version_{package}"] = _version(package)
    return facts


def warn_if_busy() -> None:
    """Say that the figures will be poor, if the machine does something else."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"the machine is busy (load {load:.1f}): expect wrong ratios and wide spreads",
            file=sys.stderr,
        )


def memory(what: str) -> int:
    """Bytes of a row of /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(what)


def _chosen(path: str) -> str:
    """The word in brackets in a file of /sys."""
    try:
        return Path(path).read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "unknown"


def _first_line_of(command: list[str]) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return result.stdout.partition("\n")[0]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
