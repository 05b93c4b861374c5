"""A folder that needs no torch to classify, embed and retrieve: ONNX graphs and what has to be known beside them.

image.onnx        ``pixels``, float32 (batch, channels, side, side), normalised, to unit vectors ``high`` and ``multi``
text.onnx         ``input_ids`` and ``attention_mask``, (batch, pieces), to ``high`` and ``multi``; with tokenizer.json
text.npz          in its place the arrays of a text encoder of TF-IDF and SVD; with vocabulary.json
classifier.onnx   ``pixels`` to ``scores``, ``probabilities`` and ``decisions`` of fixed prompts
imitate.json      all the rest
"""

import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imitate.config import Preprocessing
from imitate.config.digests import record_digest, sha256
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference import onnx_graphs as graphs
from imitate.inference.calibration import calibration_of, in_8_bits, preprocessing_digest
from imitate.inference.card import onnx_card
from imitate.inference.embeddings import embed_texts
from imitate.inference.encoder import Encoder, ImitateEncoder, load_folder
from imitate.inference.export import check_place, whole
from imitate.inference.onnx_int8 import loss, open_images, quantised
from imitate.inference.peer import load_peer
from imitate.inference.predictor import Predictor, Scorer, middle
from imitate.inference.prompts import Wording
from imitate.inference.tones import described
from imitate.models.hub import CARD, HUB, is_ours, local_folder
from imitate.models.hugging_face import HuggingFaceTextEncoder
from imitate.models.lsa import VOCABULARY, LsaTextEncoder
from imitate.models.text import Fitted
from imitate.names import Branch

log = logging.getLogger(__name__)
FORMAT_VERSION = 1
RECORD, TOKENIZER, ARRAYS = "imitate.json", "tokenizer.json", "text.npz"
LARGEST = 1_900_000_000  # bytes of weights within a file: protobuf takes no more than 2 GiB
TOLERANCE = 1e-4  # of an embedding's numbers, between torch and onnxruntime
SENTENCES = (
    "There is a small LEFT pleural effusion.",
    "No pneumothorax; heart size 12.5 cm (normal)!",
    "oedema " * 400,
)


