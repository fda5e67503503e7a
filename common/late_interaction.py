"""Late interaction: a vector for each token, compared token by token (MaxSim).

One vector for a whole text is a mean; what a single word says gets lost in it. Late interaction
keeps a vector for each token. The score of a document is, for each token of the query, that of the
document's most similar token, averaged (Khattab and Zaharia, ColBERT, 2020, who add them up: the
order is the same). That takes a few hundred vectors a document, so it reranks a short list.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from common.embedding import Kind, TextEncoder
from common.settings import settings
from common.vector_cache import VectorCache

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.float16] | NDArray[np.float32]
"""The token vectors of a text: one of length 1 in each row, shape (tokens, dimension)."""

Id = TypeVar("Id", int, str)
_AT_ONCE = 64  # texts between two writes to the file


class TokenEncoder:
    """Token vectors of texts, each encoded once and then kept in a file as float16.

    Attributes:
        hits: texts that were answered from the file, so far.
        encoded: texts that the model encoded, so far.
    """

    def __init__(self, encoder: TextEncoder, folder: Path | None = None) -> None:
        """Take the model of `encoder`; files lie in `folder` (the folder tokens in CACHE_DIR)."""
        self.hits = self.encoded = 0
        self._encoder = encoder
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", encoder.name)
        file = f"{name}-{encoder.dimension}-{encoder.fingerprint[:16]}.sqlite"
        self._cache = VectorCache((folder or settings().cache_dir / "tokens") / file)

    def encode(self, kind: Kind, texts: Sequence[str]) -> list[Tokens]:
        """The token vectors of each text (float16), those of its special tokens included.

        Args:
            kind: "document" or "query".
            texts: none of them blank.

        Raises:
            EncoderError: the model gives one vector a text only.
        """
        keys = [hashlib.sha256(f"{kind}\0{text}".encode()).digest() for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        blobs = self._cache.get(list(text_of))
        missing = sorted(
            (key for key in text_of if key not in blobs), key=lambda k: -len(text_of[k])
        )
        self.hits += len(texts) - len(missing)
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            found = self._encoder.encode_tokens(kind, [text_of[key] for key in part])
            # The file keeps float32 rows of any length: two float16 numbers go into each.
            new = [tokens.astype(np.float16).reshape(-1).view(np.float32) for tokens in found]
            self._cache.put(part, new)
            blobs.update(zip(part, new, strict=True))
            self.encoded += len(part)
        return [blobs[key].view(np.float16).reshape(-1, self._encoder.dimension) for key in keys]


def max_sim(query: Tokens, document: Tokens) -> float:
    """The mean over the query's tokens of the highest cosine with a token of the document.

    Args:
        query, document: rows of length 1, shapes (tokens, dimension).

    Raises:
        ValueError: one of them has no token.
    """
    if not len(query) or not len(document):
        raise ValueError("MaxSim needs at least one token on both sides")
    cosines = query.astype(np.float32, copy=False) @ document.astype(np.float32, copy=False).T
    return float(cosines.max(axis=1).mean())


def rerank(
    ranking: Sequence[tuple[Id, float]], query: Tokens, documents: Mapping[Id, Tokens]
) -> list[tuple[Id, float]]:
    """The same documents in the order of MaxSim, each with that score, best first.

    Of equal scores the one that was before in `ranking` comes first. Documents that are scored
    again and again are better given as float32, twice the memory: NumPy computes in float16 by
    converting each time.
    """
    scored = [(found, max_sim(query, documents[found])) for found, _ in ranking]
    return sorted(scored, key=lambda item: -item[1])
