"""Programs that hunt for faults, as long as they are told to; the tests run each briefly.

    python -m tests.hunts.guard --seconds 600

Each prints what it did, and exits with 1 if it found something.
"""
