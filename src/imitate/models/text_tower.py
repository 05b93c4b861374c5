"""The text encoder in training: its last layers, or low-rank adapters in all of them, learn with the model."""

import copy
import hashlib
import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from imitate.errors import UserError
from imitate.models.hugging_face import HuggingFaceTextEncoder
from imitate.models.types import TextEncoder


class WordPieces:
    """What is kept of texts that are encoded anew in each step: the number of each word piece plus one, then zeros.

    In the place of a text encoder; the identity is that of the tokenizer alone, whatever the weights are.
    """

    def __init__(self, encoder: HuggingFaceTextEncoder) -> None:
        self._encoder = encoder
        self.name, self.width = f"the word pieces of {encoder.name}", encoder.longest
        self.longest, self.cut = encoder.longest, encoder.cut
        self.identity = hashlib.sha256(f"word pieces {self.width} {encoder.rules}".encode()).hexdigest()

    def encode(self, texts: list[str]) -> Int[Tensor, "texts pieces"]:
        ids, mask = self._encoder.pieces(texts)
        found = torch.zeros(len(texts), self.width, dtype=torch.int32)
        found[:, : ids.shape[1]] = (ids + 1) * mask
        return found


class TextTower(nn.Module):
    """A Hugging Face encoder as a module of which a part learns: the last ``layers``, or adapters of rank ``lora``.

    Everything else is frozen, the embeddings of word pieces too. It is always in evaluation mode, without drop-out. The
    encoder that it is made of belongs to it from then on.
    """

    def __init__(
        self, encoder: TextEncoder, *, layers: int | None = None, lora: int | None = None, seed: int = 0
    ) -> None:
        """``seed`` is that of the adapters' random weights. UserError: the encoder has no layers, or fewer."""
        super().__init__()
        if not isinstance(encoder, HuggingFaceTextEncoder):
            raise UserError(
                f"the text encoder {encoder.name} has no layers to train: use bert-small or hf:..., or leave "
                "training.text_layers and training.text_lora out"
            )
        self._encoder = encoder
        self._lora = lora is not None
        stack = _stack(encoder, least=layers or 1)
        if lora:
            self.network = _adapted(encoder.network, stack, lora, seed)
        else:
            self.network = encoder.network
            for layer in [*stack][-(layers or 1) :]:
                layer.requires_grad_(True)
        self.trained = f"adapters of rank {lora}" if lora else f"the last {layers} layers"
        self.eval()

    def forward(self, pieces: Int[Tensor, "texts pieces"]) -> Float[Tensor, "texts width"]:
        """Of what ``WordPieces`` made; zero rows where there is no text."""
        mask = pieces > 0
        present = mask[:, :1]
        ids = torch.where(mask, pieces.long() - 1, self._encoder.padding)
        first = torch.arange(pieces.shape[1], device=pieces.device) == 0  # attention to nothing is not a number
        vectors: Tensor = self._encoder.vectors(ids, (mask | first).long())
        return vectors * present

    @property
    def pieces(self) -> WordPieces:
        """What the tower reads, of texts."""
        return WordPieces(self._encoder)

    def train(self, mode: bool = True) -> "TextTower":
        return super().train(False)

    def learned(self) -> dict[str, Tensor]:
        """The weights that learn, by name."""
        return {name: weight.detach() for name, weight in self.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def restore(self, learned: dict[str, Tensor]) -> None:
        """Take over what ``learned`` gave."""
        own = self.learned()
        assert own.keys() == learned.keys()
        for name, weight in own.items():
            weight.copy_(learned[name])

    def encoder(self) -> HuggingFaceTextEncoder:
        """As it is now: a frozen copy on the CPU, the adapters merged into its weights."""
        network: Any = copy.deepcopy(self.network)
        return self._encoder.learned(network.merge_and_unload() if self._lora else network, self.trained)


def _stack(encoder: HuggingFaceTextEncoder, *, least: int) -> nn.ModuleList:
    """The layers of a transformer, from the first to the last."""
    count = encoder.network.config.num_hidden_layers
    found = [each for each in encoder.network.modules() if isinstance(each, nn.ModuleList) and len(each) == count]
    if not found:
        raise UserError(f"{encoder.name} ({encoder.network.config.model_type}) has no separate layers to train")
    if least > count:
        raise UserError(f"training.text_layers is {least}, but {encoder.name} has only {count} layers")
    return found[0]


def _adapted(network: Any, stack: nn.ModuleList, rank: int, seed: int) -> Any:
    """The network with adapters of scale 1 in all linear maps of its layers."""
    try:
        import peft
    except ImportError as error:
        raise UserError("training.text_lora needs PEFT: pip install 'imitate-cxr[lora]'") from error
    from transformers.pytorch_utils import Conv1D

    inside = set(stack.modules())
    names = [name for name, each in network.named_modules() if each in inside and isinstance(each, nn.Linear | Conv1D)]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by a name that is to change
        torch.manual_seed(seed)
        return peft.get_peft_model(network, peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names))
