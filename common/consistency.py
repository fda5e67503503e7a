"""Do clients find what they wrote? Each consistency level measured side by side."""

import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

LEVELS = ("Strong", "Session", "Bounded", "Eventually")


class Level(NamedTuple):
    """A consistency level: own writes found, and the median seconds of the reads for them."""

    name: str
    found: int
    seconds: float
    found_later: int
    seconds_later: float


def read_own_writes(
    write: Callable[[int], object], read: Callable[[int, str], int], writes: int
) -> list[Level]:
    """Look for each own write right away, and again after a second without a write.

    Args:
        write: stores something under a number from 0 up.
        read: how many it finds under a number (0 or 1) at a consistency level.
        writes: how many for each level.
    """

    def look_for_each(*, writing: bool) -> dict[str, tuple[int, float]]:
        found, seconds = Counter(), {level: [] for level in LEVELS}
        for turn in range(writes):  # the levels take turns, so that all get the same noise
            for place, level in enumerate(LEVELS):
                number = place * writes + turn
                if writing:
                    write(number)
                started = time.perf_counter()
                hits = read(number, level)
                seconds[level].append(time.perf_counter() - started)
                found[level] += hits
        return {level: (found[level], median(seconds[level])) for level in LEVELS}

    at_once = look_for_each(writing=True)
    time.sleep(1)
    later = look_for_each(writing=False)
    return [Level(level, *at_once[level], *later[level]) for level in LEVELS]
