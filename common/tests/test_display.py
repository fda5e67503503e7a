import io
import json
import logging
import re
import subprocess
import sys

from common import display
from common.settings import PROJECT_ROOT, Settings

import numpy as np
import pytest
from rich.text import Text


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(display.EVENTS_VARIABLE, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Stdout says that it is a terminal, of 80 columns; gives what was printed so far."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    return lambda: capsys.readouterr().out


@pytest.fixture
def events(monkeypatch, tmp_path):
    """A function that reads the events written so far."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(display.EVENTS_VARIABLE, str(path))
    return lambda: [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def out_dir(monkeypatch, tmp_path):
    monkeypatch.setattr(display, "settings", lambda: Settings(out_dir=tmp_path / "out"))
    return tmp_path / "out"


def everything() -> None:
    display.heading("1. Create a collection")
    display.say("[bold]rows[/bold] with :smile: and [1, 2], " + "and more words " * 12)
    display.table("What there is", ["name", "rows"], [["papers", 314], ["[red]x[/red]", 5]])
    display.left_out("IVF_PQ index", "Milvus Lite does not build it" + ", really" * 10)
    display.expected_error("wrong dimension", ValueError("expected dim 4, got 3"))
    list(display.progress(range(3), "encoding"))


# How it looks where


def test_a_pipe_gets_no_colours_no_trailing_blanks_and_at_most_100_columns(capsys):
    everything()
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines == [line.rstrip() for line in lines]
    whole = [line for line in lines if line.startswith("not run: ")]
    assert whole == [
        "not run: IVF_PQ index: " + ("Milvus Lite does not build it" + ", really" * 10)
    ]
    assert max(len(line) for line in lines if line not in whole) == display.WIDTH_OF_A_PIPE


def test_the_width_of_a_pipe_can_be_set(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    display.heading("1. Create a collection")
    assert len(capsys.readouterr().out.splitlines()[1]) == 60


def test_a_terminal_gets_colours_and_its_own_width(terminal):
    everything()
    printed = terminal()
    assert "\x1b[1;36m1. Create a collection" in printed
    assert "\x1b[33mnot run: \x1b[0mIVF_PQ index: Milvus Lite" in printed
    lines = Text.from_ansi(printed).plain.splitlines()
    assert max(map(len, lines)) == 80


def test_no_color_is_respected_in_a_terminal(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    display.heading("1. Create a collection")
    display.left_out("TLS", "no server")
    printed = terminal()
    assert "Create a collection" in printed
    assert not re.search(r"\x1b\[[\d;]*3\dm", printed)


def test_force_color_gives_colours_in_a_pipe_but_no_repainting_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(display.progress(range(3), "encoding")) == [0, 1, 2]
    assert capsys.readouterr().out == ""
    display.heading("1. Create a collection")
    assert "\x1b[1;36m" in capsys.readouterr().out


def test_texts_are_printed_as_they_are(capsys):
    everything()
    printed = capsys.readouterr().out
    assert "[bold]rows[/bold] with :smile: and [1, 2]," in printed
    assert "[red]x[/red]" in printed


def test_a_text_cannot_steer_the_terminal(terminal):
    display.say("before\x1b[2Jafter\x07")
    replaced = "\N{REPLACEMENT CHARACTER}"
    assert terminal() == f"before{replaced}[2Jafter{replaced}\n"


def test_a_stream_that_lacks_a_character_gets_a_question_mark(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    display.say("검색 – search")
    stream.flush()
    assert stream.buffer.getvalue() == b"?? ? search\n"


def test_a_heading_longer_than_the_window_is_not_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "3. " + "many words " * 8
    display.heading(text)
    assert capsys.readouterr().out.split() == text.split()


# Tables


def test_columns_of_numbers_are_aligned_to_the_right_and_texts_to_the_left(capsys):
    rows = [["papers", 314, "2.10 ms", None], ["a", 5, "45.3 ms", "x"]]
    display.table("What there is", ["name", "rows", "time", "note"], rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "What there is"
    assert lines[3:] == [
        "  name     rows      time   note",
        lines[2],
        "  papers    314   2.10 ms   –",
        "  a           5   45.3 ms   x",
        lines[2],
    ]
    assert set(lines[2].strip()) == {"─"}


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (["1", "-2.5", "1,234", "1e-3"], True),
        (["0.98", "–", ""], True),
        (["12 ms", "1.2 s", "45%", "1.73×", "3 KiB"], True),
        (["3.2.2"], False),
        (["1", "one"], False),
        (["–", ""], False),
        ([], False),
    ],
)
def test_what_counts_as_a_number(cells, numeric):
    assert display.is_numeric(cells) is numeric


def test_floats_share_the_decimals_that_their_column_needs(events, capsys):
    rows = [
        [0.5, 564.31, np.float32(0.25), True, None, 7, float("nan")],
        [0.98765, 7100.0, np.float32(1), False, np.int64(3), 70, 1e-9],
    ]
    display.table("Numbers", list("abcdefg"), rows)
    assert events()[0]["rows"] == [
        ["0.500", "564", "0.250", "yes", "–", "7", "nan"],
        ["0.988", "7100", "1.000", "no", "3", "70", "1.00e-09"],
    ]


def test_nothing_of_a_wide_table_is_lost(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    uri = "https://a-very-long-host-name.example.org:19530/with/a/path/that/does/not/end"
    words = "inverted lists with product quantization, small and less exact"
    display.table("Wide", ["index", "what", "uri", "bytes"], [["IVF_PQ", words, uri, 12345678]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    what, uri_at = lines[3].index("what"), lines[3].index("uri")
    rows = lines[5:-1]
    assert rows[0].endswith(" 12345678")
    assert " ".join(row[what:uri_at].strip() for row in rows).split() == words.split()
    assert "".join(row[uri_at:].split()[0] for row in rows if row[uri_at:].strip()) == uri


def test_wide_characters_keep_the_columns_straight(capsys):
    display.table("조문", ["이름", "n"], [["헌법", 1], ["ab", 22]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[5:7] == ["  헌법    1", "  ab     22"]


def test_an_empty_table_says_so_and_rows_may_be_a_generator(capsys):
    display.table("Nothing", ["a", "b"], (row for row in []))
    assert "(no rows)" in capsys.readouterr().out


def test_a_row_of_the_wrong_length_is_an_error():
    with pytest.raises(ValueError, match=r"row 2 has 1 cells for 2 columns: \['c'\]"):
        display.table("Uneven", ["x", "y"], [["a", "b"], ["c"]])


# Errors


def test_an_error_of_pymilvus_is_shown_without_its_wrapping(capsys):
    from pymilvus.exceptions import MilvusException

    error = MilvusException(6, "unexpected end of expression at column 5\n  id >\n      ^")
    display.expected_error("an unfinished filter", error)
    assert capsys.readouterr().out == (
        "expected error: an unfinished filter\n"
        "  MilvusException (code 6): unexpected end of expression at column 5\n"
    )


def test_an_error_of_grpc_is_shown_by_its_details():
    import grpc

    class Failed(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.UNIMPLEMENTED

        def details(self):
            return "unknown method HybridSearch"

        def __str__(self):
            return "<_InactiveRpcError of RPC that terminated with:\n" + "noise\n" * 20

    line = display.error_line(Failed())
    assert line == "gRPC UNIMPLEMENTED: unknown method HybridSearch"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n\n  first\nsecond"), "ValueError: first"),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError("no index: stack trace: /go/src/a.go:12"), "RuntimeError: no index"),
        (ValueError("long " * 100), "ValueError: " + ("long " * 60)[:299] + "…"),
    ],
)
def test_an_error_is_one_line(error, line):
    assert display.error_line(error) == line


def test_quiet_pymilvus_in_several_threads_puts_the_levels_back():
    logger = logging.getLogger("pymilvus.decorators")
    before = logger.getEffectiveLevel()
    first, second = display.quiet_pymilvus(), display.quiet_pymilvus()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # not the order in which they came
    assert logger.getEffectiveLevel() == logging.CRITICAL
    second.__exit__(None, None, None)
    assert logger.getEffectiveLevel() == before < logging.CRITICAL


def test_quiet_pymilvus_silences_every_logger_and_puts_them_back(tmp_path):
    from pymilvus import MilvusClient  # noqa: F401  sets the levels of its loggers

    names = ["pymilvus", "pymilvus.decorators", "pymilvus.milvus_client.milvus_client"]
    before = [logging.getLogger(name).level for name in names]
    assert logging.getLogger(names[1]).isEnabledFor(logging.ERROR)
    with display.quiet_pymilvus():
        assert not any(logging.getLogger(name).isEnabledFor(logging.ERROR) for name in names)
        assert all(logging.getLogger(name).isEnabledFor(logging.CRITICAL) for name in names)
    assert [logging.getLogger(name).level for name in names] == before
    with pytest.raises(RuntimeError), display.quiet_pymilvus():
        raise RuntimeError
    assert [logging.getLogger(name).level for name in names] == before


# The end of a script


class ForPeopleError(Exception):
    exit_code = 2


def raising(error: BaseException):
    def main():
        raise error

    return main


def test_run_gives_the_exit_code_of_main():
    assert display.run(lambda: None) == 0
    assert display.run(lambda: 3) == 3


def test_run_shows_an_error_made_for_people_without_a_traceback(capsys):
    assert display.run(raising(ForPeopleError("no Milvus answers at [x]"))) == 2
    assert capsys.readouterr().err == "no Milvus answers at [x]\n"


def test_run_ends_with_130_after_ctrl_c(capsys):
    assert display.run(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_run_leaves_other_errors_their_traceback():
    script = (
        "import sys\nfrom common.display import run\n"
        "def main():\n    raise KeyError('x')\nsys.exit(run(main))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("KeyError: 'x'\n")


# Progress


def test_progress_passes_everything_on_in_a_terminal(terminal):
    assert list(display.progress((n for n in range(5)), "encoding [1]", total=5)) == list(range(5))
    printed = terminal()
    assert "encoding [1]" in printed
    assert "5/5" in printed


def test_progress_is_lazy(terminal):
    taken = []
    for item in display.progress(iter(range(10**9)), "endless"):
        taken.append(item)
        if item == 2:
            break
    assert taken == [0, 1, 2]


# Charts


def test_importing_display_imports_neither_matplotlib_nor_pymilvus():
    script = (
        "import sys, common.display; print({'matplotlib', 'pymilvus', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_chart_is_saved_and_described(out_dir, events, capsys):
    drawing, axes = display.figure("Recall against ef", "ef", "recall@10")
    axes.plot([8, 16, 32], [0.8, 0.9, 0.95], label="HNSW")
    axes.plot([8, 16, 32], [0.7, 0.8, 0.9], label="IVF_FLAT")
    axes.legend()
    path = display.save_chart(drawing, "recall")
    assert path == out_dir / "recall.png"
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (1200, 675)
    assert capsys.readouterr().out == f"chart: {path}\n"
    assert events() == [
        {
            "event": "chart",
            "path": str(path),
            "title": "Recall against ef",
            "description": "Chart: Recall against ef. Axes: recall@10 against ef."
            " Series: HNSW, IVF_FLAT.",
        }
    ]


def test_lines_of_a_chart_have_colours_of_the_palette():
    _, axes = display.figure("Lines", "x", "y")
    lines = [axes.plot([0, 1], [n, n])[0] for n in range(len(display.PALETTE))]
    assert [line.get_color() for line in lines] == list(display.PALETTE)


def test_lines_can_be_told_apart_without_colour():
    _, axes = display.figure("Recall", "recall@10", "latency (ms)")
    series = {f"index {n}": ([0.5, 0.9], [1.0, 2.0 + n]) for n in range(8)}
    display.lines(axes, series, points={"index 1": ["ef 16", "ef 64"]})
    drawn = [(line.get_marker(), line.get_linestyle()) for line in axes.get_lines()]
    assert len(set(drawn)) == 8
    assert axes.get_lines()[1].get_xydata().tolist() == [[0.5, 1.0], [0.9, 3.0]]
    assert [(a.get_text(), a.xy) for a in axes.texts] == [
        ("ef 16", (0.5, 1.0)),
        ("ef 64", (0.9, 3.0)),
    ]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(series)


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden", "/tmp/x"])
def test_a_chart_stays_in_its_folder(out_dir, name):
    drawing, _ = display.figure("x", "x", "y")
    with pytest.raises(ValueError, match="plain file name"):
        display.save_chart(drawing, name)


# What the tour is told


def test_the_tour_is_told_in_order(events, capsys):
    everything()
    told = events()
    assert [event["event"] for event in told] == [
        "heading",
        "text",
        "table",
        "left_out",
        "expected_error",
    ]
    assert told[0]["text"] == "1. Create a collection"
    assert told[2] == {
        "event": "table",
        "title": "What there is",
        "columns": ["name", "rows"],
        "rows": [["papers", "314"], ["[red]x[/red]", "5"]],
    }
    assert told[3]["what"] == "IVF_PQ index"
    assert told[4]["error"] == "ValueError: expected dim 4, got 3"


def test_an_event_is_one_line_of_ascii(tmp_path, monkeypatch, capsys):
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(display.EVENTS_VARIABLE, str(path))
    display.say("한국어\nsecond line \ud800 half a pair")
    data = path.read_bytes()
    assert data.count(b"\n") == 1
    assert data.isascii()
    assert json.loads(data)["text"] == "한국어\nsecond line ? half a pair"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00031, "0.31 ms"), (0.0453, "45.3 ms"), (0.2034, "203 ms"), (1.25, "1,250 ms")],
)
def test_milliseconds(seconds, text):
    assert display.milliseconds(seconds) == text
