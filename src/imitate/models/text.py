"""Frozen text encoders: LSA, fitted on the corpus, and those of Hugging Face transformers."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from imitate.errors import UserError
from imitate.models.imitate import freeze_all
from imitate.models.types import TextEncoder

MAX_WORD_PIECES = 256
LSA_WIDTH = 256


def fit_or_load(spec: str, corpus: list[str]) -> TextEncoder:
    """A recipe's text encoder: ``lsa``, ``lsa-<width>`` fitted on the corpus, ``hf:<id>@<revision>[:<pooling>]``."""
    if match := re.fullmatch(r"lsa(?:-(\d+))?", spec):
        return LsaTextEncoder.fit(corpus, width=int(match[1] or LSA_WIDTH))
    if match := re.fullmatch(r"hf:(?P<name>[^@]+?)(?:@(?P<revision>[\w.-]+))?(?::(?P<pooling>cls|mean|last))?", spec):
        return HuggingFaceTextEncoder(match["name"], revision=match["revision"], pooling=match["pooling"])
    raise UserError(f"unknown text encoder {spec!r}: give lsa, lsa-<width> or hf:<id>@<revision>[:cls|mean|last]")


def save_text_encoder(encoder: TextEncoder, folder: Path) -> None:
    """Whatever is needed to load the encoder again without the network."""
    folder.mkdir(parents=True, exist_ok=True)
    assert isinstance(encoder, LsaTextEncoder | HuggingFaceTextEncoder)
    encoder.save(folder)


def load_text_encoder(folder: Path) -> TextEncoder:
    if not (folder / "text.json").is_file():
        raise UserError(f"no text encoder at {folder}: it must hold text.json")
    settings = json.loads((folder / "text.json").read_text(encoding="utf-8"))
    if settings["kind"] == "lsa":
        return LsaTextEncoder.load(folder)
    return HuggingFaceTextEncoder(str(folder), revision=None, pooling=settings["pooling"], name=settings["name"])


class LsaTextEncoder:
    """TF-IDF over words and word pairs, truncated SVD, centred on the corpus; needs no download.

    The centring takes away the component that all reports share: without it nearly every pair of reports correlates,
    and the clinical prior could not tell like from unlike.
    """

    def __init__(self, vocabulary: list[str], arrays: dict[str, np.ndarray]) -> None:
        """``arrays``: idf (V,), components (W, V), mean (W,), all float32."""
        self._vocabulary, self._arrays = vocabulary, arrays
        self._vectorizer = _vectorizer(vocabulary={term: i for i, term in enumerate(vocabulary)})
        self._vectorizer.idf_ = arrays["idf"].astype(np.float64)
        self.width = len(arrays["components"])
        digest = hashlib.sha256(json.dumps(vocabulary).encode())
        for key in sorted(arrays):
            digest.update(f"{key} {arrays[key].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[key]).tobytes())
        self.identity = digest.hexdigest()
        self.name = f"lsa-{self.width}-{self.identity[:8]}"

    @classmethod
    def fit(cls, texts: list[str], *, width: int = LSA_WIDTH) -> "LsaTextEncoder":
        """``width`` shrinks to what the corpus can carry."""
        distinct = sorted(set(texts))
        vectorizer = _vectorizer(min_df=2 if len(distinct) > 100 else 1)
        try:
            matrix = vectorizer.fit_transform(distinct)
        except ValueError as error:
            raise UserError(f"the lsa text encoder found no words in {len(distinct)} distinct texts") from error
        width = min(width, matrix.shape[1] - 1, matrix.shape[0] - 1)
        if width < 2:
            raise UserError(f"the lsa text encoder needs at least 3 distinct texts, the corpus has {len(distinct)}")
        reduced = TruncatedSVD(width, random_state=0).fit(matrix)
        components = reduced.components_.astype(np.float32)
        arrays = {
            "idf": vectorizer.idf_.astype(np.float32),
            "components": components,
            "mean": np.asarray(matrix @ components.T).mean(axis=0).astype(np.float32),
        }
        return cls(list(vectorizer.get_feature_names_out()), arrays)

    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        if not texts:
            return torch.zeros(0, self.width)
        projected = self._vectorizer.transform(texts) @ self._arrays["components"].T.astype(np.float64)
        return torch.from_numpy((projected - self._arrays["mean"]).astype(np.float32))

    def words(self, text: str) -> dict[str, bool]:
        """Each word, and whether the corpus had it: one that it had not does not move the embedding."""
        terms = self._vectorizer.build_analyzer()(text)
        return {term: term in self._vectorizer.vocabulary for term in terms if " " not in term}

    def save(self, folder: Path) -> None:
        arrays = {key: np.ascontiguousarray(array) for key, array in self._arrays.items()}  # others are saved scrambled
        save_file(arrays, folder / "lsa.safetensors")
        (folder / "vocabulary.json").write_text(json.dumps(self._vocabulary), encoding="utf-8")
        _settle({"kind": "lsa", "name": self.name, "identity": self.identity}, folder)

    @classmethod
    def load(cls, folder: Path) -> "LsaTextEncoder":
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        return cls(vocabulary, load_file(folder / "lsa.safetensors"))


def _vectorizer(**options: object) -> TfidfVectorizer:
    """Numbers and the de-identification marks XXXX and ___ are not words here."""
    pattern = r"(?u)\b(?!x{3,}\b)[^\W\d_]{2,}\b"
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern, **options)


