"""Frozen text encoders: LSA, fitted on the corpus, and the one door to Hugging Face transformers."""

import hashlib
import json
import re
from pathlib import Path

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
    """A recipe's text encoder: ``lsa``, ``lsa-<width>`` (fitted on the corpus) or ``hf:<id>@<revision>[:mean]``."""
    if match := re.fullmatch(r"lsa(?:-(\d+))?", spec):
        return LsaTextEncoder.fit(corpus, width=int(match[1] or LSA_WIDTH))
    if match := re.fullmatch(r"hf:(?P<name>[^@]+?)(?:@(?P<revision>[\w.-]+))?(?::(?P<pooling>cls|mean))?", spec):
        return HuggingFaceTextEncoder(match["name"], revision=match["revision"], pooling=match["pooling"] or "cls")
    raise UserError(f"unknown text encoder {spec!r}: give lsa, lsa-<width> or hf:<id>@<revision>[:mean]")


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
        digest = hashlib.sha256(b"".join(arrays[key].tobytes() for key in sorted(arrays))).hexdigest()
        self.name = f"lsa-{self.width}-{digest[:8]}"

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
        _settle({"kind": "lsa", "name": self.name}, folder)

    @classmethod
    def load(cls, folder: Path) -> "LsaTextEncoder":
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        return cls(vocabulary, load_file(folder / "lsa.safetensors"))


def _vectorizer(**options: object) -> TfidfVectorizer:
    """Numbers and the de-identification marks XXXX and ___ are not words here."""
    pattern = r"(?u)\b(?!x{3,}\b)[^\W\d_]{2,}\b"
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern, **options)


class HuggingFaceTextEncoder:
    """A transformers encoder in eval mode, CLS token or mean over word pieces of the last layer, at most 256 pieces."""

    def __init__(self, source: str, *, revision: str | None, pooling: str, name: str | None = None) -> None:
        """``source`` is a hub id, which needs a revision, or a folder on disk."""
        import transformers

        if revision is None and not Path(source).is_dir():
            raise UserError(f"hf:{source} names no revision and is no folder: write hf:{source}@<revision>")
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=revision)
            self._model = transformers.AutoModel.from_pretrained(source, revision=revision)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise UserError(f"cannot load the text encoder {source}@{revision}: {first}") from error
        freeze_all(self._model)
        self._pooling = pooling
        self.width = int(self._model.config.hidden_size)
        self.name = name or re.sub(r"[^\w.@-]+", "--", f"{source.strip('/')}@{revision or 'disk'}-{pooling}")

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
                [texts[i] for i in rows], padding=True, truncation=True, max_length=MAX_WORD_PIECES, return_tensors="pt"
            ).to(device)
            hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            pooled = hidden[:, 0] if self._pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
            out[rows] = pooled.float().cpu()
        return out

    def save(self, folder: Path) -> None:
        self._model.save_pretrained(folder, safe_serialization=True)
        self._tokenizer.save_pretrained(folder)
        _settle({"kind": "hf", "name": self.name, "pooling": self._pooling}, folder)


def _settle(settings: dict[str, str], folder: Path) -> None:
    """Last and at once: where text.json is, the encoder is whole."""
    part = folder / "text.json.part"
    part.write_text(json.dumps(settings), encoding="utf-8")
    part.replace(folder / "text.json")
