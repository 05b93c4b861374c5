"""PRIOR: a ResNet-50 of one channel with attention pooling, and ClinicalBERT whose sentences are made of prototypes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.models.peers.base import VECTORS, Family, OfPooled, Peer, Scoring, linear, prepared
from imitate.models.peers.images import Enter, resnet
from imitate.models.peers.state import State
from imitate.models.peers.texts import PeerText, bert
from imitate.models.peers.tokens import Rules

SIDE, LONGEST, HEADS = 224, 256, 8
MEAN, STD = (0.5062731,), (0.2894678,)
SHARPNESS = 0.9  # temperature of the softmax over prototypes


class AttentionPool(nn.Module):
    """The mean of the tokens asks them and itself; with ``places`` each has a position."""

    def __init__(self, width: int, outputs: int, *, places: int = 0) -> None:
        super().__init__()
        self.width = outputs
        self.positional_embedding = nn.Parameter(torch.zeros(places, width)) if places else None
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Of a map (batch, width, high, wide), or of tokens (batch, number, width)."""
        if tokens.ndim == 4:
            tokens = tokens.flatten(2).mT
        every = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        if self.positional_embedding is not None:
            every = every + self.positional_embedding
        query, key, value = self.q_proj(every[:, :1]), self.k_proj(every), self.v_proj(every)
        split = [each.unflatten(2, (HEADS, -1)).transpose(1, 2) for each in (query, key, value)]
        asked = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        projected: Tensor = self.c_proj(asked[:, 0])
        return projected


class Prototypes(nn.Module):
    """The mean of a sentence's pieces as a mixture of prototypes, pooled as a report of that one sentence."""

    def __init__(self, project: nn.Linear, bank: Tensor, pool: AttentionPool) -> None:
        super().__init__()
        self.project, self.bank, self.pool = project, nn.Parameter(bank), pool

    def forward(self, mean: Tensor) -> Tensor:
        weights = (self.project(mean) @ self.bank.T / SHARPNESS).softmax(1)
        pooled: Tensor = self.pool((weights @ self.bank)[:, None])
        return pooled


def mean_of_pieces(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Without [CLS] and [SEP], where there is anything else."""
    inner = mask.clone()
    inner[:, 0] = 0
    inner[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1] = 0
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    mean: Tensor = (hidden * inner[..., None]).sum(1) / inner.sum(1, keepdim=True).clamp(min=1)
    return mean


def _pool(state: State, prefix: str, width: int) -> AttentionPool:
    position = f"{prefix}positional_embedding"
    places = state.shape(position)[0] if position in state else 0
    pool = AttentionPool(width, state.shape(f"{prefix}c_proj.weight")[0], places=places)
    return state.fill(pool, prefix)


def build(state: State) -> Peer:
    pooling = _pool(state, "image_encoder.atten_pool.", state.shape("image_encoder.atten_pool.q_proj.weight")[1])
    image = resnet(state, "image_encoder.encoder.", Enter(SIDE), pooling=pooling)
    text = bert(state, "text_encoder.encoder.")
    project = linear(state, "local_text_projection.", text.config.hidden_size)
    pool = _pool(state, "global_text_attention.", project.out_features)
    return Peer(
        image,
        prepared("stretch-bilinear", SIDE, mean=MEAN, std=STD),
        head=OfPooled(linear(state, "global_image_projection.", image.width)),
        text=PeerText(
            "PRIOR",
            text,
            mean_of_pieces,
            Rules("wordpiece", LONGEST),
            Prototypes(project, state.take("sentence_bank.embed.weight"), pool),
        ),
        temperature=1 / max(1e-3, state.number("logit_scale", 14.3)),  # stored as it is, not as a logarithm
        scoring=Scoring(positive=("{} is observed",), negative=("{} is not observed",), scoring="positive"),
    )


FAMILY = Family(
    name="prior",
    title="PRIOR",
    where="Google Drive, linked from github.com/QtacierP/PRIOR",
    licence="Apache-2.0",
    gives=VECTORS,
    verified="torchvision, open_clip's attention pooling, transformers and a plain reference",
    signs={
        "sentence_bank.embed.weight": (None, None),
        "image_encoder.atten_pool.positional_embedding": (None, None),
        "global_image_projection.weight": (None, None),
    },
    build=build,
    unused=(
        "prototype_queries",
        r"(local_)?logit_scale",
        r"(local_image_projection|global_text_projection|predictor|local_cross_attention)\..*",
        r"(sentence_decoder|image_decoder)\..*",
    ),
    vocabulary="vocab.txt of emilyalsentzer/Bio_ClinicalBERT",
    note="A text counts as one sentence, a mixture of prototypes by inner products, without the authors' random noise.",
)
