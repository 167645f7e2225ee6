"""The table and the plots, out of the files of one or more runs.

``python -m benchmarks.report [DIRECTORY]`` writes them anew without measuring.
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import calls, lifecycle, plots
from .contenders import OURS, C
from .results import Results, Spread, format_number, load_all
from .targets import TARGETS, Target

README = Path(__file__).with_name("README.md")
PUBLISHED = Path(__file__).with_name("results")
BEGIN = "<!-- written by python -m benchmarks: begin -->"
END = "<!-- written by python -m benchmarks: end -->"

NOT_MEASURED = "not measured"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines] + [""]


def _cell(target: Target, results: Results) -> str:
    try:
        figure: Spread = target.compute(results)
    except LookupError:
        return NOT_MEASURED
    mark = "✓" if target.is_reached(figure.median) else "✗"
    cell = f"{mark} **{format_number(figure.median)}**"
    if figure.low != figure.high:
        cell += f" ({format_number(figure.low)} to {format_number(figure.high)})"
    return cell


def _wanted(runs: list[Results]) -> list[str]:
    return _table(
        ["figure", "wanted", *(run.python for run in runs)],
        [[t.text, t.wanted, *(_cell(t, run) for run in runs)] for t in TARGETS],
    )


def _calls(runs: list[Results]) -> list[str]:
    rows = []
    for figure in lifecycle.SAME_CALLS:
        cells = [
            [str(run.metadata.get(calls.key(figure, side), NOT_MEASURED)) for side in (C, OURS)]
            for run in runs
        ]
        for run, (in_c, ours) in zip(runs, cells, strict=True):
            rows.append([figure, run.python, in_c, "the same" if in_c == ours else ours])
    return _table(["cycle", "", "C", "posix_shm"], rows)


def _facts(runs: list[Results]) -> list[str]:
    keys = sorted({key for run in runs for key in run.metadata if not key.startswith("calls_")})
    rows = [[key, *(str(run.metadata.get(key, "")) for run in runs)] for key in keys]
    return _table(["", *(run.python for run in runs)], rows)


def _every_figure(runs: list[Results]) -> list[str]:
    lines = []
    for figure in runs[0].figures():
        rows = []
        for contender in runs[0].contenders(figure):
            cells = [
                _spread_cell(run, figure, contender)
                if contender in run.contenders(figure)
                else NOT_MEASURED
                for run in runs
            ]
            rows.append([contender, *cells])
        lines += _table([figure, *(run.python for run in runs)], rows)
    return lines


def _spread_cell(run: Results, figure: str, contender: str) -> str:
    spread = run.spread(figure, contender)
    low, median, high = (
        run.format(figure, contender, value) for value in (spread.low, spread.median, spread.high)
    )
    return f"{median} ({low} to {high})" if low != high else median


def write(directory: Path, *, publish: bool = False) -> None:
    """Write ``report.md`` and the plots beside the files of the runs.

    :param publish: whether the table goes into README.md, too.
    """
    runs = load_all(directory)
    names = plots.draw(runs, directory)
    wanted = _wanted(runs)
    details = ["Everything, as medians and quartiles of the rounds.", "", *_every_figure(runs)]
    machine = ["## Machine and versions", "", *_facts(runs)]
    report = ["# Figures", "", *wanted, *_calls(runs), *details, *machine]
    (directory / "report.md").write_text("\n".join(report))
    print("\n".join(wanted))
    print(f"more in {directory}", file=sys.stderr)
    if publish:
        images = [line for name in names for line in (f"![{name}](results/{name})", "")]
        _publish("\n".join([BEGIN, "", *wanted, *_calls(runs), *images, END]))


def _publish(block: str) -> None:
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + block + after)


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else PUBLISHED
    write(where, publish=where == PUBLISHED)
