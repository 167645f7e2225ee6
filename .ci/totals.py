"""Adds up pytest's reports: how many tests passed and failed in all suites together."""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

KINDS = ("tests", "failures", "errors", "skipped")

counts: Counter[str] = Counter()
for report in Path(sys.argv[1]).glob("*.xml"):
    for suite in ElementTree.parse(report).iter("testsuite"):
        counts.update({kind: int(suite.attrib[kind]) for kind in KINDS})
failed = counts["failures"] + counts["errors"]
print(f"in all suites, {counts['skipped']} skipped and")
print(f"{counts['tests'] - failed - counts['skipped']} passed, {failed} failed")
