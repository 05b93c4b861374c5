"""A text encoder that is fitted on the corpus: TF-IDF and a truncated SVD. It needs no download."""

import hashlib
import json
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from imitate.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 256
VOCABULARY, ARRAYS = "vocabulary.json", "lsa.safetensors"
UNSPACED = (  # Han and kana; Thai, Lao, Burmese, Khmer
    "\u3005\u3041-\u3096\u30a1-\u30fa\u30fc\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0ecd\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
)
"""Characters of scripts without spaces between words, within the brackets of a regular expression."""


class LsaTextEncoder:
    """TF-IDF over words and word pairs, truncated SVD, centred on the corpus; needs no download.

    The centring takes away the component that all reports share: without it nearly every pair of reports correlates,
    and the clinical prior could not distinguish like from unlike.
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
    def fit(cls, texts: list[str], *, width: int = WIDTH) -> "LsaTextEncoder":
        """``width`` shrinks to what the corpus can carry."""
        distinct = sorted(set(texts))
        vectorizer = _vectorizer(min_df=2 if len(distinct) > 100 else 1)
        try:
            matrix = vectorizer.fit_transform(distinct)
        except ValueError as error:
            raise UserError(f"the lsa text encoder found no words in {len(distinct)} distinct texts") from error
        width = min(width, matrix.shape[1] - 1, matrix.shape[0] - 1)
        if width < 2:
            raise UserError(f"the lsa text encoder needs at least 3 distinct texts, but the corpus has {len(distinct)}")
        reduced = TruncatedSVD(width, random_state=0).fit(matrix)
        components = reduced.components_.astype(np.float32)
        arrays = {
            "idf": vectorizer.idf_.astype(np.float32),
            "components": components,
            "mean": np.asarray(matrix @ components.T).mean(axis=0).astype(np.float32),
        }
        return cls(list(vectorizer.get_feature_names_out()), arrays)

    def encode(self, texts: list[str]) -> "Float[Tensor, 'texts width']":
        import torch

        return torch.from_numpy(self.vectors(texts))

    def vectors(self, texts: list[str]) -> Float[np.ndarray, "texts width"]:
        """The same without torch."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        projected = self._vectorizer.transform(texts) @ self._arrays["components"].T.astype(np.float64)
        return np.asarray((projected - self._arrays["mean"]).astype(np.float32))

    def words(self, text: str) -> dict[str, bool]:
        """Each word, and whether the corpus had it: one that it had not does not move the embedding."""
        terms = self._vectorizer.build_analyzer()(text)
        return {term: term in self._vectorizer.vocabulary for term in terms if " " not in term}

    @property
    def vocabulary(self) -> list[str]:
        """Words and pairs of words, in the order of the arrays."""
        return self._vocabulary

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return self._arrays

    @property
    def record(self) -> dict[str, str]:
        return {"kind": "lsa", "name": self.name}

    def save(self, folder: Path) -> None:
        arrays = {key: np.ascontiguousarray(array) for key, array in self._arrays.items()}  # others are saved scrambled
        save_file(arrays, folder / ARRAYS)
        (folder / VOCABULARY).write_text(json.dumps(self._vocabulary), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "LsaTextEncoder":
        try:
            vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            arrays = load_file(folder / ARRAYS)
            (width,), terms = arrays["mean"].shape, len(vocabulary)
            shapes = {"idf": (terms,), "components": (width, terms), "mean": (width,)}
            whole = {name: (each.shape, each.dtype) for name, each in arrays.items()} == {
                name: (shape, np.float32) for name, shape in shapes.items()
            }
            if not whole or not isinstance(vocabulary, list) or not all(isinstance(each, str) for each in vocabulary):
                raise ValueError(f"{VOCABULARY} and {ARRAYS} do not fit each other")
            return cls(vocabulary, arrays)
        except (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
            raise UserError(f"the text encoder in {folder} is damaged: {str(error)[:200]}") from error


def _vectorizer(**options: object) -> TfidfVectorizer:
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=words_of, token_pattern=None, **options)


def words_of(text: str) -> list[str]:
    """Of two letters and more; in scripts without spaces every two characters that follow each other.

    Numbers and the de-identification marks XXXX and ___ are not words here. Combining marks, the vowels of Indian
    scripts among them, belong to their letter.
    """
    run, word = _patterns()
    found = []
    for token in word.findall(run.sub(r" \g<0> ", text)):
        apart = len(token) > 2 and run.match(token)
        found += [token[i : i + 2] for i in range(len(token) - 1)] if apart else [token]
    return found


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A run of a script without spaces; a word of another script, or such a run."""
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M")
    letter, inside = rf"(?:[^\W\d_]|[{marks}])", rf"[\w{marks}]"
    return (
        re.compile(rf"[{UNSPACED}]+"),
        re.compile(rf"[{UNSPACED}]+|(?<!{inside})(?!x{{3,}}(?!{inside})){letter}{{2,}}(?!{inside})"),
    )
