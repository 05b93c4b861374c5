"""Text networks of published encoders: a tokenizer from beside the weights, a transformer, and what is pooled of it."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from imitate.models.peers.state import State
from imitate.models.peers.tokens import Rules, Tokenizer

Read = Callable[[Any, Tensor, Tensor], Tensor]
"""From a transformer, word pieces and their mask to one vector a text."""
BATCH = 64


class PeerText(nn.Module):
    """A text encoder up to the joint space; it can read once it has a ``tokenizer``.

    It is a ``TextEncoder``: ``width`` is that of the joint space, ``encode`` returns what the authors normalise.
    """

    language = "en"  # of the reports that published encoders learned from

    def __init__(self, name: str, model: nn.Module, read: Read, rules: Rules, head: nn.Module | None = None) -> None:
        super().__init__()
        self.name, self.rules, self._read = name, rules, read
        self.model, self.head = model, head or nn.Identity()
        self.tokenizer: Tokenizer | None = None
        self.width = outputs_of(self.head) or outputs_of(model)

    @property
    def identity(self) -> str:
        """The digest of the weights and of the vocabulary."""
        rules = {**self.rules._asdict(), "clean": getattr(self.rules.clean, "__name__", "")}
        digest = hashlib.sha256(f"{rules} {self.tokenizer.identity if self.tokenizer else ''}".encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.inference_mode()
    def encode(self, texts: list[str], *, batch_size: int = BATCH) -> Float[Tensor, "texts width"]:
        """In the order of the input; texts of like length share a batch."""
        device = next(self.parameters()).device
        pieces = [self.pieces(text) for text in texts]
        out: list[Tensor] = [torch.empty(0)] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(pieces[i]))
        for rows in self._batches(order, pieces, batch_size):
            ids, mask = self._padded([pieces[i] for i in rows])
            vectors = self(ids.to(device), mask.to(device)).float().cpu()
            for i, vector in zip(rows, vectors, strict=True):
                out[i] = vector
        return torch.stack(out) if out else torch.zeros(0, self.width)

    def forward(self, ids: Int[Tensor, "texts pieces"], mask: Int[Tensor, "texts pieces"]) -> Tensor:
        projected: Tensor = self.head(self._read(self.model, ids, mask))
        return projected

    def pieces(self, text: str) -> list[int]:
        """The numbers of a text's word pieces; of one that is too long the first ones and the last, which ends it."""
        assert self.tokenizer is not None, "no tokenizer"
        found = self.tokenizer.ids(self.rules.clean(text))
        longest = self.rules.longest
        return found if len(found) <= longest else [*found[: longest - 1], found[-1]]

    @property
    def longest(self) -> int:
        """Word pieces of a text at most."""
        return self.rules.longest

    def cut(self, texts: list[str]) -> list[str]:
        """Those that have more word pieces than it reads, so that their ends are ignored."""
        assert self.tokenizer is not None, "no tokenizer"
        ids = self.tokenizer.ids
        return [text for text in texts if len(ids(self.rules.clean(text))) > self.rules.longest]

    def _batches(self, order: list[int], pieces: Sequence[list[int]], size: int) -> list[list[int]]:
        groups: list[list[int]] = []
        for i in order:
            fits = groups and len(groups[-1]) < size
            if fits and (not self.rules.alone or len(pieces[groups[-1][0]]) == len(pieces[i])):
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def _padded(self, pieces: list[list[int]]) -> tuple[Tensor, Tensor]:
        assert self.tokenizer is not None
        length = self.rules.longest if self.rules.full else max(map(len, pieces))
        ids = torch.full((len(pieces), length), self.tokenizer.pad)
        mask = torch.zeros(len(pieces), length, dtype=torch.long)
        for row, each in enumerate(pieces):
            ids[row, : len(each)] = torch.tensor(each)
            mask[row, : len(each)] = 1
        return ids, mask


