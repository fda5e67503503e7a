import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from common import tour
from common.display import run
from common.report import FAILED, NOT_RUN, PASSED
from common.settings import PROJECT_ROOT

import pytest

HELLO = '''
    """Hello: the first lesson.

        python step01_basics/01_hello.py

    You see a
    greeting.

    Needs: nothing
    """
    import os, sys
    from common.display import heading, left_out, say, tell_tour
    tell_tour("milvus", label="Milvus Lite 3.2.2", uri="x")
    heading("1. Greet")
    say("hello " + " ".join(sys.argv[1:]))
    left_out("users", "Milvus Lite has no users")
'''
FAIL = '''
    """Fail: the lesson about errors."""
    print("before the error")
    raise RuntimeError("it broke here")
'''
# Says that it is ready, and counts how often it is interrupted and whether it may clean up.
LONG = '''
    """Long: a lesson that is stopped half-way."""
    import sys, time
    from pathlib import Path
    from common.display import run

    def main():
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("cleaning", flush=True)
            time.sleep(0.5)
            print("cleaned up", flush=True)

    sys.exit(run(main))
'''
STUBBORN = '''
    """Stubborn: it does not listen, nor does what it started."""
    import signal, subprocess, sys, time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    beat = "import time\\nwhile True: open('beat', 'a').write('.'); time.sleep(0.02)"
    subprocess.Popen([sys.executable, "-c", beat])
    print("ready", flush=True)
    time.sleep(60)
'''


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "OMP_NUM_THREADS", "OUT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture
def write(tmp_path):
    """A function that writes scripts below the root of a tour, and gives that root."""

    def write_scripts(**scripts: str) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for name, text in scripts.items():
            step, _, stem = name.partition("__")
            path = root / f"step{step[1:]}_basics" / f"{stem[1:]}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
        return root

    return write_scripts


def report_of(root: Path) -> str:
    return (root / "out" / "report.html").read_text(encoding="utf-8")


def log_of(root: Path, name: str) -> str:
    return (root / "out" / "logs" / f"{name}.txt").read_text(encoding="utf-8")


def run_tour(root: Path, *options: str) -> int:
    return tour.main(["--out", str(root / "out"), *options], root=root)


# Which scripts


def test_scripts_are_found_in_order_with_what_their_docstrings_say(write):
    root = write(s02__s01_b="x = 1", s01__s02_a="'''Two.'''", s01__s01_hello=HELLO)
    for other in ("step01_basics/helper.py", "step01_basics/tests/test_01_hello.py", "03_x.py"):
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).write_text("raise SystemExit('never run')")
    scripts = tour.find_scripts(root)
    assert [script.name for script in scripts] == [
        "step01_basics/01_hello",
        "step01_basics/02_a",
        "step02_basics/01_b",
    ]
    assert scripts[0].title == "Hello: the first lesson."
    assert scripts[0].summary == "You see a greeting."
    assert (scripts[1].title, scripts[1].summary) == ("Two.", "")
    assert (scripts[2].title, scripts[2].summary) == ("", "")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["01_a", "02_b", "01_a"]),
        ({"steps": [2]}, ["01_a"]),
        ({"steps": [2, 1]}, ["01_a", "02_b", "01_a"]),
        ({"only": ["02_b"]}, ["02_b"]),
        ({"only": ["01_a"]}, ["01_a", "01_a"]),
        ({"only": ["./step02_basics/01_a.py"]}, ["01_a"]),
        ({"steps": [1], "only": ["01_a"]}, ["01_a"]),
    ],
)
def test_scripts_are_chosen_by_step_and_name(write, options, names):
    root = write(s01__s01_a="", s01__s02_b="", s02__s01_a="")
    chosen = tour.choose_scripts(tour.find_scripts(root), **options)
    assert [script.path.stem for script in chosen] == names


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--step", "7"], "there is no step 7."),
        (["--only", "09_x"], "there is no script '09_x'."),
        (["--step", "1", "--only", "01_c"], "nothing fits these options together."),
    ],
)
def test_a_wrong_choice_lists_what_there_is(write, options, problem, capsys):
    root = write(s01__s01_a="", s02__s01_c="")
    assert run(lambda: run_tour(root, *options)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"{problem} The scripts are:\n  step01_basics/01_a\n  step02_basics/01_c\n"
    )


def test_a_folder_without_scripts_is_an_error(tmp_path, capsys):
    assert run(lambda: run_tour(tmp_path)) == 2
    assert "There are no scripts here at all." in capsys.readouterr().err


