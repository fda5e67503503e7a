"""A cross-encoder with random weights: its order is that of its scores. No claim of quality."""

from pathlib import Path

from common.cross_encoding import cross_encoder
from common.embedding import ENGLISH, EncoderError

import pytest

DOCUMENTS = {7: "a cat", 8: "a graph of nodes", 9: "bread and butter"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = tmp_path_factory.mktemp("cross-encoder")
    tokenizer = AutoTokenizer.from_pretrained(ENGLISH.folder() / "model")
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=64, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_order_is_that_of_its_scores(folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    scorer = cross_encoder(str(folder))
    found = scorer.rerank([(i, 0.0) for i in DOCUMENTS], "which node", DOCUMENTS)
    scores = CrossEncoder(str(folder)).predict([("which node", t) for t in DOCUMENTS.values()])
    expected = dict(zip(DOCUMENTS, scores.tolist(), strict=True))
    assert [i for i, _ in found] == sorted(expected, key=lambda i: -expected[i])
    assert dict(found) == pytest.approx(expected, abs=1e-4)
    assert scorer.rerank([], "which node", DOCUMENTS) == []


def test_none_is_named_and_the_hub_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cross_encoder(None) is None
    assert "--cross-encoder adds it" in capsys.readouterr().out

    def away(name: str) -> Path:
        raise TimeoutError("no answer within 10 seconds")

    monkeypatch.setattr("common.cross_encoding.hub_folder", away)
    assert cross_encoder("some/model") is None
    assert "no answer within 10 seconds" in capsys.readouterr().out
    with pytest.raises(EncoderError, match="cannot be loaded"):
        cross_encoder(str(tmp_path))
