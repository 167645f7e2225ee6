"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from . import (
    calls,
    copying,
    filling,
    handing,
    holding,
    imports,
    items,
    lifecycle,
    machine,
    report,
    scaling,
)
from .contenders import missing
from .harness import Session

GROUPS = {
    "lifecycle": lifecycle.run,
    "imports": imports.run,
    "items": items.run,
    "copying": copying.run,
    "filling": filling.run,
    "handing": handing.run,
    "scaling": scaling.run,
    "holding": holding.run,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure posix_shm beside C and its peers, in turn, in one run.",
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, less precise")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=GROUPS,
        default=list(GROUPS),
        metavar="GROUP",
        help=f"some of: {', '.join(GROUPS)}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/benchmarks"),
        metavar="DIRECTORY",
        help="where the figures, the table and the plots go (default: %(default)s)",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write to benchmarks/results, and the table into benchmarks/README.md",
    )
    return parser.parse_args()


def main() -> None:
    """Measure, and report."""
    arguments = _arguments()
    output = report.PUBLISHED if arguments.publish else arguments.output
    if peers := missing():
        print(f"not installed, so not measured: {', '.join(peers)}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that it cleans up then, too
    start = time.monotonic()
    machine.warn_if_busy()
    facts = machine.describe(quick=arguments.quick)
    session = Session(quick=arguments.quick, metadata={**facts, **calls.describe()})
    try:
        for number, group in enumerate(arguments.only, start=1):
            print(f"[{number}/{len(arguments.only)}] {group}", file=sys.stderr)
            GROUPS[group](session)
    finally:
        session.clean_up()
    session.save(output / f"{machine.python_tag()}.json")
    print(f"measured for {time.monotonic() - start:.0f} s", file=sys.stderr)
    report.write(output, publish=arguments.publish)


if __name__ == "__main__":
    main()
