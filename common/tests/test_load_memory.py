"""A loaded collection takes memory of the server, or, with mmap, pages of files."""

from common.load_memory import show_load_memory

import pytest


def test_mmap_takes_pages_of_files(server_installed: None, capsys: pytest.CaptureFixture) -> None:
    rows = 20_000
    measured = show_load_memory(rows)
    vectors = rows * 256 * 4 / 1e6  # MB
    assert measured["load"].mapped < 0.2 * vectors
    assert measured["mmap"].mapped > 0.8 * vectors
    assert measured["load"].own > measured["mmap"].own
    assert measured["load"].rows_found == measured["mmap"].rows_found
    assert "20 MB of vectors" in capsys.readouterr().out
    assert show_load_memory(0) == {}
    assert "not run: memory of load against mmap" in capsys.readouterr().out
