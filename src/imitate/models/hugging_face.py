"""Text encoders of Hugging Face transformers."""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from imitate.errors import UserError
from imitate.models import hub
from imitate.models.imitate import freeze_all

MAX_WORD_PIECES = 256
MAX_LAYERS = 512
POOLING = ("cls", "mean", "last")


class HuggingFaceTextEncoder:
    """A transformers encoder in eval mode: one vector of its last layer a text, of at most 256 word pieces.

    ``pooling`` is cls, the first piece; mean, over all of them; last, which a causal model and the text tower of a CLIP
    take by default, since the first piece of these has seen nothing.
    """

    def __init__(
        self, source: str, *, revision: str | None, pooling: str | None, record: dict[str, str] | None = None
    ) -> None:
        """``source`` is a hub id, which needs a revision, or a folder on disk, of which only safetensors are read.

        ``record`` is what ``save_text_encoder`` wrote of the encoder that it is a copy of.
        """
        local = Path(source).is_dir()
        _check_source(source, revision, local)
        try:
            with quiet() if local else nullcontext():
                self._tokenizer, self._model = _from_transformers(source, None if local else revision, local)
        except UserError:
            raise
        except Exception as error:  # a foreign file may raise anything
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"cannot load the text encoder {source}@{revision or 'disk'}: {first[:300]}") from error
        freeze_all(self._model.float())
        config = self._model.config
        causal = _is_causal(config.model_type)
        if causal and pooling == "cls":
            raise UserError(
                f"{source} is causal, so its first word piece sees no others: use hf:...:mean or hf:...:last"
            )
        self._device = "cpu"
        self._pooling = pooling or ("last" if causal else "cls")
        self.longest = _longest(self._tokenizer, config)
        self.width = int(config.hidden_size)
        self.identity = self._digest()
        known = f"{Path(source).resolve().name}-{self.identity[:8]}" if local else f"{source.strip('/')}@{revision}"
        self.record = record or {
            "kind": "hf",
            "name": clean(f"{known}-{self._pooling}"),
            "pooling": self._pooling,
            **({} if local else {"revision": str(revision), "commit": str(getattr(config, "_commit_hash", None))}),
        }
        self.name = self.record["name"]

    def to(self, device: str) -> None:
        self._device = device
        self._model.to(device)

    @torch.inference_mode()
    def encode(self, texts: list[str], *, batch_size: int = 64) -> Float[Tensor, "texts width"]:
        """Texts of like length share a batch, so that little is padded; the result keeps the order of the input."""
        out = torch.zeros(len(texts), self.width)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            pieces = (each.to(self._device) for each in self.pieces([texts[i] for i in rows]))
            out[rows] = self.vectors(*pieces).float().cpu()
        return out

    def pieces(self, texts: list[str]) -> tuple[Int[Tensor, "texts pieces"], Int[Tensor, "texts pieces"]]:
        """The numbers of their word pieces, padded on the right, and a mask that is 1 where there are any."""
        found = self._tokenizer(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]

    def cut(self, texts: list[str]) -> list[str]:
        """Those that have more word pieces than it reads, so that their ends are ignored."""
        pieces = self._tokenizer(texts, truncation=True, max_length=self.longest + 1)["input_ids"] if texts else []
        return [text for text, each in zip(texts, pieces, strict=True) if len(each) > self.longest]

    def vectors(self, ids: Int[Tensor, "texts pieces"], mask: Int[Tensor, "texts pieces"]) -> Float[Tensor, "texts _"]:
        """Of word pieces, padded on the right; differentiable."""
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state  # not all models take token types
        return pooled(hidden, mask, self._pooling)

    @property
    def network(self) -> Any:
        """The transformers model."""
        return self._model

    @property
    def padding(self) -> int:
        """The number of the word piece that pads."""
        return int(self._tokenizer.pad_token_id)

    @property
    def rules(self) -> str:
        """What makes word pieces of a text, in JSON."""
        return _rules(self._tokenizer)

    def save_rules(self, path: Path) -> None:
        """A file of the package tokenizers that cuts and pads as ``pieces`` does. UserError: there is none such."""
        backend: Any = getattr(self._tokenizer, "backend_tokenizer", None)
        if not hasattr(backend, "to_str"):
            raise UserError(
                f"the tokenizer of {self.name} does not come from the package tokenizers, and cannot be exported"
            )
        rules = type(backend).from_str(backend.to_str())
        rules.enable_truncation(self.longest)
        rules.enable_padding(pad_id=self.padding, pad_token=self._tokenizer.pad_token)
        rules.save(str(path))

    def learned(self, network: Any, trained: str) -> "HuggingFaceTextEncoder":
        """The same encoder with a network of its shape that has learned; ``trained`` says what of it."""
        changed = copy.copy(self)
        changed._model, changed._device = freeze_all(network.float().cpu()), "cpu"
        changed.identity = changed._digest()
        changed.record = {**self.record, "name": f"{self.name.removesuffix('-trained')}-trained", "trained": trained}
        changed.name = changed.record["name"]
        return changed

    def _digest(self) -> str:
        return _identity(self._tokenizer, self._model, f"{self._pooling} {self.longest}")

    def save(self, folder: Path) -> None:
        with quiet():
            self._model.save_pretrained(folder, safe_serialization=True)
            self._tokenizer.save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars of transformers."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def clean(name: str) -> str:
    """Without characters that no file name should have."""
    return re.sub(r"[^\w.@-]+", "--", name)


