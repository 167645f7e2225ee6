"""Plots: readable on white, each contender in the same colour throughout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from . import copying, filling, handing, imports, items, lifecycle, scaling
from .contenders import COLOURS, MMAP, OURS, PIPE, C, base, variant
from .results import Results, Spread, format_number, spread
from .targets import import_seconds

mpl.rcParams.update(
    {
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "savefig.dpi": 120,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "x",
        "grid.color": "#dddddd",
    }
)


@dataclass(frozen=True)
class Bars:
    """A row of a plot: one figure, a bar for each contender."""

    figure: str
    unit: str
    per_second: float  # how many of the unit a second is
    logarithmic: bool = False


BARS = {
    "cycles": (
        Bars(lifecycle.CREATE, "µs", 1e6),
        Bars(lifecycle.PUBLISH, "µs", 1e6),
        Bars(lifecycle.ATTACH, "µs", 1e6),
    ),
    "items": (
        Bars(items.READ, "ns", 1e9),
        Bars(items.WRITE, "ns", 1e9),
        Bars(items.SLICE, "ns", 1e9),
        Bars(items.SLICE_WRITE, "ns", 1e9),
        Bars(items.VIEW, "ns", 1e9),
    ),
    "copying": (
        Bars(copying.STALL_COPY, "ms", 1e3),
        Bars(copying.STALL, "ms, logarithmic", 1e3, logarithmic=True),
    ),
    "filling": (Bars(filling.FIGURE, "s", 1),),
    "handing": (Bars(handing.FIGURE, "ms, logarithmic", 1e3, logarithmic=True),),
}


# ---- bars ----------------------------------------------------------------------------------


def _draw_bars(axes: Axes, results: Results, bars: Bars) -> None:
    """From the fastest down, with the quartiles of the rounds."""
    spreads = {
        label: results.spread(bars.figure, label) for label in results.contenders(bars.figure)
    }
    labels = sorted(spreads, key=lambda label: spreads[label].median)
    for position, label in enumerate(labels):
        low, median, high = (
            value * bars.per_second
            for value in (spreads[label].low, spreads[label].median, spreads[label].high)
        )
        colour = COLOURS[base(label)]
        if bars.logarithmic:  # where the length of a bar says nothing
            axes.plot(median, position, "o", color=colour)
        else:
            axes.barh(position, median, color=colour)
        axes.plot([low, high], [position, position], color="#777777", lw=1)
        axes.annotate(
            format_number(median),
            (high, position),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    if bars.logarithmic:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel(bars.unit)
    _set_title(axes, f"{bars.figure}\n{results.python}")


def _set_title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9)


def _plot_bars(runs: list[Results], rows: tuple[Bars, ...], path: Path) -> None:
    """A row for each figure, a column for each Python."""
    heights = [max(len(run.contenders(row.figure)) for run in runs) + 3 for row in rows]
    figure, grid = plt.subplots(
        len(rows),
        len(runs),
        squeeze=False,
        figsize=(6 * len(runs), 0.27 * sum(heights)),
        height_ratios=heights,
        layout="constrained",
    )
    for row, row_axes in zip(rows, grid, strict=True):
        for run, axes in zip(runs, row_axes, strict=True):
            _draw_bars(axes, run, row)
    figure.savefig(path)
    plt.close(figure)


# ---- scaling -------------------------------------------------------------------------------


def _draw_lines(
    axes: Axes,
    results: Results,
    figures: dict[int, str],
    value: Callable[[int, Spread], Spread],
) -> None:
    for label in results.contenders(next(iter(figures.values()))):
        points = {
            x: value(x, results.spread(figure, label))
            for x, figure in figures.items()
            if label in results.contenders(figure)
        }
        colour = COLOURS[base(label)]
        axes.plot(list(points), [p.median for p in points.values()], "o-", color=colour, ms=4)
        axes.fill_between(
            list(points),
            [p.low for p in points.values()],
            [p.high for p in points.values()],
            color=colour,
            alpha=0.2,
        )
    axes.set_xscale("log")
    axes.grid(axis="y")


def _plot_scaling(runs: list[Results], path: Path) -> None:
    figure, grid = plt.subplots(
        2, len(runs), squeeze=False, figsize=(5.5 * len(runs), 7), layout="constrained"
    )
    for run, (of_objects, of_sizes) in zip(runs, grid.T, strict=True):
        _draw_lines(
            of_objects,
            run,
            {count: scaling.objects(count) for count in scaling.COUNTS},
            lambda _, s: Spread(s.low * 1e6, s.median * 1e6, s.high * 1e6),
        )
        of_objects.set_ylim(bottom=0)
        of_objects.set_xlabel("objects of 4 KiB that exist at once")
        of_objects.set_ylabel("µs to create, attach to and delete one")
        _set_title(of_objects, run.python)
        _draw_lines(
            of_sizes,
            run,
            {size: scaling.object_of(size) for size in scaling.SIZES},
            lambda size, s: Spread(s.low / size * 1e9, s.median / size * 1e9, s.high / size * 1e9),
        )
        of_sizes.set_yscale("log")
        measured = [size for size in scaling.SIZES if run.contenders(scaling.object_of(size))]
        of_sizes.set_xticks(measured, map(scaling.size_in_words, measured), rotation=30)
        of_sizes.minorticks_off()
        of_sizes.set_xlabel("size of an object")
        of_sizes.set_ylabel("ns per byte to create and fill it")
    _add_legend(figure, runs[0].contenders(scaling.objects(scaling.COUNTS[0])))
    figure.savefig(path)
    plt.close(figure)


def _disc(_label: str) -> str:
    return "o"


def _add_legend(
    figure: plt.Figure, labels: list[str], marker: Callable[[str], str] = _disc
) -> None:
    handles = [
        Line2D([], [], marker=marker(label), ls="", color=COLOURS[label], label=label)
        for label in labels
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


# ---- all in one ----------------------------------------------------------------------------


def _plain(figure: str) -> Callable[[Results], dict[str, float]]:
    """The medians of a figure, by contender; the fastest of those that come in variants."""

    def medians(results: Results) -> dict[str, float]:
        best: dict[str, float] = {}
        for label in results.contenders(figure):
            median = results.median(figure, label)
            best[base(label)] = min(median, best.get(base(label), median))
        return best

    return medians


def _only(figure: str, what: str) -> Callable[[Results], dict[str, float]]:
    """The medians of one variant, and the pipe's."""

    def medians(results: Results) -> dict[str, float]:
        return {
            base(label): results.median(figure, label)
            for label in results.contenders(figure)
            if label in (PIPE, variant(base(label), what))
        }

    return medians


