"""The environment check: what is here, what is missing, which Milvus answers.

    python step01_basics/01_environment_check.py

You see what a Milvus client needs from its machine, which Milvus your scripts reach, how long a
call to it takes, and which of Milvus' features that one has. Run it first, and again whenever
something fails: it says what to do.

Exit code: 0 all is here, 1 something required is missing, 2 no Milvus answers.

Needs: any Milvus (embedded by default)
Read:  docs/en/step01_basics.md#environment-check
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

try:
    import numpy as np
    from pymilvus import MilvusClient

    from common import environment
    from common.capabilities import FEATURES
    from common.connection import ConnectionFailed, Milvus, connect
    from common.display import heading, milliseconds, progress, run, say, short_path, table
    from common.local_server import missing_reason
    from common.settings import settings
except ModuleNotFoundError as missing:
    sys.exit(
        f"missing: {missing.name}\nIn the project's folder: {sys.executable} -m pip install -r "
        "requirements.txt\nOr, which makes an environment of its own: make learn"
    )

ROUND_TRIPS = 500
QUICK_ROUND_TRIPS = 50
WARM_UP = 20
LONGEST = 5.0  # seconds: a Milvus far away gets fewer round trips


def check_software(requirements: Path) -> dict:
    """Compare Python and the installed packages with what the project is pinned to."""
    return {
        "python": {
            "version": sys.version.split()[0],
            "executable": sys.executable,
            "new_enough": environment.python_is_new_enough(),
        },
        "packages": [asdict(package) for package in environment.check_packages(requirements)],
    }


def check_models() -> dict:
    """Find the model of each language; neither is loaded or downloaded."""
    return {"text_models": [asdict(environment.text_model(language)) for language in ("en", "ko")]}


def check_docker() -> dict:
    """Find Docker, and the server that needs none: a script can do without either."""
    return {"docker": asdict(environment.docker()), "local_server": missing_reason() or "installed"}


def check_milvus(calls: int) -> dict:
    """Connect to the Milvus of the settings, time it, and list what it can."""
    try:
        with connect() as milvus:
            return {
                "milvus": {
                    "label": milvus.label,
                    "address": milvus.address,
                    "kind": milvus.kind,
                    "version": milvus.version,
                    "round_trip": round_trip(milvus.client, calls),
                    "capabilities": capabilities(milvus),
                }
            }
    except ConnectionFailed as error:
        return {"milvus": {"error": str(error)}}


def round_trip(client: MilvusClient, calls: int) -> dict:
    """Time a call that makes Milvus do nothing: what every other call costs at the least."""
    for _ in range(WARM_UP):
        client.get_server_version(timeout=settings().milvus_timeout)
    seconds = []
    until = time.perf_counter() + LONGEST
    for _ in progress(range(calls), "round trips"):
        start = time.perf_counter()
        client.get_server_version(timeout=settings().milvus_timeout)
        end = time.perf_counter()
        seconds.append(end - start)
        if end > until:
            break
    median, p95 = np.percentile(seconds, [50, 95])
    return {"calls": len(seconds), "median_seconds": float(median), "p95_seconds": float(p95)}


def capabilities(milvus: Milvus) -> list[dict]:
    """What this Milvus can and cannot, from the table that every script asks by `can()`."""
    rows = []
    for feature in FEATURES:
        answer = milvus.can(feature.name)
        note = answer.reason.partition(" does not have it")[2].lstrip("; ")
        rows.append(
            {"group": feature.group, "feature": feature.name, "here": bool(answer), "note": note}
        )
    return rows


def problems(report: dict, requirements: Path) -> list[str]:
    """What is required and missing, each with what to do. Other findings are no problem."""
    found = []
    if not report["python"]["new_enough"]:
        oldest = ".".join(map(str, environment.OLDEST_PYTHON))
        found.append(
            f"Python {report['python']['version']} is too old: install {oldest} or newer, "
            "remove .venv and set the project up again with it"
        )
    missing = [p["name"] for p in report["packages"] if p["state"] == "missing"]
    if missing:
        found.append(f"missing: {', '.join(missing)}. Run: {environment.pip_line(requirements)}")
    for model in report["text_models"]:
        if not model["found"] and not model["downloaded_later"]:
            found.append(model["problem"])
    return found


def show_software(report: dict, requirements: Path) -> None:
    """Print the versions."""
    heading("1. Python and packages")
    python, packages = report["python"], report["packages"]
    say(f"Python {python['version']}: {short_path(Path(python['executable']))}")
    columns = ("name", "wanted", "installed", "state", "purpose")
    rows = [[package[column] for column in columns] for package in packages]
    table(f"Packages of {short_path(requirements)}", columns, rows)
    different = [package["name"] for package in packages if package["state"] == "different"]
    if different:
        say(
            f"Of another version than the tests passed with: {', '.join(different)}. "
            f"To change that: {environment.pip_line(requirements)}"
        )


def show_machine(report: dict) -> None:
    """Print the sizes of this machine."""
    heading("2. This machine")
    here = report["machine"]
    rows = [
        ("system", here["system"]),
        ("processor", here["processor"]),
        ("cores", str(here["cores"])),
        ("memory", f"{_gib(here['memory'])}, of which {_gib(here['memory_free'])} are free"),
        ("disk", f"{_gib(here['disk_free'])} free at {here['disk_folder']}"),
    ]
    table("What the scripts may use", ("part", "here"), rows)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def show_docker(report: dict) -> None:
    """Print what a Milvus server could be started with."""
    heading("3. Ways to start a server")
    found, local = report["docker"], report["local_server"]
    rows = [
        ("docker client", found["client"], ""),
        ("docker engine", found["engine"], found["problem"]),
        ("docker compose", found["compose"], "" if found["problem"] else "make stack"),
        ("local server", local == "installed", "make server" if local == "installed" else local),
    ]
    table("Neither is required: Milvus Lite needs no server", ("part", "here", "note"), rows)


def show_models(report: dict) -> None:
    """Print which model turns text into vectors, and where it was found."""
    heading("4. Text models")
    columns = ("language", "name", "source", "dimension")
    rows = [[model[c] for c in columns] for model in report["text_models"] if model["found"]]
    table("Texts become vectors by", columns, rows)
    for model in report["text_models"]:
        if model["downloaded_later"]:
            say(f"The model for {model['language']!r} is not on this machine; the first script")
            say("that needs it downloads it from the hub.")


def show_milvus(report: dict) -> None:
    """Print which Milvus answered, how fast, and what it can."""
    heading("5. The Milvus that answers")
    milvus = report["milvus"]
    if "error" in milvus:
        say(milvus["error"])
        return
    say(f"{milvus['label']} at {milvus['address']}")
    trip = milvus["round_trip"]
    say(
        f"Round trip: median {milliseconds(trip['median_seconds'])}, 95 % within "
        f"{milliseconds(trip['p95_seconds'])} ({trip['calls']} calls of get_server_version)."
    )
    heading("6. What this Milvus can")
    rows = milvus["capabilities"]
    for group in dict.fromkeys(row["group"] for row in rows):
        inside = [(row["feature"], row["here"], row["note"]) for row in rows if row["group"] == group]
        title = f"{group}: {sum(row[1] for row in inside)} of {len(inside)} here"
        table(title, ("feature", "here", "if not: what happens, and who has it"), inside)


def main(arguments: list[str] | None = None) -> int:
    """Check one thing after the other; nothing that is missing keeps the rest from being shown."""
    options = _parse(arguments)
    calls = QUICK_ROUND_TRIPS if options.quick else options.round_trips
    report: dict = {}
    for check, show in (
        (lambda: check_software(options.requirements), show_software),
        (lambda: {"machine": asdict(environment.machine())}, show_machine),
        (check_docker, show_docker),
        (check_models, show_models),
        (lambda: check_milvus(calls), show_milvus),
    ):
        report |= check()
        if not options.json:
            show(report, options.requirements) if show is show_software else show(report)
    report["problems"] = problems(report, options.requirements)
    report["exit_code"] = 1 if report["problems"] else 2 if "error" in report["milvus"] else 0
    if options.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        show_result(report)
    return report["exit_code"]
