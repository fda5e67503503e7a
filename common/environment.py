"""What this machine has: packages against requirements.txt, cores, memory, disk, servers, models.

Nothing here talks to Milvus, and nothing is downloaded.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from common.embedding import EncoderError, text_encoder
from common.local_server import missing_reason
from common.settings import PROJECT_ROOT

import psutil
from packaging.requirements import InvalidRequirement, Requirement

OLDEST_PYTHON = (3, 11)
REQUIREMENTS = PROJECT_ROOT / "requirements.txt"
DOCKER_TIMEOUT = 5.0  # seconds: its client waits for ever for an engine that hangs

PackageState = Literal["ok", "different", "missing", "not for this platform"]


class RequirementsError(ValueError):
    """A list of requirements cannot be read; the message names the file and the line."""

    exit_code = 1


@dataclass(frozen=True)
class Package:
    """One line of a requirements file and what is installed for it."""

    name: str
    wanted: str
    installed: str | None
    state: PackageState
    purpose: str


@dataclass(frozen=True)
class Machine:
    """The computer, or the part of it that this process may use. Sizes are in bytes."""

    system: str
    processor: str
    cores: int
    memory: int
    memory_free: int
    disk_folder: str
    disk_free: int


@dataclass(frozen=True)
class Docker:
    """The versions of Docker's parts, None for what is not there; `problem` says what to do."""

    client: str | None = None
    engine: str | None = None
    compose: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class TextModel:
    """The encoder of a language.

    Attributes:
        found: whether it is on this machine.
        downloaded_later: whether it would be fetched from the hub when a script first needs it.
        problem: why it was not found, and what to do; '' if it was.
    """

    language: str
    found: bool
    name: str = ""
    source: str = ""
    dimension: int | None = None
    downloaded_later: bool = False
    problem: str = ""


def describe(requirements: Path = REQUIREMENTS) -> dict:
    """All that is known of this machine, as a dict that can be written as JSON.

    Its entry "problems" lists in words what is required and missing, each with what to do.

    Raises:
        RequirementsError: `requirements` cannot be read.
    """
    report = {
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "requirements": str(requirements),
        "pip_line": pip_line(requirements),
        "packages": [asdict(package) for package in check_packages(requirements)],
        "machine": asdict(machine()),
        "docker": asdict(docker()),
        "local_server": {"problem": missing_reason()},
        "text_models": [asdict(text_model(language)) for language in ("en", "ko")],
    }
    return {**report, "problems": problems(report)}


def problems(report: dict) -> list[str]:
    """What a report of `describe()` lacks that the scripts require, and what to do about it."""
    found = []
    version = report["python"]["version"]
    if tuple(map(int, version.split(".")[:2])) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        found.append(
            f"Python {version} is too old: install {oldest} or newer, remove the folder .venv and "
            "set the project up anew with it"
        )
    missing = [package["name"] for package in report["packages"] if package["state"] == "missing"]
    if missing:
        found.append(f"missing: {', '.join(missing)}. Run: {report['pip_line']}")
    for model in report["text_models"]:
        if not model["found"] and not model["downloaded_later"]:
            found.append(model["problem"])
    return found


def check_packages(requirements: Path = REQUIREMENTS) -> list[Package]:
    """Compare every line of a requirements file with what is installed.

    A line whose marker excludes this platform is "not for this platform". Lines of options
    (`--constraint`, `-e`) are passed over.

    Raises:
        RequirementsError: there is no such file, or a line is no requirement.
    """
    try:
        lines = requirements.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RequirementsError(f"cannot read {requirements}: {error.strerror}") from error
    packages = []
    for number, line in enumerate(lines, start=1):
        # As in pip, a comment begins at the start of a line or after a space.
        text, _, purpose = f" {line}".partition(" #")
        text = text.strip()
        if not text or text.startswith("-"):
            continue
        try:
            packages.append(_package(Requirement(text), purpose.strip()))
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise RequirementsError(f"{requirements}, line {number}: {reason}") from error
    return packages


