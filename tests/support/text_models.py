"""Tiny transformers of random weights, written as their publishers write theirs."""

from pathlib import Path
from typing import Any

import torch

WORDS = [
    "heart",
    "size",
    "is",
    "normal",
    "lungs",
    "are",
    "clear",
    "no",
    "pleural",
    "effusion",
    "left",
    "right",
    "small",
    "large",
    "opacity",
    "lobe",
    "upper",
    "lower",
]


def texts(n: int = 40) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (9,), generator=generator)) for _ in range(n)]


def _tokens(folder: Path, **options: object) -> int:
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), **options).save_pretrained(folder)
    return len(vocabulary)


SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def write_bert(folder: Path, *, positions: int = 512) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    count = _tokens(folder)
    BertModel(BertConfig(vocab_size=count, max_position_embeddings=positions, **SMALL)).save_pretrained(folder)
    return folder


def write_gpt(folder: Path, *, padding: str | None) -> Path:
    """Without a padding token, or with one on this side."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["<unk>", "<end>", *WORDS])}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    options = {"pad_token": "<end>", "padding_side": padding} if padding else {}
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<end>", bos_token="<end>", **options
    ).save_pretrained(folder)
    config = GPT2Config(vocab_size=2 + len(WORDS), n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1)
    GPT2Model(config).save_pretrained(folder)
    return folder


def write_clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    count = _tokens(folder, model_max_length=77)
    text = {"vocab_size": count, "max_position_embeddings": 77, "eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    image = {"image_size": 32, "patch_size": 16, **SMALL}
    CLIPModel(CLIPConfig(text_config={**text, **SMALL}, vision_config=image, projection_dim=8)).save_pretrained(folder)
    return folder