def test_list_runs_nothing(write, capsys):
    root = write(s01__s01_hello=HELLO, s01__s02_fail=FAIL)
    assert run_tour(root, "--list") == 0
    assert capsys.readouterr().out == (
        "step01_basics/01_hello  Hello: the first lesson.\n"
        "step01_basics/02_fail  Fail: the lesson about errors.\n"
    )
    assert not (root / "out").exists()


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "soon"])
def test_a_time_limit_is_a_positive_number(value, capsys):
    with pytest.raises(SystemExit) as stopped:
        tour.main(["--timeout", value])
    assert stopped.value.code == 2
    assert f"not a positive number of seconds: '{value}'" in capsys.readouterr().err


# How a tour goes


def test_a_good_tour_shows_the_lessons_in_order_and_ends_with_0(write, capsys):
    root = write(s01__s01_hello=HELLO, s01__s02_more="print('second')", s02__s01_end="")
    assert run_tour(root) == 0
    printed = capsys.readouterr().out
    order = [
        "1/3 step01_basics/01_hello",
        "Hello: the first lesson.",
        "1. Greet",
        "hello",
        "not run: users: Milvus Lite has no users",
        "✓ passed step01_basics/01_hello in",
        "2/3 step01_basics/02_more",
        "second",
        "3/3 step02_basics/01_end",
        "Summary",
        "not run: users: Milvus Lite has no users",
        "3 of 3 scripts passed in",
        f"report: {root}/out/report.html",
    ]
    position = 0
    for text in order:
        position = printed.index(text, position) + 1
    assert re.search(r"01_hello +Milvus Lite 3\.2\.2 +passed +\d+\.\d s\n", printed)
    assert "\x1b" not in printed
    assert "3 of 3 scripts passed" in report_of(root)
    assert "1. Greet" in log_of(root, "step01_basics/01_hello")


def test_a_failure_stops_the_tour(write, capsys):
    root = write(s01__s01_hello=HELLO, s01__s02_fail=FAIL, s01__s03_after="open('ran', 'w')")
    assert run_tour(root) == 1
    printed = capsys.readouterr().out
    assert not (root / "ran").exists()
    assert "✗ failed step01_basics/02_fail in" in printed
    assert re.search(r"02_fail +– +failed", printed)
    assert re.search(r"03_after +– +not run +–", printed)
    assert "failed: step01_basics/02_fail: exit code 1" in printed
    assert "1 of 3 scripts passed, 1 failed, 1 not run in" in printed
    assert "RuntimeError: it broke here" in report_of(root)
    assert "step01_basics/02_fail failed before it" in report_of(root)


def test_keep_going_runs_the_rest_and_still_fails(write, capsys):
    root = write(s01__s01_fail=FAIL, s01__s02_after="open('ran', 'w')")
    assert run_tour(root, "--keep-going") == 1
    assert (root / "ran").exists()
    printed = capsys.readouterr().out
    assert "1 of 2 scripts passed, 1 failed in" in printed
    # The failure has scrolled away, so its last lines are shown once more.
    assert printed.count("RuntimeError: it broke here") == 2


def test_quiet_is_one_line_at_start_and_end_and_the_end_of_a_failure(write, capsys):
    root = write(s01__s01_hello=HELLO, s01__s02_fail=FAIL)
    assert run_tour(root, "--quiet") == 1
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == "1/2 step01_basics/01_hello: Hello: the first lesson."
    assert re.fullmatch(r"✓ passed step01_basics/01_hello in \d+\.\d s", lines[1])
    assert lines[2] == "2/2 step01_basics/02_fail: Fail: the lesson about errors."
    assert re.fullmatch(r"✗ failed step01_basics/02_fail in \d+\.\d s: exit code 1", lines[3])
    assert lines[4] == "  │ before the error"
    assert "1. Greet" not in printed
    assert printed.count("RuntimeError: it broke here") == 1
    assert "1. Greet" in log_of(root, "step01_basics/01_hello")


def test_what_was_left_out_is_grouped_by_reason_and_complete_in_the_report(write, capsys):
    many = [(f"part {n}", f"reason {n}") for n in range(12)] + [("last", "reason 0")]
    text = f"from common.display import left_out\nfor pair in {many!r}: left_out(*pair)"
    root = write(s01__s01_many=text)
    assert run_tour(root, "--quiet") == 0
    printed = capsys.readouterr().out
    assert "not run: part 0, last: reason 0\n" in printed
    assert printed.count("not run: ") == tour.LEFT_OUT_LINES
    assert "and what was not run for 4 more reasons: see the report" in printed
    assert all(f"reason {n}<" in report_of(root) for n in range(12))


