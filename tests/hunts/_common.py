"""What the hunts share."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor


def parser(description: str | None) -> argparse.ArgumentParser:
    """For the options of a hunt."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def timed_parser(description: str | None) -> argparse.ArgumentParser:
    """For the options of a hunt that takes as long as it is told to."""
    result = parser(description)
    result.add_argument("--seconds", type=float, default=60, help="how long (%(default)s)")
    return result


def rounds(seconds: float) -> Iterator[int]:
    """Numbers from 0 on, until the time is over."""
    end = time.monotonic() + seconds
    return itertools.takewhile(lambda _: time.monotonic() < end, itertools.count())


def in_threads(workers: list[Callable[[], int]]) -> list[int]:
    """Runs all at once and returns what they return; raises what the first of them raises."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return [future.result() for future in [pool.submit(worker) for worker in workers]]
