"""Programs that a script starts for itself, and that must not outlive it."""

import subprocess
import sys
from pathlib import Path

# Not preexec_fn: that runs in a fork of this process, in which the threads of gRPC and librdkafka
# may abort.
_DIES_WITH_ITS_PARENT = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def start_child(
    command: list[str | Path], log: Path, *, mode: str = "ab", **options: object
) -> subprocess.Popen:
    """Start a program that is killed when this thread ends, also where this process is killed.

    Linux only. It does not get Ctrl-C of the terminal: that is for the script, which then stops
    it in order.

    Args:
        command: the path of a binary and its arguments. A binary that a wheel unpacked without
            the right to execute it is given that.
        log: takes what it prints.
        mode: "ab" adds to the log, "wb" begins it anew.
        options: of `subprocess.Popen`.
    """
    binary = Path(command[0])
    if not binary.stat().st_mode & 0o100:
        binary.chmod(0o755)
    with log.open(mode) as output:
        return subprocess.Popen(
            [sys.executable, "-c", _DIES_WITH_ITS_PARENT, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