def _check_source(source: str, revision: str | None, local: bool) -> None:
    if local:
        return
    if revision is None:
        raise UserError(f"hf:{source} has no revision and is not a folder: write hf:{source}@<revision>")
    if not hub.is_available(source, revision):
        raise UserError(
            f"cannot get the text encoder {source}@{revision}: the hub does not respond, and it is not in the cache on "
            "this disk; give hf:FOLDER"
        )


def _check_size(kind: Any, config: Any, folder: Path) -> None:
    """UserError where the weights on disk are fewer than config.json says, before these take memory."""
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    layers = max(int(getattr(config, name, None) or 0) for name in ("num_hidden_layers", "n_layer", "num_layers"))
    if layers > MAX_LAYERS:
        raise UserError(f"{folder / 'config.json'} has {layers} layers, more than {MAX_LAYERS}")
    with torch.device("meta"):
        whole = kind.from_config(config) if hasattr(kind, "from_config") else kind(config.text_config)
        wanted = sum(each.numel() for each in whole.parameters())
    if 0 < held < wanted:  # a number takes a byte at least
        raise UserError(f"{folder / 'config.json'} does not fit the weights: they have {held} bytes in all")


def _from_transformers(source: str, revision: str | None, local: bool) -> tuple[Any, Any]:
    """Tokenizer and model; of a model of images and texts its text tower. Code beside the weights is never run."""
    import transformers

    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    config = transformers.AutoConfig.from_pretrained(source, **options)
    kind: Any = transformers.AutoModel
    if hasattr(config, "text_config"):
        kind = getattr(transformers, f"{(config.architectures or [''])[0].removesuffix('Model')}TextModel", kind)
    if config.is_encoder_decoder:
        raise UserError(f"{source} is an encoder-decoder model: choose an encoder without a decoder")
    if local:
        _check_size(kind, config, Path(source))
    # transformers unpickles .bin with weights_only
    model = kind.from_pretrained(source, **options, use_safetensors=True if local else None)
    return tokenizer, model


def _is_causal(kind: str) -> bool:
    from transformers.models.auto import modeling_auto as auto

    reads_ahead = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return kind == "clip_text_model" or (kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not reads_ahead)


def _longest(tokenizer: Any, config: Any) -> int:
    """Word pieces of a text at most: ours, the tokenizer's and the number of the model's positions."""
    positions = getattr(config, "max_position_embeddings", None) or MAX_WORD_PIECES
    if config.model_type in {"roberta", "xlm-roberta", "camembert"}:  # whose positions begin after the padding's
        positions -= (config.pad_token_id or 0) + 1
    return int(min(MAX_WORD_PIECES, tokenizer.model_max_length, positions))


def pooled(hidden: Float[Tensor, "texts pieces width"], mask: Tensor, pooling: str) -> Float[Tensor, "texts width"]:
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        rows = torch.arange(hidden.shape[0], device=hidden.device)  # len() would be a constant to torch.export
        return hidden[rows, mask.sum(1).long() - 1]
    weights = mask.unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1)


def _identity(tokenizer: Any, model: Any, settings: str) -> str:
    """The digest of the weights and of what makes word pieces, the same for a copy that was saved and loaded."""
    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    digest.update(_rules(tokenizer).encode())
    return digest.hexdigest()


def _rules(tokenizer: Any) -> str:
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if hasattr(backend, "to_str") else tokenizer.get_vocab()
    for changing in ("truncation", "padding"):  # what the last call set
        rules.pop(changing, None)
    return json.dumps([rules, tokenizer.pad_token], sort_keys=True)
