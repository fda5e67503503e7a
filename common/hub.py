"""Models of the Hugging Face hub: from its local cache, else with one short try at the network."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

_Answer = TypeVar("_Answer")

# One try, and its limit in seconds. The hub's own client would go on for minutes: it repeats each
# request up to 5 times, and its time-outs start anew for each address that a name resolves to.
HUB_TIMEOUT = 10.0

# Copies of the weights that sentence-transformers does not load.
_OTHER_FORMATS = ["onnx/*", "openvino/*", "coreml/*", "*.onnx", "*.h5", "*.ot", "*.msgpack"]


def hub_folder(repository: str) -> Path:
    """Return the folder of a model of the hub: from the local cache, else downloaded."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    partial = None
    try:
        unused = [*_OTHER_FORMATS, "*.bin"]
        folder = snapshot_download(repository, local_files_only=True, ignore_patterns=unused)
        if has_model(Path(folder)):
            return Path(folder)
    except IncompleteSnapshotError as error:
        partial = Path(error.snapshot_path)
    except LocalEntryNotFoundError:
        pass  # then the hub is asked
    try:
        info = _within(HUB_TIMEOUT, lambda: HfApi().model_info(repository, timeout=HUB_TIMEOUT))
        files = [file.rfilename for file in info.siblings or ()]
        has_safetensors = any(file.endswith(".safetensors") for file in files)
        unused = [*_OTHER_FORMATS, "*.bin"] if has_safetensors else _OTHER_FORMATS
        return Path(snapshot_download(repository, ignore_patterns=unused))
    except hub_problems():
        if partial and has_model(partial):
            return partial  # sentence-transformers fetched just what it needs of the model
        raise


def hub_problems() -> tuple[type[Exception], ...]:
    """What the hub's client raises when there is no network, no such model or no such name."""
    from huggingface_hub.utils import httpx

    return OSError, ValueError, httpx.HTTPError, httpx.InvalidURL


def _within(seconds: float, call: Callable[[], _Answer]) -> _Answer:
    """Return what `call` returns, or raise TimeoutError when that takes too long.

    It runs in a daemon thread: name look-ups know no time-out and cannot be interrupted.
    """
    answer: Future[_Answer] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from error


def has_model(folder: Path) -> bool:
    """Tell whether a folder holds a model that sentence-transformers can load."""
    described = any((folder / name).is_file() for name in ("modules.json", "config.json"))
    return described and bool(weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of the model in a folder, without copies in other formats."""
    found = [*folder.rglob("*.safetensors"), *folder.rglob("pytorch_model*.bin")]
    return sorted(path for path in found if path.parent.name not in ("onnx", "openvino"))