def test_a_script_gets_the_environment_and_options_of_the_tour(write, monkeypatch, capsys):
    text = """
        import json, os, sys
        print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), sys.stdin.read()]))
    """
    monkeypatch.setenv("MILVUS_URI", "http://localhost:19530")
    root = write(s01__s01_environment=text)
    assert run_tour(root, "--quick", "--quiet") == 0
    log = log_of(root, "step01_basics/01_environment")
    arguments, folder, environment, stdin = json.loads(log)
    assert (arguments, folder, stdin) == (["--quick"], str(root), "")
    assert environment["MILVUS_URI"] == "http://localhost:19530"
    assert environment["OUT_DIR"] == str(root / "out")
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "FORCE_COLOR" not in environment
    assert not Path(environment["TOUR_EVENTS"]).exists()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert run_tour(root) == 0
    arguments, _, environment, _ = json.loads(log_of(root, "step01_basics/01_environment"))
    assert (arguments, environment["OMP_NUM_THREADS"]) == ([], "2")


def test_output_of_any_kind_is_kept_as_text(write, capsys):
    text = r"""
        import sys
        print("to stderr", file=sys.stderr, flush=True)
        out = sys.stdout.buffer
        out.write(b" 10%\r 50%\r100%\nplain\r\n\x1b[1;31mred\x1b[0m [1, 2]\n\xff\xfe\n")
        out.write("한국어\nno newline at the end".encode())
    """
    root = write(s01__s01_output=text)
    assert run_tour(root) == 0
    log = log_of(root, "step01_basics/01_output")
    assert log.splitlines() == [
        "to stderr",
        "100%",
        "plain",
        "red [1, 2]",
        "\N{REPLACEMENT CHARACTER}" * 2,
        "한국어",
        "no newline at the end",
    ]
    assert "red [1, 2]\n" in capsys.readouterr().out


def test_a_script_killed_by_a_signal_or_a_syntax_error_has_failed(write, capsys):
    killed = """
        import os, signal
        from common.display import heading
        heading("1. The last words")
        with open(os.environ["TOUR_EVENTS"], "a") as events:
            events.write('{"event": "heading", "te')
        os.kill(os.getpid(), signal.SIGKILL)
    """
    root = write(s01__s01_killed=killed, s01__s02_wrong="def (:")
    assert run_tour(root, "--keep-going", "--quiet") == 1
    printed = capsys.readouterr().out
    assert "failed: step01_basics/01_killed: killed by SIGKILL" in printed
    assert "SyntaxError" in printed
    assert "<h3>1. The last words</h3>" in report_of(root)