class HuggingFaceTextEncoder:
    """A transformers encoder in eval mode: one vector of its last layer a text, of at most 256 word pieces.

    ``pooling`` is cls, the first piece; mean, over all of them; last, which a causal model and the text tower of a CLIP
    take by default, since the first piece of these has seen nothing.
    """

    def __init__(self, source: str, *, revision: str | None, pooling: str | None, name: str | None = None) -> None:
        """``source`` is a hub id, which needs a revision, or a folder on disk, of which only safetensors are read."""
        local = Path(source).is_dir()
        if revision is None and not local:
            raise UserError(f"hf:{source} names no revision and is no folder: write hf:{source}@<revision>")
        try:
            self._tokenizer, self._model = _from_transformers(source, None if local else revision, local)
        except (OSError, ValueError, KeyError, ImportError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"cannot load the text encoder {source}@{revision or 'disk'}: {first[:300]}") from error
        freeze_all(self._model.float())
        config = self._model.config
        causal = _is_causal(config.model_type)
        if causal and pooling == "cls":
            raise UserError(
                f"{source} is causal, its first word piece has seen nothing: take hf:...:mean or hf:...:last"
            )
        self._pooling = pooling or ("last" if causal else "cls")
        self._longest = _longest(self._tokenizer, config)
        self.width = int(config.hidden_size)
        self._from = {"commit": getattr(config, "_commit_hash", None), "revision": revision} if not local else {}
        self.identity = _identity(self._tokenizer, self._model, f"{self._pooling} {self._longest}")
        known = f"{Path(source).resolve().name}-{self.identity[:8]}" if local else f"{source.strip('/')}@{revision}"
        self.name = name or re.sub(r"[^\w.@-]+", "--", f"{known}-{self._pooling}")

    @torch.inference_mode()
    def encode(self, texts: list[str], *, batch_size: int = 64) -> Float[Tensor, "texts width"]:
        """Texts of like length share a batch, so that little is padded; the result keeps the order of the input."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = self._model.to(device)
        out = torch.zeros(len(texts), self.width)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            tokens = self._tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
            ).to(device)
            hidden = model(**tokens).last_hidden_state
            out[rows] = _pooled(hidden, tokens["attention_mask"], self._pooling).float().cpu()
        return out

    def save(self, folder: Path) -> None:
        self._model.save_pretrained(folder, safe_serialization=True)
        self._tokenizer.save_pretrained(folder)
        known = {"kind": "hf", "name": self.name, "pooling": self._pooling, "identity": self.identity}
        _settle({**known, **{key: value for key, value in self._from.items() if value}}, folder)


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


def _pooled(hidden: Float[Tensor, "texts pieces width"], mask: Tensor, pooling: str) -> Float[Tensor, "texts width"]:
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1).long() - 1]
    weights = mask.unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1)


def _identity(tokenizer: Any, model: Any, settings: str) -> str:
    """The digest of the weights and of what makes word pieces, the same for a copy that was saved and loaded."""
    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if hasattr(backend, "to_str") else tokenizer.get_vocab()
    for changing in ("truncation", "padding"):  # what the last call set
        rules.pop(changing, None)
    digest.update(json.dumps([rules, tokenizer.pad_token], sort_keys=True).encode())
    return digest.hexdigest()


def _settle(settings: dict[str, str], folder: Path) -> None:
    """Last and at once: where text.json is, the encoder is whole."""
    part = folder / "text.json.part"
    part.write_text(json.dumps(settings), encoding="utf-8")
    part.replace(folder / "text.json")
