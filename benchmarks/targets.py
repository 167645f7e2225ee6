"""The figures that are wanted: each is computed from one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import copying, filling, handing, holding, imports, items, lifecycle, scaling
from .contenders import MMAP, OURS, PIPE, STDLIB, C, base, variant
from .results import Results, Spread, spread


@dataclass(frozen=True)
class Target:
    """A figure and its limit."""

    text: str
    limit: float
    compute: Callable[[Results], Spread]
    at_least: bool = False

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"at {'least' if self.at_least else 'most'} {self.limit:.3g}"

    def is_reached(self, value: float) -> bool:
        """Whether the limit is kept."""
        return value >= self.limit if self.at_least else value <= self.limit


def _ratio(figure: str, above: str, below: str) -> Callable[[Results], Spread]:
    return lambda results: results.ratio((figure, above), (figure, below))


def import_seconds(results: Results, label: str) -> list[float]:
    """What importing added to a start, in each round."""
    starts = results.values(imports.FIGURE, label)
    return [
        start - bare
        for start, bare in zip(starts, results.values(imports.FIGURE, imports.BARE), strict=True)
    ]


def _import_milliseconds(results: Results) -> Spread:
    return spread([1e3 * seconds for seconds in import_seconds(results, OURS)])


def _import_over_stdlib(results: Results) -> Spread:
    stdlib = spread(import_seconds(results, STDLIB)).median
    return spread([seconds / stdlib for seconds in import_seconds(results, OURS)])


def _stall_in_copies(results: Results) -> Spread:
    return results.ratio((copying.STALL, OURS), (copying.STALL_COPY, OURS))


def _fastest_filling(results: Results, who: str) -> tuple[str, str]:
    """Of the ways in which somebody fills an object."""
    ways = [label for label in results.contenders(filling.FIGURE) if base(label) == who]
    if not ways:
        raise LookupError(filling.FIGURE)
    return filling.FIGURE, min(ways, key=lambda way: results.median(filling.FIGURE, way))


def _filling_over_best_c(results: Results) -> Spread:
    return results.ratio(_fastest_filling(results, OURS), _fastest_filling(results, C))


def _many_over_few(results: Results) -> Spread:
    few, many = scaling.COUNTS[0], scaling.COUNTS[-1]
    return results.ratio((scaling.objects(many), OURS), (scaling.objects(few), OURS))


def _descriptors_per_mapping(results: Results) -> Spread:
    held = results.median(holding.DESCRIPTORS, OURS)
    before = results.median(holding.DESCRIPTORS_BEFORE, OURS)
    return spread([(held - before) / holding.MAPPINGS])


def _handing(what: str) -> Callable[[Results], Spread]:
    return _ratio(handing.FIGURE, PIPE, variant(OURS, what))


TARGETS = (
    Target("create cycle, over C", 1.10, _ratio(lifecycle.CREATE, OURS, C)),
    Target("create cycle with `size=`, over C", 1.10, _ratio(lifecycle.PUBLISH, OURS, C)),
    Target("attach cycle, over C", 1.10, _ratio(lifecycle.ATTACH, OURS, C)),
    Target("`import posix_shm` over a bare start, ms", 4, _import_milliseconds),
    Target("the same, over the standard library's", 1 / 6, _import_over_stdlib),
    Target("item read, over `mmap.mmap`", 1.0, _ratio(items.READ, OURS, MMAP)),
    Target("item write, over `mmap.mmap`", 1.0, _ratio(items.WRITE, OURS, MMAP)),
    Target("slice, over `mmap.mmap`", 1.0, _ratio(items.SLICE, OURS, MMAP)),
    Target("`memoryview()`, over `mmap.mmap`", 1.0, _ratio(items.VIEW, OURS, MMAP)),
    Target("warm bulk copy, over `memcpy` in C", 1.05, _ratio(copying.COPY, OURS, C)),
    Target("longest stall of another thread, in copy times", 0.1, _stall_in_copies),
    Target(
        "filling a fresh 512 MiB object, standard library over ours",
        1.5,
        _ratio(filling.FIGURE, STDLIB, filling.POPULATED),
        at_least=True,
    ),
    Target("the same, our fastest way over the fastest in C", 1.10, _filling_over_best_c),
    Target(
        "handing over 256 MiB, pickle through a pipe over ours, by name",
        200,
        _handing(handing.BY_NAME),
        at_least=True,
    ),
    Target("the same, by descriptor", 200, _handing(handing.BY_DESCRIPTOR), at_least=True),
    Target(
        "the same, copying it into a fresh object first",
        4,
        _handing(handing.POPULATING),
        at_least=True,
    ),
    Target("cost of an object, among 100,000 over among 100", 1.3, _many_over_few),
    Target("descriptors held per mapping", 0, _descriptors_per_mapping),
)
