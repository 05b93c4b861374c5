"""A small BERT that is trained from scratch on the corpus, as a masked language model. It needs no download."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from imitate.errors import UserError
from imitate.models.hugging_face import MAX_WORD_PIECES, HuggingFaceTextEncoder, pooled, quiet
from imitate.models.lsa import UNSPACED, VOCABULARY, words_of

STEPS = 500  # about two minutes on two cores
WHITENING = "whitening.safetensors"
WHITENED = 4096  # texts that decide the whitening, at most
FLOOR = 1e-3  # added to the variance of each direction, as a fraction of the largest
PIECES = 4096  # of the vocabulary at most
MASKED = 0.2  # fraction of the pieces that are to be distinguished from the others
BATCH, LEARNING_RATE, WARMUP = 32, 1e-3, 0.1
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


class SmallBertTextEncoder(HuggingFaceTextEncoder):
    """The mean over all word pieces of the embeddings and the last layer, whitened on the texts of the training.

    Without the whitening a few directions that all reports share would outweigh the others, and nearly every pair would
    correlate. After so short a training, the last layer alone distinguishes reports less well than with the embeddings.
    Four layers, width 256, and the corpus's own WordPiece vocabulary. The folder is one of transformers, with the
    whitening and the words beside it.
    """

    def __init__(self, folder: Path, *, record: dict[str, str] | None = None) -> None:
        """UserError: damaged files."""
        try:
            words = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
            if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
                raise ValueError(f"{VOCABULARY} must be a list of words")
            found = load_file(folder / WHITENING)
            self._words, self._centre, self._map = frozenset(words), found["centre"], found["map"]
        except (OSError, ValueError, KeyError, RecursionError, SafetensorError) as error:
            raise UserError(f"the text encoder in {folder} is damaged: {str(error)[:200]}") from error
        super().__init__(str(folder), revision=None, pooling="mean", record=record)
        fits = self._centre.shape == (self.width,) and self._map.shape == (self.width, self.width)
        if not fits or {self._centre.dtype, self._map.dtype} != {torch.float32}:
            raise UserError(f"the text encoder in {folder} is damaged: {WHITENING} does not fit the weights")
        for name, value in (("centre", self._centre), ("whitening", self._map)):  # so that they move with the weights
            self._model.register_buffer(name, value, persistent=False)
        self.record = record or {"kind": "bert-small", "name": f"bert-small-{self.identity[:8]}"}
        self.name = self.record["name"]

    @classmethod
    def fit(cls, texts: list[str], *, steps: int = STEPS, seed: int = 0) -> "SmallBertTextEncoder":
        """The same weights whenever it is repeated with the same seed and number of threads, on the CPU.

        The random state of the caller is left as it was.
        """
        if steps < 1:
            raise UserError("the bert-small text encoder needs at least one step: write bert-small, or bert-small:1000")
        distinct = sorted(set(texts))
        if len(distinct) < 3:
            raise UserError(f"the bert-small text encoder needs at least 3 distinct texts, found {len(distinct)}")
        with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            tokenizer = train_word_pieces(distinct)
            train_masked(tokenizer, distinct, steps=steps).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            words, width = common_words(distinct), SHAPE["hidden_size"]
            _save_beside(Path(folder), words, {"centre": torch.zeros(width), "map": torch.eye(width)})
            some = [distinct[i] for i in torch.randperm(len(distinct))[:WHITENED].tolist()]
            _save_beside(Path(folder), words, whitening(cls(Path(folder)).encode(some)))
            return cls(Path(folder))

    def words(self, text: str) -> dict[str, bool]:
        """Each word, and whether the corpus had it: another one is spelled of pieces, and may say nothing."""
        return {word: word in self._words for word in words_of(text.lower())}

    @property
    def vocabulary(self) -> list[str]:
        """Words of the reports."""
        return sorted(self._words)

    def vectors(self, ids: Int[Tensor, "texts pieces"], mask: Int[Tensor, "texts pieces"]) -> Float[Tensor, "texts _"]:
        states = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        found = pooled((states[0] + states[-1]) / 2, mask, "mean")
        found = found.float() if found.itemsize < 4 else found
        with torch.autocast(found.device.type, enabled=False):  # it magnifies what rounding would leave
            whitened: Tensor = (found - self._model.centre) @ self._model.whitening
        return whitened

    def save(self, folder: Path) -> None:
        super().save(folder)
        _save_beside(folder, self.vocabulary, {"centre": self._centre, "map": self._map})

    def _digest(self) -> str:
        beside = json.dumps([self.vocabulary, self._centre.tolist(), self._map.tolist()])
        return hashlib.sha256(f"{super()._digest()} {beside}".encode()).hexdigest()


def train_word_pieces(texts: list[str], *, size: int = PIECES) -> Any:
    """A WordPiece tokenizer of these texts, in lower case, without the marks of de-identification XXXX and ___.

    Its pieces are letters, and what occurs in at least two of the texts' words, each counted once in a text.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"(?i)\bx{3,}\b|_+"), " "),
            normalizers.BertNormalizer(lowercase=True, strip_accents=False),
        ]
    )
    apart = pre_tokenizers.Split(Regex(f"[{UNSPACED}]"), "isolated")
    words.pre_tokenizer = pre_tokenizers.Sequence([apart, pre_tokenizers.BertPreTokenizer()])
    cut, plain = words.pre_tokenizer.pre_tokenize_str, words.normalizer.normalize_str
    found = [sorted({word for word, _ in cut(plain(text))}) for text in texts]
    inner = sorted({f"##{letter}" for text in found for word in text for letter in word[1:]})
    # The trainer numbers letters in the order of a hash table, and breaks ties by number, unless they are given first
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, special_tokens=[*SPECIAL, *inner], show_progress=False
    )
    words.train_from_iterator(map(" ".join, found), trainer)
    pieces = words.get_vocab()
    words = _with_vocabulary(words, models.WordPiece(pieces, unk_token="[UNK]"))
    words.post_processor = processors.BertProcessing(("[SEP]", pieces["[SEP]"]), ("[CLS]", pieces["[CLS]"]))
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=MAX_WORD_PIECES, **names)


