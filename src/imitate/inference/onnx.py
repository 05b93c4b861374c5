"""A folder that ``imitate export --format onnx`` wrote, as an encoder that needs onnxruntime and no torch."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float, UInt8

from imitate.config import Preprocessing
from imitate.config.digests import check_record
from imitate.data.evaluation import evaluation_array
from imitate.errors import UserError
from imitate.inference.base import BaseEncoder, Vectors
from imitate.models.lsa import VOCABULARY, LsaTextEncoder, words_of
from imitate.names import SECTIONS

if TYPE_CHECKING:
    from imitate.models.types import TextEncoder

log = logging.getLogger(__name__)
RECORD, TEXT_ARRAYS, TOKENIZER = "imitate.json", "text.npz", "tokenizer.json"
FORMAT_VERSION = 1
BATCH = 64  # texts
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxEncoder(BaseEncoder):
    """Its vectors are those of the model that was exported, to 1e-4; heat-maps, which need gradients, it has none."""

    has_maps = False

    def __init__(self, folder: Path, *, name: str, device: str = "auto") -> None:
        """UserError: the folder is not whole, or onnxruntime has no such device."""
        self.name, self.device = name, chosen_device(device)
        self.record = read_record(folder)
        try:
            self.preprocessing = Preprocessing(**self.record["preprocessing"])
            self.temperature, self.whole_reports = self.record["temperature"], self.record["whole_reports"]
            self._sections: dict[str, str] = self.record["sections"]
            self._backbone, self._identity, self._weights = (
                str(self.record[key]) for key in ("backbone", "identity", "weights")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / RECORD} is damaged ({error}): export the model again") from error
        self.precision = str(self.record.get("precision", "float32"))
        classes = self.record.get("classes", {})
        self.own_prompts = {name: {side: each[side] for side in each["vectors"]} for name, each in classes.items()}
        self._known = {
            tuple(each[side]): np.array(vector, np.float32)
            for each in classes.values()
            for side, vector in each["vectors"].items()
        }
        self._image = session(folder / "image.onnx", self.device)
        facts = self.record["text"]
        self._reads = open_text(folder, facts, self.device) if facts else None
        self.text = cast("TextEncoder | None", self._reads)  # whose vectors are arrays

    @property
    def backbone(self) -> str:
        return self._backbone

    @property
    def identity(self) -> str:
        """That of the model; of one in 8 bits, whose vectors differ by the images that scaled it, another."""
        if self.precision == "float32":
            return self._identity
        return _digest(f"{self._identity} {self.precision} {self.record['files']['image.onnx']}")

    def digest(self, beside: str = "") -> str:
        return _digest(f"{self._weights} {beside}") if beside else self._weights

    @property
    def own_calibration(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.record.get("calibration")
        return found

    def known_side(self, sentences: tuple[str, ...]) -> Float[np.ndarray, " joint"] | None:
        return self._known.get(sentences)

    def to(self, device: str) -> "OnnxEncoder":
        """Where it computes was decided when it was opened."""
        return self

    def vectors_of_images(self, pixels: UInt8[np.ndarray, "_ size size"]) -> dict[str, np.ndarray]:
        outputs = list(dict.fromkeys(self._sections.values()))
        found = self._image.run(outputs, {"pixels": evaluation_array(pixels, self.preprocessing)})
        return {name: found[outputs.index(output)] for name, output in self._sections.items()}

    def vectors_of_texts(self, texts: list[str]) -> Vectors:
        assert self._reads is not None
        return self._reads.project(self._reads.encode(texts))

    def vectors_of_reports(self, texts: list[str], section: str | None = None) -> Vectors:
        """Rounded as a run stores them. UserError: the texts of each section have statistics of their own."""
        assert self._reads is not None
        if section in SECTIONS and self.record["text"].get("statistics") == "section":
            raise UserError(
                f"{self.name} was trained with statistics of each section's texts, which an ONNX folder does not have: "
                "retrieve with the run that was exported"
            )
        return self._reads.project(self._reads.stored(texts))


class LsaText(LsaTextEncoder):
    """TF-IDF and SVD, and behind it the projection of the model."""

    def __init__(self, vocabulary: list[str], arrays: dict[str, np.ndarray], head: dict[str, np.ndarray]) -> None:
        super().__init__(vocabulary, arrays)
        self._head = head

    def encode(self, texts: list[str]) -> Float[np.ndarray, "texts width"]:  # type: ignore[override]
        return self.vectors(texts)

    def stored(self, texts: list[str]) -> Float[np.ndarray, "texts width"]:
        return self.vectors(texts).astype(np.float16).astype(np.float32)

    def project(self, encoded: Float[np.ndarray, "texts width"]) -> Vectors:
        """Two affine maps with a ReLU between them, in which the statistics of the normalisation are contained."""
        head = self._head
        hidden = np.maximum(encoded @ head["weight_1"].T + head["bias_1"], 0)
        return unit(hidden @ head["weight_2"].T + head["bias_2"])


class TransformerText:
    """A tokenizer, and a transformer with the projection of the model behind it."""

    def __init__(self, folder: Path, facts: dict[str, Any], device: str) -> None:
        from tokenizers import Tokenizer

        self.name, self.identity = str(facts["name"]), str(facts["identity"])
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.longest = int(facts["longest"])
        self._session = session(folder / "text.onnx", device)
        self.width = int(self._session.get_outputs()[0].shape[1])

    def encode(self, texts: list[str]) -> Float[np.ndarray, "texts width"]:
        """Texts of like length share a batch, in the order of the input; projected already, and of unit norm."""
        out = np.zeros((len(texts), self.width), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            pieces = self._tokenizer.encode_batch([texts[i] for i in rows])
            inputs = {
                "input_ids": np.array([each.ids for each in pieces], np.int64),
                "attention_mask": np.array([each.attention_mask for each in pieces], np.int64),
            }
            out[rows] = self._session.run(["high"], inputs)[0]
        return out

    stored = encode

    def cut(self, texts: list[str]) -> list[str]:
        """Those that have more word pieces than it reads, so that their ends are ignored."""
        pieces = self._tokenizer.encode_batch(texts)
        return [text for text, each in zip(texts, pieces, strict=True) if each.overflowing]

    def project(self, encoded: Float[np.ndarray, "texts width"]) -> Vectors:
        return encoded


class FittedText(TransformerText):
    """One that was trained on the reports, and knows their words."""

    def __init__(self, folder: Path, facts: dict[str, Any], device: str) -> None:
        super().__init__(folder, facts, device)
        self._words = frozenset(json.loads((folder / VOCABULARY).read_text(encoding="utf-8")))

    def words(self, text: str) -> dict[str, bool]:
        """Each word, and whether the corpus had it."""
        return {word: word in self._words for word in words_of(text.lower())}


def unit(vectors: Float[np.ndarray, "rows width"]) -> Float[np.ndarray, "rows width"]:
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return found


def read_record(folder: Path) -> dict[str, Any]:
    """``imitate.json``. UserError: it is absent, changed or of another version, or a file that it names is."""
    path = folder / RECORD
    if not path.is_file():
        raise UserError(f"{folder} has no {RECORD}: it is incomplete, export the model again")
    try:
        record: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): export the model again") from error
    if record.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path} is of format {record.get('format_version')}, but imitate reads {FORMAT_VERSION}: "
            "export the model again"
        )
    check_record(path, record)
    return record


def open_text(folder: Path, facts: dict[str, Any], device: str) -> LsaText | TransformerText:
    """UserError: its files do not fit each other."""
    try:
        if facts["kind"] != "lsa":
            return (FittedText if facts.get("vocabulary") else TransformerText)(folder, facts, device)
        vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        with np.load(folder / TEXT_ARRAYS, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        own = {name: arrays.pop(name) for name in ("idf", "components", "mean")}
        return LsaText(vocabulary, own, arrays)
    except UserError:
        raise
    except Exception as error:  # a foreign file may raise anything
        raise UserError(f"the text encoder of {folder} is damaged ({str(error)[:200]}): copy it again") from error


def session(path: Path, device: str) -> Any:
    """An onnxruntime session of a file. UserError: there is none, or it cannot be read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # 0: all cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # costly beside another job
    chosen = [PROVIDERS[device.partition(":")[0]], PROVIDERS["cpu"]]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(dict.fromkeys(chosen)))
    except Exception as error:  # which have no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be opened by onnxruntime ({reason[:200]}): export the model again") from error


def chosen_device(name: str) -> str:
    """Of ``auto`` a GPU where this onnxruntime can use one. UserError: it cannot use what is named."""
    import onnxruntime

    has_gpu = PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    if name == "auto":
        return "cuda" if has_gpu else "cpu"
    kind = name.partition(":")[0]
    if kind not in PROVIDERS or (kind == "cuda" and not has_gpu):
        raise UserError(
            f"device {name}: this onnxruntime runs on {'cuda or cpu' if has_gpu else 'the CPU alone'}; "
            "use --device cpu, or install onnxruntime-gpu in place of onnxruntime"
        )
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