def outputs_of(module: Any) -> int:
    """The width of what a head, or a text transformer, returns; 0 of one that changes nothing."""
    if isinstance(module, PreNormText):
        return module.ln_final.normalized_shape[0]
    if hasattr(module, "config"):
        return int(module.config.hidden_size)
    layers = [each for each in module.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    if not layers:
        return 0
    return layers[-1].out_features if isinstance(layers[-1], nn.Linear) else layers[-1].out_channels


def bert(state: State, prefix: str, *, unused: Sequence[str] = (), heads: int | None = None) -> Any:
    """A BERT under transformers' names, with its pooler where the file has one."""
    from transformers import BertConfig, BertModel

    words, width = state.shape(f"{prefix}embeddings.word_embeddings.weight")
    types = f"{prefix}embeddings.token_type_embeddings.weight"
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=state.count(f"{prefix}encoder.layer.{{}}.output.dense.weight"),
        num_attention_heads=heads or max(1, width // 64),
        intermediate_size=state.shape(f"{prefix}encoder.layer.0.intermediate.dense.weight")[0],
        max_position_embeddings=state.shape(f"{prefix}embeddings.position_embeddings.weight")[0],
        type_vocab_size=state.shape(types)[0] if types in state else 1,
    )
    model = BertModel(config, add_pooling_layer=f"{prefix}pooler.dense.weight" in state)
    if types not in state:  # a variant without them adds none
        state.tensors[types] = torch.zeros_like(state.take(f"{prefix}embeddings.LayerNorm.weight"))[None]
    return state.fill(model, prefix, unused=[r"embeddings\.position_ids", *unused])


def first(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """[CLS] of the last layer."""
    found: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    return found


def last(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """[SEP] of the last layer."""
    hidden: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), OpenAI's approximation."""

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": lambda: nn.GELU(approximate="tanh"),
}


class PreNormText(nn.Module):
    """The text transformer of CLIP and of SigLIP, under OpenAI's names: normalisation before attention and MLP."""

    def __init__(
        self, words: int, positions: int, width: int, *, depth: int, hidden: int, heads: int, activation: str,
        causal: bool, eps: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.causal = causal
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.zeros(positions, width))
        self.blocks = nn.ModuleList(PreNormBlock(width, hidden, heads, activation, eps) for _ in range(depth))
        self.ln_final = nn.LayerNorm(width, eps=eps)

    def forward(self, ids: Int[Tensor, "texts pieces"]) -> Float[Tensor, "texts pieces width"]:
        length = ids.shape[1]
        hidden = self.token_embedding(ids) + self.positional_embedding[:length]
        above = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1) if self.causal else None
        for block in self.blocks:
            hidden = block(hidden, above)
        normalised: Tensor = self.ln_final(hidden)
        return normalised


class PreNormBlock(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int, activation: str, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("act", ACTIVATIONS[activation]())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(self, values: Tensor, above: Tensor | None) -> Tensor:
        normalised = self.ln_1(values)
        values = values + self.attn(normalised, normalised, normalised, attn_mask=above, need_weights=False)[0]
        added: Tensor = values + self.mlp(self.ln_2(values))
        return added


def clip_text(
    state: State, prefix: str, rename: Callable[[str], str], *, activation: str, causal: bool, eps: float,
    unused: Sequence[str] = (), heads: int | None = None,
) -> PreNormText:  # fmt: skip
    """A PreNormText from tensors that, after ``rename``, have its names."""
    inner = [name.removeprefix(prefix) for name in state.tensors if name.startswith(prefix)]
    kept = [name for name in inner if not any(re.fullmatch(each, name) for each in unused)]
    names = {rename(name): prefix + name for name in kept}

    def shape(name: str) -> tuple[int, ...]:
        return state.shape(names.get(name, prefix + name))

    words, width = shape("token_embedding.weight")
    model = PreNormText(
        words,
        shape("positional_embedding")[0],
        width,
        depth=len([name for name in names if re.fullmatch(r"blocks\.\d+\.ln_1\.weight", name)]),
        hidden=shape("blocks.0.mlp.c_fc.weight")[0],
        heads=heads or max(1, width // 64),
        activation=activation,
        causal=causal,
        eps=eps,
    )
    return state.fill(model, prefix, rename=rename, unused=unused)


def end_of_text(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Where the text ends: the largest number is CLIP's last word piece."""
    hidden: Tensor = model(ids)
    return hidden[torch.arange(len(ids), device=ids.device), ids.argmax(1)]