def export_onnx(
    model: str,
    to: Path,
    *,
    prompts: Mapping[str, Wording] | None = None,
    branch: Branch = "both",
    license: str = "other",
    images_only: bool = False,
    int8: Path | None = None,
) -> None:
    """``imitate export --format onnx``. The classifier is of ``prompts``, else of the classes of the calibration.

    With ``images_only`` the classes keep their prompts and vectors, and no text can be read. ``int8`` is a prepared
    folder: the image side is quantised on its training images, and its validation images say what that changes.
    """
    check_installed()
    check_place(to)
    path = local_folder(model)
    named = model if model.startswith(HUB) else None  # else by its last part, not by a path of this machine
    encoder = (None if is_ours(path) else load_peer(path, name=named)) or load_folder(path, name=named)
    assert isinstance(encoder, Encoder)
    calibration = calibration_of(encoder, path)
    calibration = in_8_bits(calibration) if calibration and int8 else calibration
    predictor = Predictor(encoder.to("cpu"), calibration=calibration)
    scorer = _scorer(predictor, prompts, branch)
    data = None if int8 is None else open_images(encoder, int8)
    fixed = scorer if prompts is not None or predictor.calibration else None
    with whole(to) as part:
        record = _facts(encoder, license) | {"branch": branch}
        graph = _write_images(encoder, part, record, data)
        if fixed is not None:
            record["classifier"] = _write_classifier(graph, part, record, fixed, branch)
        record |= {"text": None if images_only else _write_text(encoder, part, record)}
        known = predictor.calibration
        record |= {"classes": _classes(encoder, scorer), "calibration": known and known.model_dump(mode="json")}
        record["files"] = {each.name: sha256(each) for each in sorted(part.iterdir())}
        record["digest"] = record_digest(record)
        (part / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        facts = {**record, "name": to.resolve().name}
        words = onnx_card(facts, images=_about(record)["images"], vocabulary=VOCABULARY in record["files"])
        (part / CARD).write_text(words, encoding="utf-8")
    if data is not None and known is not None:
        log.warning("the calibration was fitted to float32 scores: with --int8, its probabilities are approximate")
    if fixed is None:
        log.info("no classifier.onnx: it needs --prompts or a calibrated model")
    log.info("wrote %s: %s", to, ", ".join([*record["files"], RECORD, CARD]))


def check_installed() -> None:
    """UserError: the exporter, or the runtime that checks what it writes, is absent."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--format onnx needs packages that are not installed: pip install 'imitate-cxr[onnx]'"
        ) from error


def _scorer(predictor: Predictor, prompts: Mapping[str, Wording] | None, branch: Branch) -> Scorer | None:
    """None of an encoder without text, and of one that knows the words of no built-in class."""
    if predictor.encoder.text is None or not predictor.encoder.has_text:
        if prompts is not None:
            raise UserError(f"{predictor.encoder.lacks}: it cannot encode --prompts: export it without them")
        return None
    try:
        return predictor.scorer(prompts, branch=branch)
    except UserError:
        if prompts is not None or predictor.calibration is not None:
            raise
        return None


def _facts(encoder: Encoder, license: str) -> dict[str, Any]:
    wanted = encoder.preprocessing
    packages = ("imitate-cxr", "torch", "onnx", "onnxscript", "onnxruntime")
    return {
        "format_version": FORMAT_VERSION,
        "name": encoder.name,
        "notice": graphs.NOTICE,
        "license": license,
        "backbone": encoder.backbone,
        "preprocessing": wanted.model_dump(mode="json"),
        "temperature": encoder.temperature,
        "identity": encoder.identity,
        "weights": encoder.digest(),
        "preprocessing_digest": preprocessing_digest(encoder),
        "sections": graphs.compared(encoder),
        "whole_reports": encoder.whole_reports,
        "versions": {name: version(name) for name in packages},
    }


def _write_images(encoder: Encoder, part: Path, record: dict[str, Any], data: Corpus | None) -> graphs.Graph:
    """With ``data`` of 8 bits, after the float32 graph has been compared with torch."""
    graph, path = graphs.image_graph(encoder), part / "image.onnx"
    about = {"kind": "image", **_about(record), "sections": record["sections"]}
    graphs.note(graph, about)
    save(graph, path)
    compare_images(encoder, path)
    record["precision"] = "float32"
    if data is None:
        return graph
    if path.with_name(f"{path.name}.data").exists():
        raise UserError(f"{encoder.backbone} has more than 2 GB of weights, too large for --int8: export it without")
    small, whole = quantised(graph, encoder, data), session(path)
    path.unlink()
    found = {"images_of": data.name, "fingerprint": data.fingerprint}
    graphs.note(small, {**about, "precision": "int8"})
    save(small, path)
    record |= {"precision": "int8", "int8": found | loss(whole, session(path), encoder, data)}
    said = "int8 compared with float32 on %d validation images: mean cosine %.4f, lowest %.4f"
    log.info(said, *(record["int8"][key] for key in ("images", "cosine", "least_cosine")))
    return small


def _about(record: Mapping[str, Any]) -> dict[str, Any]:
    about = {key: record[key] for key in ("name", "notice", "license", "identity", "preprocessing")}
    return about | {"images": described(Preprocessing(**record["preprocessing"]))}


def _write_classifier(
    graph: graphs.Graph, part: Path, record: Mapping[str, Any], fixed: Scorer, branch: Branch
) -> dict[str, Any]:
    classifier = graphs.classifier_graph(graph, record["sections"], branch, fixed)
    prompts = {name: each.model_dump() for name, each in fixed.prompts.items()}
    found = {"classes": [*prompts], "decided": [*graphs.thresholds_of(fixed)], "calibration": fixed.about}
    about = {"kind": "classifier", **_about(record), "precision": record["precision"], "branch": branch}
    graphs.note(classifier, about | {"prompts": prompts} | found)
    save(classifier, part / "classifier.onnx")
    return {"file": "classifier.onnx", "branch": branch} | found


def save(graph: Any, path: Path) -> None:
    """With the weights in a file beside it where protobuf could not hold them, and checked."""
    import onnx

    size = sum(len(each.raw_data) for each in graph.graph.initializer)
    beside: dict[str, Any] = {}
    if size > LARGEST:
        beside = {"save_as_external_data": True, "location": f"{path.name}.data"}
    onnx.save_model(graph, str(path), **beside)
    onnx.checker.check_model(str(path), full_check=True)


def session(path: Path, threads: int = 0) -> Any:
    """On the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@torch.inference_mode()
def compare_images(encoder: Encoder, path: Path) -> None:
    """UserError: onnxruntime does not give what torch gives."""
    run, wanted = session(path), encoder.preprocessing
    side = graphs.ImageSide(encoder)
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 3):
        pixels = torch.randn(batch, wanted.channels, *2 * (wanted.image_size,), generator=generator)
        found = run.run(list(graphs.IMAGE), {"pixels": pixels.numpy()})
        _check_near(side(pixels), found, encoder.backbone)


