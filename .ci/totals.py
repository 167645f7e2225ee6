"""Adds up pytest's reports: how many tests passed and failed in all suites together."""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

counts: Counter[str] = Counter()
for report in Path(sys.argv[1]).glob("*.xml"):
    for suite in ElementTree.parse(report).iter("testsuite"):
        counts.update({key: int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")})
failed = counts["failures"] + counts["errors"]
print(f"skipped or expected to fail: {counts['skipped']}")
print(f"{counts['tests'] - failed - counts['skipped']} passed, {failed} failed")
