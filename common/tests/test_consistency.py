"""Own writes counted and timed, on a store that shows a write late at some levels."""

from common.consistency import LEVELS, read_own_writes


def test_each_level_is_asked_for_its_own_writes() -> None:
    stored: list[int] = []
    asked: list[tuple[int, str]] = []

    def read(number: int, level: str) -> int:
        asked.append((number, level))
        first_time = asked.count((number, level)) == 1
        return int(number in stored and not (first_time and level == "Eventually"))

    levels = read_own_writes(stored.append, read, writes=3)
    assert [level.name for level in levels] == list(LEVELS)
    assert sorted(stored) == list(range(12))
    assert [level.found for level in levels] == [3, 3, 3, 0]
    assert [level.found_later for level in levels] == [3, 3, 3, 3]
    assert all(level.seconds > 0 and level.seconds_later > 0 for level in levels)
    # In turns: a slow moment of the machine hits all levels alike.
    assert [level for _, level in asked[:8]] == [*LEVELS, *LEVELS]
