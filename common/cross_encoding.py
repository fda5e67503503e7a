"""Cross-encoders: a model that reads query and document together and gives one score for both.

The most exact way to rank, and the dearest: nothing can be computed before the query is known.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from common.display import left_out
from common.embedding import EncoderError
from common.hub import hub_folder, hub_problems

CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L6-v2"
"""On the Hugging Face hub; English."""

Id = TypeVar("Id", int, str)


class Scorer:
    """A cross-encoder that is loaded from a folder."""

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Raises:
            EncoderError: the folder holds no cross-encoder that can be loaded.
        """
        from sentence_transformers import CrossEncoder  # takes seconds: torch comes with it

        try:
            self._model = CrossEncoder(str(folder), local_files_only=True)
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"the cross-encoder in {folder} cannot be loaded: {error}"
            ) from error

    def rerank(
        self, ranking: Sequence[tuple[Id, float]], query: str, documents: Mapping[Id, str]
    ) -> list[tuple[Id, float]]:
        """The same documents in the order of the model, each with its score, best first."""
        if not ranking:
            return []
        pairs = [(query, documents[found]) for found, _ in ranking]
        scores = self._model.predict(pairs, show_progress_bar=False)
        scored = [(found, float(score)) for (found, _), score in zip(ranking, scores, strict=True)]
        return sorted(scored, key=lambda item: -item[1])


def cross_encoder(model: str | None) -> Scorer | None:
    """Load a cross-encoder, or say in one line why there is none.

    Args:
        model: a folder or a name on the hub, which gets one short try; without one, none is loaded.

    Raises:
        EncoderError: the model is there and cannot be loaded.
    """
    if not model:
        left_out("a cross-encoder", "it takes minutes on a processor; --cross-encoder adds it")
        return None
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Scorer(folder)
    try:
        return Scorer(hub_folder(model))
    except hub_problems() as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        left_out(f"the cross-encoder {model}", f"the hub does not give it: {reason}")
        return None
