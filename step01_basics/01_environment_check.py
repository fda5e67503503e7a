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
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

try:
    from common import environment
    from common.capabilities import FEATURES, LITE, LOCAL_SERVER
    from common.connection import ConnectionFailed, Milvus, connect
    from common.display import (
        heading,
        left_out,
        milliseconds,
        progress,
        run,
        say,
        short_path,
        table,
    )
    from common.settings import settings

    import numpy as np
    from pymilvus import MilvusClient
except ModuleNotFoundError as missing:
    sys.exit(
        f"missing: {missing.name}\nIn the project's folder: {sys.executable} -m pip install -r "
        "requirements.txt\nOr, which makes an environment of its own: make learn"
    )

ROUND_TRIPS = 500
QUICK_ROUND_TRIPS = 50
WARM_UP = 20
LONGEST = 5.0  # seconds: a Milvus far away gets fewer round trips


def check_milvus(calls: int) -> dict:
    """Connect to the Milvus of the settings, time it, and list what it can."""
    try:
        with connect() as milvus:
            return {
                "label": milvus.label,
                "address": milvus.address,
                "kind": milvus.kind,
                "version": milvus.version,
                "round_trip": round_trip(milvus.client, calls),
                "capabilities": capabilities(milvus),
            }
    except ConnectionFailed as error:
        return {"error": str(error)}


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
        who = [LITE] * feature.lite + [LOCAL_SERVER] * feature.local_server
        needs = "the -gpu image" if feature.gpu else feature.setting
        rows.append(
            {
                "group": feature.group,
                "feature": feature.name,
                "here": bool(answer),
                "reason": answer.reason,
                "who_has_it": [*who, f"Milvus {feature.since}+{f' with {needs}' if needs else ''}"],
            }
        )
    return rows


def show_software(report: dict) -> None:
    """Print the versions."""
    heading("1. Python and packages")
    python, packages = report["python"], report["packages"]
    say(f"Python {python['version']}: {short_path(Path(python['executable']))}")
    columns = ("name", "wanted", "installed", "state", "purpose")
    rows = [[package[column] for column in columns] for package in packages]
    table(f"Packages of {short_path(Path(report['requirements']))}", columns, rows)
    different = [package["name"] for package in packages if package["state"] == "different"]
    if different:
        say(
            f"Of another version than the tests passed with: {', '.join(different)}. "
            f"To change that: {report['pip_line']}"
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


def show_servers(report: dict) -> None:
    """Print what a Milvus server could be started with."""
    heading("3. Ways to start a server")
    found, local = report["docker"], report["local_server"]["problem"]
    rows = [
        ("docker client", found["client"], ""),
        ("docker engine", found["engine"], found["problem"]),
        ("docker compose", found["compose"], "" if found["problem"] else "make stack"),
        ("local server", not local, local or "make server"),
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
            say(
                f"The model for {model['language']!r} is not on this machine: the first script "
                "that needs it fetches it from the hub."
            )


def show_milvus(report: dict) -> None:
    """Print which Milvus answered, how fast, and what it can."""
    heading("5. The Milvus that answers")
    milvus = report["milvus"]
    if "error" in milvus:
        say(milvus["error"])
        left_out("6. What this Milvus can", "none answers")
        return
    say(f"{milvus['label']} at {milvus['address']}")
    trip = milvus["round_trip"]
    say(
        f"Round trip: median {milliseconds(trip['median_seconds'])}, 95 % within "
        f"{milliseconds(trip['p95_seconds'])} ({trip['calls']} calls of get_server_version)."
    )
    show_capabilities(milvus["capabilities"])


def show_capabilities(rows: list[dict]) -> None:
    """Print what a script can ask `milvus.can()` for, and the answers."""
    heading("6. What this Milvus can")
    has, lacks, beware = defaultdict(list), defaultdict(list), defaultdict(list)
    for row in rows:
        if row["here"]:
            has[row["group"]].append(row["feature"])
            continue
        lacks[row["group"], ", ".join(row["who_has_it"])].append(row["feature"])
        instead = re.search(r"does not have it \((.*?)\);", row["reason"])
        if instead:
            beware[instead[1]].append(row["feature"])
    table("It has", ("group", "feature"), [(g, ", ".join(f)) for g, f in has.items()])
    if lacks:
        lines = [(group, who, ", ".join(f)) for (group, who), f in lacks.items()]
        table("It lacks", ("group", "who has it", "feature"), lines)
    if beware:
        lines = [(", ".join(f), what) for what, f in beware.items()]
        table("Of these, what it does instead of refusing them", ("feature", "what happens"), lines)


def show_result(report: dict) -> None:
    """Print the verdict, and for each problem what to do."""
    heading("7. Result")
    for problem in report["problems"]:
        say(f"✗ {problem}")
    if "error" in report["milvus"]:
        say("✗ no Milvus answers: section 5 says why, and what to do")
    if report["exit_code"] == 0:
        say("✓ Everything that the scripts require is here.")


def check_all(options: argparse.Namespace) -> dict:
    """Look at the machine, then for Milvus, and show both; what is missing hides nothing else."""
    report = environment.describe(options.requirements)
    if not options.json:
        for show in (show_software, show_machine, show_servers, show_models):
            show(report)
    report |= {"milvus": check_milvus(options.round_trips)}
    if not options.json:
        show_milvus(report)
    report["exit_code"] = 1 if report["problems"] else 2 if "error" in report["milvus"] else 0
    return report


def main(arguments: list[str] | None = None) -> int:
    """Print the report, for people or as JSON, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON document and nothing else")
    add("--quick", action="store_true", help=f"{QUICK_ROUND_TRIPS} round trips")
    add(
        "--round-trips",
        type=int,
        default=ROUND_TRIPS,
        metavar="N",
        help="calls whose time is taken (default: %(default)s)",
    )
    add(
        "--requirements",
        type=Path,
        default=environment.REQUIREMENTS,
        metavar="FILE",
        help="what must be installed (default: requirements.txt of the project)",
    )
    options = parser.parse_args(arguments)
    if options.round_trips < 1:
        parser.error("--round-trips must be at least 1")
    if options.quick:
        options.round_trips = min(QUICK_ROUND_TRIPS, options.round_trips)
    report = check_all(options)
    if options.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        show_result(report)
    return report["exit_code"]


if __name__ == "__main__":
    sys.exit(run(main))