def _with_vocabulary(words: Any, model: Any) -> Any:
    """A tokenizer of the same rules to whom ``##e`` in a text is no special token, as it is to the trained one."""
    from tokenizers import Tokenizer

    fresh = Tokenizer(model)
    fresh.normalizer, fresh.pre_tokenizer = words.normalizer, words.pre_tokenizer
    return fresh


def train_masked(tokenizer: Any, texts: list[str], *, steps: int) -> Any:
    """A BERT that finds masked word pieces among the others (80% are masked, 10% another piece, 10% as they were)."""
    from transformers import BertConfig, BertForMaskedLM, BertModel, DataCollatorForLanguageModeling

    shape: dict[str, Any] = dict(SHAPE)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=MAX_WORD_PIECES, **shape)
    model = BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    warmup = WARMUP if round(WARMUP * steps, 9) != 1 else 1.01 * WARMUP  # of exactly one step, torch divides by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=warmup)
    mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    pieces = [{"input_ids": ids} for ids in tokenizer(texts, truncation=True)["input_ids"] if len(ids) > 2]
    if not pieces:
        raise UserError(f"the bert-small text encoder found no words in {len(texts)} distinct texts")
    for rows in track(
        _batches([len(each["input_ids"]) for each in pieces], steps), "training the text encoder", steps,
        console=(console := Console(stderr=True)), transient=True, disable=not console.is_terminal,
    ):  # fmt: skip
        batch = mask([pieces[row] for row in rows])
        asked = batch["labels"] >= 0
        hidden = model.bert(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        loss = F.cross_entropy(model.cls(hidden[asked]), batch["labels"][asked], reduction="sum")
        (loss / asked.sum().clamp(min=1)).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    whole = BertModel(config)  # with the pooler that AutoModel expects
    whole.load_state_dict(model.bert.state_dict(), strict=False)
    return whole


def _batches(lengths: list[int], steps: int) -> Iterator[list[int]]:
    """Rows of texts of like length, so that little is padded; each epoch goes through the batches in another order."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    queue: list[int] = []
    for _ in range(steps):
        queue = queue or torch.randperm(len(parts)).tolist()
        yield parts[queue.pop()]


def common_words(texts: list[str]) -> list[str]:
    """Those of at least two texts, where there are many, as LSA's."""
    counts = Counter(word for text in texts for word in set(words_of(text.lower())))
    return sorted(word for word, count in counts.items() if count >= (2 if len(texts) > 100 else 1))


def whitening(vectors: Float[Tensor, "texts width"]) -> dict[str, Tensor]:
    """What makes the vectors' mean zero and their covariance the unit matrix, but for directions that hardly vary."""
    centre = vectors.double().mean(0)
    apart = vectors.double() - centre
    variances, directions = torch.linalg.eigh(apart.T @ apart / len(vectors))
    scales = (variances + FLOOR * variances[-1]).rsqrt()
    return {"centre": centre.float(), "map": (directions * scales @ directions.T).float().contiguous()}


def _save_beside(folder: Path, words: list[str], whitening: dict[str, Tensor]) -> None:
    save_file(whitening, folder / WHITENING)
    (folder / VOCABULARY).write_text(json.dumps(words), encoding="utf-8")