def _imports(results: Results) -> dict[str, float]:
    return {
        label: spread(import_seconds(results, label)).median
        for label in results.contenders(imports.FIGURE)
        if label in COLOURS and label != MMAP  # which makes no objects
    }


OVERVIEW: dict[str, Callable[[Results], dict[str, float]]] = {
    "create a 4 KiB object,\nmap, touch, delete it": _plain(lifecycle.CREATE),
    "attach to one": _plain(lifecycle.ATTACH),
    "import": _imports,
    "copy 512 MiB into\nwarm pages": _plain(copying.STALL_COPY),
    "longest stall of another\nthread meanwhile": _plain(copying.STALL),
    "fill a fresh\n512 MiB object": _plain(filling.FIGURE),
    "hand 256 MiB, in an object,\nto another process": _only(handing.FIGURE, handing.BY_NAME),
    "the same, copied into\nan object first": _only(handing.FIGURE, handing.COPYING),
}


def _stroke_for_c(label: str) -> str:
    """C is a limit, not one among others."""
    return "|" if label == C else "o"


def _plot_overview(runs: list[Results], path: Path) -> None:
    """How many times as long as posix_shm each of the others takes."""
    figure, (columns,) = plt.subplots(
        1,
        len(runs),
        squeeze=False,
        sharey=True,
        figsize=(1.5 + 4.5 * len(runs), 5.5),
        layout="constrained",
    )
    seen: dict[str, None] = {}
    for run, axes in zip(runs, columns, strict=True):
        for row, medians_of in enumerate(OVERVIEW.values()):
            medians = medians_of(run)
            for label, median in medians.items():
                seen[label] = None
                axes.plot(
                    median / medians[OURS],
                    row + 0.08 * (list(COLOURS).index(label) - 3),
                    _stroke_for_c(label),
                    color=COLOURS[label],
                    ms=8,
                )
        axes.axvline(1, color=COLOURS[OURS], lw=1)
        axes.set_xscale("log")
        _set_title(axes, run.python)
        axes.set_xlabel("times as long as posix_shm (logarithmic; left is faster)")
    columns[0].set_yticks(range(len(OVERVIEW)), list(OVERVIEW))
    columns[0].invert_yaxis()
    _add_legend(figure, [label for label in COLOURS if label in seen], _stroke_for_c)
    figure.savefig(path)
    plt.close(figure)


# ---- which there are -----------------------------------------------------------------------


def draw(runs: list[Results], directory: Path) -> list[str]:
    """Draw what was measured in every run.

    :returns: the names of the files.
    """

    def measured(*figures: str) -> bool:
        return all(run.contenders(figure) for run in runs for figure in figures)

    names = []
    overview_needs = (
        lifecycle.CREATE,
        lifecycle.ATTACH,
        imports.FIGURE,
        copying.STALL_COPY,
        copying.STALL,
        filling.FIGURE,
        handing.FIGURE,
    )
    if measured(*overview_needs):
        names.append("overview.png")
        _plot_overview(runs, directory / names[-1])
    for name, rows in BARS.items():
        if measured(*(row.figure for row in rows)):
            names.append(f"{name}.png")
            _plot_bars(runs, rows, directory / names[-1])
    if measured(scaling.objects(scaling.COUNTS[0]), scaling.object_of(scaling.SIZES[0])):
        names.append("scaling.png")
        _plot_scaling(runs, directory / names[-1])
    return names