def _package(requirement: Requirement, purpose: str) -> Package:
    specifier = requirement.specifier
    wanted = str(specifier).removeprefix("==")
    if requirement.marker is not None and not requirement.marker.evaluate():
        return Package(requirement.name, wanted, None, "not for this platform", purpose)
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Package(requirement.name, wanted, None, "missing", purpose)
    # "2.13.0+cpu" is 2.13.0 in another build, and a match.
    same = specifier.contains(installed, prereleases=True)
    return Package(requirement.name, wanted, installed, "ok" if same else "different", purpose)


def pip_line(requirements: Path = REQUIREMENTS) -> str:
    """What to type, from the current folder, to install what a requirements file lists."""
    return f"{_as_typed(sys.executable)} -m pip install -r {_as_typed(requirements)}"


def _as_typed(path: Path | str) -> str:
    """`path` relative to the current folder where that is shorter; quoted if it has spaces."""
    text = min((str(path), os.path.relpath(path)), key=len)
    return f'"{text}"' if " " in text else text


def machine() -> Machine:
    """The cores, memory and disk that this process may use."""
    memory = psutil.virtual_memory()
    limit = _control_group_limit("memory.max")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = _control_group_limit("cpu.max")
    return Machine(
        system=f"{_system_name()}, {platform.machine()}",
        processor=_processor_name(),
        cores=max(1, min(cores, int(share))) if share else cores,
        memory=int(min(memory.total, limit or memory.total)),
        memory_free=int(min(memory.available, limit or memory.available)),
        disk_folder=str(PROJECT_ROOT),
        disk_free=shutil.disk_usage(PROJECT_ROOT).free,
    )


def _control_group_limit(name: str, folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The limit that a container sets in this file: bytes, or cores; None if it sets none."""
    file = folder / name
    parts = file.read_text().split() if file.is_file() else ["max"]
    if parts[0] == "max":
        return None
    # cpu.max holds microseconds of processor time and the period in which they may be used.
    return float(parts[0]) / float(parts[1]) if len(parts) == 2 else float(parts[0])


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):  # no Linux
        return platform.platform(terse=True)


def _processor_name() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def docker(timeout: float = DOCKER_TIMEOUT) -> Docker:
    """Look for Docker's client, its engine and Compose.

    Args:
        timeout: seconds after which an engine that says nothing counts as not answering.
    """
    program = shutil.which("docker")
    if program is None:
        return Docker(problem="not installed: https://docs.docker.com/engine/install/")
    try:
        answer = _ask([program, "version", "--format", "{{json .}}"], timeout)
        versions = json.loads(answer.stdout)
        client = versions["Client"]["Version"]
    except subprocess.TimeoutExpired:
        return Docker(problem=f"the client got no answer from the engine within {timeout:g} s")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Docker(problem=f"{program} does not work: {type(error).__name__}: {error}")
    compose = _compose_version(program, timeout)
    engine = (versions.get("Server") or {}).get("Version")
    if engine is None:
        said = (answer.stderr.strip().splitlines() or ["the engine does not answer"])[0]
        return Docker(client, None, compose, said)
    problem = "" if compose else "the plugin docker compose is missing"
    return Docker(client, engine, compose, problem)


def _compose_version(program: str, timeout: float) -> str | None:
    try:
        answer = _ask([program, "compose", "version", "--short"], timeout)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _ask(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )


def text_model(language: str) -> TextModel:
    """Find the model that encodes texts of a language, without loading or downloading it.

    Args:
        language: "en" or "ko".
    """
    try:
        with _hub_offline():
            encoder = text_encoder(language=language)
            return TextModel(
                language, True, encoder.name, encoder.source, dimension=encoder.dimension
            )
    except (EncoderError, ModuleNotFoundError) as error:
        later = "OfflineModeIsEnabled" in str(error) and not _hub_is_off()
        return TextModel(language, False, downloaded_later=later, problem=str(error))


@contextmanager
def _hub_offline() -> Iterator[None]:
    """Keep huggingface_hub from the network, so that looking for a model is no download."""
    if util.find_spec("huggingface_hub") is None:
        yield
        return
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_is_off() -> bool:
    """Whether the learner has switched the hub off (HF_HUB_OFFLINE=1)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE
