"""Whether many objects, or large ones, cost more than in proportion."""

from __future__ import annotations

from . import baseline, machine
from .contenders import OURS, C
from .harness import Repeat, Session
from .lifecycle import CONTENDERS, Contender
from .peers import PEERS, fill

# So many objects, and the rounds of a full run and a quick one.
_COUNTS = {100: (100, 10), 1_000: (30, 3), 10_000: (10, 1), 100_000: (4, 1)}
# So many bytes, and the same.
_SIZES = {
    4 << 10: (40, 5),
    64 << 10: (40, 5),
    1 << 20: (40, 5),
    16 << 20: (12, 2),
    256 << 20: (6, 0),
    1 << 30: (4, 0),
    4 << 30: (3, 0),
}
COUNTS = tuple(_COUNTS)
SIZES = tuple(_SIZES)
_PIECE = 16 << 20


def objects(count: int) -> str:
    """The figure of so many objects: the time for each."""
    return f"each of {count:,} objects, created, attached to, deleted"


def size_in_words(size: int) -> str:
    """A power of two with its unit."""
    power = min((size.bit_length() - 1) // 10, 3)
    return f"{size >> 10 * power} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


def object_of(size: int) -> str:
    """The figure of an object of so many bytes: the time to create and fill it."""
    return f"an object of {size_in_words(size)}, reserved and filled"


def _populations(contender: Contender, names: list[str]) -> Repeat:
    """All objects exist at once; the time is the average of one."""

    def run(count: int) -> float:
        seconds = 0.0
        for _ in range(count):
            seconds += contender.make_all(names)
            seconds += contender.attach_all(names)
            seconds += contender.delete_all(names)
        return seconds / len(names)

    return run


def _fill_in_c(name: str, size: int, piece: bytes) -> Repeat:
    in_c = baseline.load().fill
    return lambda count: sum(
        in_c(name.encode(), size, piece, len(piece), True, 0, 0, 1) for _ in range(count)
    )


def run(session: Session) -> None:
    """Measure populations of small objects, and single objects of growing size."""
    for count, rounds in _COUNTS.items():
        # A quick run has no time for the peers here, nor for a round that does not count.
        few = session.quick and count == COUNTS[-1]
        session.compare(
            objects(count),
            {
                label: _populations(contender, contender.names(session, count))
                for label, contender in CONTENDERS.items()
                if not few or label in (C, OURS)
            },
            rounds=session.effort(*rounds),
            round_seconds=0.001 / count,
            warm_up=not few,
        )
    for size, rounds in _SIZES.items():
        # Twice: what is deleted is not given back at once.
        if session.effort(*rounds) == 0 or size > machine.memory("MemAvailable") / 2:
            continue
        piece = bytes(min(size, _PIECE))
        contenders = {C: _fill_in_c(session.prefix, size, piece)}
        for label, peer in PEERS.items():
            contenders[label] = fill(peer, session.prefix, size, piece)
        session.compare(
            object_of(size), contenders, rounds=session.effort(*rounds), round_seconds=0.005
        )