@torch.inference_mode()
def _compare_texts(encoder: ImitateEncoder, text: HuggingFaceTextEncoder, path: Path, tokenizer: Path) -> None:
    import tokenizers

    run, reads = session(path), tokenizers.Tokenizer.from_file(str(tokenizer))
    for texts in (SENTENCES[:1], SENTENCES):
        ids, mask = (each.numpy() for each in text.pieces(list(texts)))
        pieces = reads.encode_batch(list(texts))
        inputs = {"input_ids": np.array([each.ids for each in pieces]),
                  "attention_mask": np.array([each.attention_mask for each in pieces])}  # fmt: skip
        if not (np.array_equal(inputs["input_ids"], ids) and np.array_equal(inputs["attention_mask"], mask)):
            raise UserError(f"the tokenizer of {text.name} cannot be exported: its word pieces differ")
        wanted = encoder.embed_texts(list(texts))
        assert wanted is not None
        _check_near((wanted, wanted), run.run(list(graphs.IMAGE), inputs), text.name)


def _check_near(wanted: tuple[torch.Tensor, ...], found: list[np.ndarray], what: str) -> None:
    apart = max(float(np.abs(one.numpy() - other).max()) for one, other in zip(wanted, found, strict=True))
    if not apart < TOLERANCE:
        raise UserError(f"{what} cannot be exported to ONNX: onnxruntime differs from torch by {apart:.2g}")


def _write_text(encoder: Encoder, part: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of an encoder of ours; that of another group is excluded."""
    text = encoder.text
    if text is None or not encoder.has_text:
        return None
    if not isinstance(encoder, ImitateEncoder):
        log.warning(
            "the text encoder of %s is not exported: the folder classifies only by its own classes", encoder.name
        )
        return None
    assert isinstance(text, LsaTextEncoder | HuggingFaceTextEncoder)
    if isinstance(text, Fitted):
        words = text.vocabulary
        (part / VOCABULARY).write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        log.warning("%s lists words of the training reports: read it before you share it", VOCABULARY)
    found = {"kind": text.record["kind"], "name": text.name, "identity": text.identity}
    found |= {"statistics": encoder.model.config.text_statistics}
    if isinstance(text, LsaTextEncoder):
        (first, first_bias), (last, last_bias) = encoder.model.text_head.affine()
        head = {"weight_1": first, "bias_1": first_bias, "weight_2": last, "bias_2": last_bias}
        arrays: Any = {**text.arrays, **{name: each.numpy() for name, each in head.items()}}
        np.savez(part / ARRAYS, **arrays)
        return found | {"file": ARRAYS, "vocabulary": VOCABULARY}
    graph = graphs.text_graph(encoder, text)
    about = {key: record[key] for key in ("name", "notice", "license", "identity")}
    graphs.note(graph, {"kind": "text"} | about | {"tokenizer": TOKENIZER, "longest": text.longest})
    save(graph, part / "text.onnx")
    text.save_rules(part / TOKENIZER)
    _compare_texts(encoder, text, part / "text.onnx", part / TOKENIZER)
    fitted = {"vocabulary": VOCABULARY} if isinstance(text, Fitted) else {}
    return found | {"file": "text.onnx", "tokenizer": TOKENIZER, "longest": text.longest} | fitted


def _classes(encoder: Encoder, scorer: Scorer | None) -> dict[str, Any]:
    """The prompts of each class and the unit vector of either side."""
    if scorer is None:
        return {}

    def vector(texts: tuple[str, ...]) -> list[float]:
        found: list[float] = middle(embed_texts(encoder, list(texts), "cpu")).tolist()
        return found

    return {
        name: {**each.model_dump(), "vectors": {"positive": vector(each.positive), "negative": vector(each.negative)}}
        for name, each in scorer.prompts.items()
    }
