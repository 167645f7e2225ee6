"""Rounds in turn, and what they took.

A figure compares contenders.  In each round every contender does the same thing the same number
of times, in an order that is drawn anew, so that whatever else the machine does meets all of them.
What is kept is one value per contender and round: the seconds of one repetition.

The values become a suite of :mod:`pyperf`, whose commands (``pyperf compare_to``, ``stats``,
``hist``) work on the file; its own runner is not used, because it measures one contender after
the other.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pyperf

Repeat = Callable[[int], float]
"""Does something so many times, and returns the seconds that it took."""


def timed(function: Callable[[Iterable[str]], object]) -> Callable[[Iterable[str]], float]:
    """A function of many names that returns how long it took."""

    def run(names: Iterable[str]) -> float:
        start = time.perf_counter_ns()
        function(names)
        return (time.perf_counter_ns() - start) / 1e9

    return run


class Session:
    """One run of the benchmarks.

    :param quick: whether it shall end soon, rather than be precise.
    :param metadata: about the machine and the versions, for the file.
    """

    def __init__(self, *, quick: bool, metadata: Mapping[str, str | int | float]) -> None:
        self.quick = quick
        self.prefix = f"/psm-bench-{os.getpid()}"
        self._metadata = dict(metadata)
        self._benchmarks: list[pyperf.Benchmark] = []
        self._random = random.Random(4)

    def effort(self, full: int, quick: int) -> int:
        """A number of rounds, or a size."""
        return quick if self.quick else full

    def compare(
        self,
        figure: str,
        contenders: Mapping[str, Repeat],
        *,
        rounds: int,
        round_seconds: float = 0.0,
        warm_up: bool = True,
    ) -> None:
        """Measure the contenders in turn.

        :param figure: what is measured.
        :param contenders: by their labels.  The number of repetitions in a round is such that the
            first takes ``round_seconds``.
        :param rounds: how many count.
        :param warm_up: whether there is one more before them, which does not count.
        """
        progress = _Progress(figure, rounds)
        gc.collect()
        gc.disable()
        try:
            repetitions = _repetitions(next(iter(contenders.values())), round_seconds)
            values: dict[str, list[float]] = {label: [] for label in contenders}
            for count in range(0 if warm_up else 1, rounds + 1):
                progress.show(count)
                for label in self._random.sample(list(contenders), len(contenders)):
                    seconds = contenders[label](repetitions)
                    if count > 0:
                        values[label].append(seconds / repetitions)
        finally:
            gc.enable()
        progress.end()
        for label, seconds_of_rounds in values.items():
            self.record(figure, label, seconds_of_rounds)

    def record(
        self, figure: str, contender: str, values: list[float] | list[int], unit: str = "second"
    ) -> None:
        """Keep what a contender came to, a value per round, all above zero."""
        metadata = {
            **self._metadata,
            "name": f"{figure}: {contender}",
            "figure": figure,
            "contender": contender,
            "unit": unit,
        }
        run = pyperf.Run(values, metadata=metadata, collect_metadata=False)
        benchmark = pyperf.Benchmark([run])
        self._benchmarks.append(benchmark)
        median = benchmark.format_value(statistics.median(values))
        print(f"    {contender:<32} {median:>12}", file=sys.stderr)

    def save(self, path: Path) -> None:
        """Write everything that was recorded."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pyperf.BenchmarkSuite(self._benchmarks).dump(str(path), compact=False, replace=True)

    def clean_up(self) -> None:
        """Delete what an interrupted measurement may have left."""
        for path in Path("/dev/shm").glob(f"{self.prefix[1:]}*"):
            path.unlink()


def _repetitions(repeat: Repeat, seconds: float) -> int:
    """How many repetitions take so long."""
    count = 1
    while seconds > 0 and (taken := repeat(count)) < seconds:
        count = max(count * 2, int(count * seconds / max(taken, 1e-9)))
    return count


class _Progress:
    """A line that says what is measured, and how far it is."""

    def __init__(self, figure: str, rounds: int) -> None:
        self._figure = figure
        self._rounds = rounds
        self._in_place = sys.stderr.isatty()
        if not self._in_place:
            print(f"  {figure}, {rounds} rounds", file=sys.stderr, flush=True)

    def show(self, count: int) -> None:
        if self._in_place:
            print(
                f"\r  {self._figure}, round {count} of {self._rounds} ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        if self._in_place:
            print(file=sys.stderr)