def test_what_a_script_leaves_behind_does_not_hold_the_tour_up(write, capsys):
    text = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(child.pid)
    """
    root = write(s01__s01_leaves=text)
    try:
        assert run_tour(root, "--quiet", "--timeout", "30") == 0
    finally:
        os.kill(int(log_of(root, "step01_basics/01_leaves")), signal.SIGKILL)


# How a tour is stopped


def test_a_script_that_hangs_is_asked_to_stop_and_has_failed(write, capsys):
    root = write(s01__s01_long=LONG, s01__s02_after="print('after')")
    assert run_tour(root, "--timeout", "2", "--keep-going") == 1
    printed = capsys.readouterr().out
    assert "failed: step01_basics/01_long: stopped: it ran longer than 2 s (--timeout)" in printed
    assert "cleaned up" in log_of(root, "step01_basics/01_long")
    assert "1 of 2 scripts passed, 1 failed in" in printed


def test_a_script_that_does_not_listen_is_killed_with_all_that_it_started(write, capsys):
    root = write(s01__s01_stubborn=STUBBORN, s01__s02_after="")
    options = tour.Options(root, root / "out", keep_going=True, timeout=1.5, grace=0.5)
    outcomes = tour.run_tour(tour.find_scripts(root), options)
    assert [outcome.status for outcome in outcomes] == [FAILED, PASSED]
    assert "it ran longer than 1.5 s" in outcomes[0].reason
    beats = (root / "beat").read_bytes()
    assert beats
    time.sleep(0.3)
    assert (root / "beat").read_bytes() == beats


def start(root: Path, *options: str, grace: float = 10.0, **kwargs) -> subprocess.Popen:
    """Start a tour as a process of its own that leads a group of its own."""
    code = (
        "import functools, sys; from pathlib import Path; from common import tour\n"
        f"tour.Options = functools.partial(tour.Options, grace={grace})\n"
        f"sys.exit(tour.run(lambda: tour.main(sys.argv[1:], root=Path({str(root)!r}))))"
    )
    arguments = [sys.executable, "-u", "-c", code, "--out", str(root / "out"), *options]
    kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **kwargs}
    return subprocess.Popen(arguments, start_new_session=True, **kwargs)


def wait_for_line(process: subprocess.Popen, line: bytes) -> bytes:
    """Read what a process prints up to and with `line`; a hang ends with the test's own time."""
    printed = b""
    while not printed.endswith(line + b"\n"):
        new = process.stdout.readline()
        assert new, printed.decode()
        printed += new
    return printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_lets_the_script_clean_up_and_still_reports(write, number):
    root = write(s01__s01_hello=HELLO, s01__s02_long=LONG, s01__s03_after="open('ran', 'w')")
    process = start(root, "--keep-going")
    wait_for_line(process, b"ready")
    os.killpg(process.pid, number)  # as a terminal does: to every process of the group
    printed = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130
    assert log_of(root, "step01_basics/02_long").splitlines() == [
        "ready",
        "cleaning",
        "cleaned up",
        "stopped",
    ]
    assert "stopped: step01_basics/02_long: interrupted" in printed
    assert "1 of 3 scripts passed, 1 stopped, 1 not run in" in printed
    assert re.search(r"03_after +– +not run", printed)
    assert not (root / "ran").exists()
    assert "the tour was interrupted" in report_of(root)


def test_a_second_ctrl_c_does_not_wait(write):
    root = write(s01__s01_stubborn=STUBBORN)
    process = start(root, grace=1000.0)
    wait_for_line(process, b"ready")
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130
    assert "stopped: step01_basics/01_stubborn: interrupted" in printed


def test_ctrl_c_between_two_scripts_runs_no_more(write, monkeypatch):
    root = write(s01__s01_hello=HELLO, s01__s02_after="open('ran', 'w')")
    end = tour.View.end

    def end_and_interrupt(view, outcome):
        end(view, outcome)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(tour.View, "end", end_and_interrupt)
    options = tour.Options(root, root / "out")
    outcomes = tour.run_tour(tour.find_scripts(root), options)
    assert [outcome.status for outcome in outcomes] == [PASSED, NOT_RUN]
    assert tour.exit_code(outcomes) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_tour_that_fails_itself_ends_its_script(write, monkeypatch):
    text = """
        import os, time
        print(os.getpid(), flush=True)
        time.sleep(60)
    """
    root = write(s01__s01_long=text)
    numbers = []

    def fail(view, text):
        numbers.append(int(text.plain))
        raise RuntimeError("the screen is gone")

    monkeypatch.setattr(tour.View, "line", fail)
    with pytest.raises(RuntimeError, match="the screen is gone"):
        tour.run_tour(tour.find_scripts(root), tour.Options(root, root / "out"))
    with pytest.raises(ProcessLookupError):
        os.kill(numbers[0], 0)


# In a terminal


def run_in_terminal(root: Path, *options: str, **variables: str) -> str:
    """What a tour writes to a terminal of 80 columns."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", **variables}
    process = start(root, *options, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    chunks = []
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # how Linux says that the other end was closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(leader)
    assert process.wait(60) == 0
    return b"".join(chunks).decode()


def test_a_terminal_shows_colours_and_a_status_line_and_the_log_has_neither(write):
    root = write(s01__s01_hello=HELLO + "    import time; time.sleep(1)\n")
    printed = run_in_terminal(root)
    assert "\x1b[1;36m1. Greet" in printed
    assert re.search(r"1/1 01_hello · \d\.\d s · 0 passed, 0 failed, \d\.\d s in all", printed)
    assert "in all · 1. Greet" in printed
    assert printed.rindex("\x1b[?25h") > printed.rindex("\x1b[?25l")  # the cursor is back
    log = log_of(root, "step01_basics/01_hello")
    assert "1. Greet" in log
    assert "\x1b" not in log


def test_no_color_is_respected_and_passed_on(write):
    root = write(s01__s01_hello=HELLO)
    printed = run_in_terminal(root, NO_COLOR="1")
    assert "1. Greet" in printed
    assert not re.search(r"\x1b\[[\d;]*3\dm", printed)
