"""A CLIP with random weights, and a second text tower: what they find means nothing.

The folders are those of sentence-transformers, in today's layout and in that of clip-ViT-B-32 on
the hub, which older versions wrote.
"""

import json
import shutil
from pathlib import Path

from common.embedding import ENGLISH

DIMENSION = 16


def save_clip(folder: Path, *, as_on_the_hub: bool = False) -> Path:
    """Save a CLIP of two layers and pictures of 32 x 32 pixels."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    letters = list(bytes_to_unicode().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2}
    marks = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1}
    text = {**sizes, **marks, "vocab_size": len(pieces), "max_position_embeddings": 32}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=DIMENSION)
    base = folder / "base"
    CLIPModel(config).save_pretrained(base)
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32)
    square = {"height": 32, "width": 32}
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square)
    CLIPProcessor(images, tokenizer).save_pretrained(base)
    saved = folder / "random-clip"
    if as_on_the_hub:
        shutil.copytree(base, saved / "0_CLIPModel")
        kind = "sentence_transformers.models.CLIPModel"
        module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": kind}
        (saved / "modules.json").write_text(json.dumps([module]))
    else:
        SentenceTransformer(modules=[Transformer(str(base))], device="cpu").save(str(saved))
    return saved


def save_text_tower(folder: Path, dimension: int = DIMENSION) -> Path:
    """Save a text encoder built as clip-ViT-B-32-multilingual-v1: transformer, mean, projection."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    BertModel(BertConfig(**sizes, num_attention_heads=2)).save_pretrained(folder / "base")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copyfile(ENGLISH.folder() / "model" / name, folder / "base" / name)
    modules = [Transformer(str(folder / "base")), Pooling(32, "mean"), Dense(32, dimension)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "random-tower"))
    return folder / "random-tower"
