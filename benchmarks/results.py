"""What a run came to, as it is read back from its file."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import pyperf


@dataclass(frozen=True)
class Spread:
    """A figure with its middle half: a median and two quartiles."""

    low: float
    median: float
    high: float


class Results:
    """The figures of one run, on one Python."""

    def __init__(self, path: Path) -> None:
        suite = pyperf.BenchmarkSuite.load(str(path))
        self.metadata: dict[str, str | int | float] = suite.get_metadata()
        self._figures: dict[str, dict[str, pyperf.Benchmark]] = {}
        for benchmark in suite:
            metadata = benchmark.get_metadata()
            contenders = self._figures.setdefault(metadata["figure"], {})
            contenders[metadata["contender"]] = benchmark

    @property
    def python(self) -> str:
        """Such as "CPython 3.13"."""
        return str(self.metadata["python_tag"]).replace("cpython-", "CPython ")

    def figures(self) -> list[str]:
        """All that was measured."""
        return list(self._figures)

    def contenders(self, figure: str) -> list[str]:
        """Whoever was measured."""
        return list(self._figures.get(figure, ()))

    def values(self, figure: str, contender: str) -> list[float]:
        """One for each round.  ``LookupError`` if it was not measured."""
        return list(self._figures[figure][contender].get_values())

    def median(self, figure: str, contender: str) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values(figure, contender))

    def spread(self, figure: str, contender: str) -> Spread:
        """The middle half of the rounds."""
        return spread(self.values(figure, contender))

    def ratio(self, above: tuple[str, str], below: tuple[str, str]) -> Spread:
        """One figure over another: of the medians, and the quartiles of the rounds' own ratios.

        Rounds are in turn, so a round's ratio is of two measurements at about the same time.
        """
        tops, bottoms = self.values(*above), self.values(*below)
        middle = statistics.median(tops) / statistics.median(bottoms)
        if len(tops) != len(bottoms):
            return Spread(middle, middle, middle)
        rounds = spread([top / bottom for top, bottom in zip(tops, bottoms, strict=True)])
        return Spread(min(rounds.low, middle), middle, max(rounds.high, middle))

    def format(self, figure: str, contender: str, value: float) -> str:
        """With its unit."""
        text: str = self._figures[figure][contender].format_value(value)
        return text


def load_all(directory: Path) -> list[Results]:
    """The runs whose files are here, by Python."""
    return [Results(path) for path in sorted(directory.glob("*.json"))]


def format_number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: list[float]) -> Spread:
    """The middle half of some values."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)
