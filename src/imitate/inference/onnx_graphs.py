"""ONNX graphs of a model: its images, its texts, and a zero-shot classifier of fixed prompts."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imitate.errors import UserError
from imitate.inference.base import BRANCHES
from imitate.inference.encoder import Encoder, ImitateEncoder
from imitate.inference.predictor import Scorer
from imitate.models.hub import hushed
from imitate.models.hugging_face import HuggingFaceTextEncoder
from imitate.names import Branch

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13 (December 2022): what current versions of all common runtimes read
IMAGE = ("high", "multi")  # the outputs: of the deepest level, compared with impressions, and of all levels
NOTICE = "For research use only, not a medical device."
Graph = Any  # onnx.ModelProto, which has no types


class ImageSide(nn.Module):
    """Unit vectors of both branches; twice the same of an encoder that has one."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.weights = encoder._module
        self._encoder = [encoder]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        (encoder,) = self._encoder
        if not isinstance(encoder, ImitateEncoder):
            vectors = F.normalize(encoder.look(pixels)[0]["image"])
            return vectors, vectors.clone()
        seen = encoder.model.encode_image(pixels)
        return F.normalize(seen.impression), F.normalize(seen.findings)


class TextSide(nn.Module):
    """From word pieces to unit vectors; both branches compare images with the same."""

    def __init__(self, encoder: ImitateEncoder, text: HuggingFaceTextEncoder) -> None:
        super().__init__()
        self.network, self.model = text.network, encoder.model
        self._text = [text]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        vectors = F.normalize(self.model.encode_text(self._text[0].vectors(input_ids, attention_mask)))
        return vectors, vectors.clone()


def compared(encoder: Encoder) -> dict[str, str]:
    """The output of the image graph that is to be compared with each section, or as ``image`` with both."""
    if not isinstance(encoder, ImitateEncoder):
        return {"image": IMAGE[0]}
    multi, high = torch.zeros(1, 1), torch.zeros(1, 1)
    return {name: IMAGE[found is multi] for name, found in encoder.sections(multi, high).items()}


def image_graph(encoder: Encoder) -> Graph:
    """``pixels``, normalised, of any batch to IMAGE. UserError: it cannot be exported."""
    wanted = encoder.preprocessing
    pixels = torch.randn(2, wanted.channels, wanted.image_size, wanted.image_size)
    return exported(ImageSide(encoder), {"pixels": pixels}, {"pixels": ("batch",)}, IMAGE, what=encoder.backbone)


def text_graph(encoder: ImitateEncoder, text: HuggingFaceTextEncoder) -> Graph:
    """``input_ids`` and ``attention_mask``, padded on the right, of any batch and length to IMAGE's counterparts."""
    ids, mask = text.pieces(["no pleural effusion or pneumothorax", "the heart is enlarged"])
    axes = dict.fromkeys(("input_ids", "attention_mask"), ("batch", "pieces"))
    return exported(TextSide(encoder, text), {"input_ids": ids, "attention_mask": mask}, axes, IMAGE, what=text.name)


def exported(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, Sequence[str]],
    outputs: Sequence[str],
    *,
    what: str,
) -> Graph:
    """``axes`` names the first axes of each input, which may have any length."""
    dims = {name: torch.export.Dim(name) for names in axes.values() for name in names}
    shapes = tuple({axis: dims[each] for axis, each in enumerate(axes[name])} for name in inputs)
    try:
        with torch.inference_mode(False), torch.no_grad(), silent():
            program = torch.onnx.export(
                module.cpu().eval(), tuple(inputs.values()), dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
                input_names=list(inputs), output_names=list(outputs), verbose=False,
            )  # fmt: skip
    except MemoryError:
        raise
    except Exception as error:  # whatever the exporter makes of a network that it does not know
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{what} cannot be exported to ONNX ({first}): keep it in PyTorch, --format safetensors"
        ) from error
    assert program is not None
    graph = program.model_proto
    _strip(graph)
    if graph.opset_import[0].version != OPSET:
        raise UserError(f"{what} cannot be exported to ONNX: it needs an opset other than {OPSET}")
    for each in graph.graph.input:
        fixed = [
            name for name, dim in zip(axes[each.name], each.type.tensor_type.shape.dim, strict=False) if dim.dim_value
        ]
        if fixed:
            raise UserError(f"{what} cannot be exported to ONNX: its {fixed[0]} size would be fixed")
    return graph


@contextmanager
def silent() -> Any:
    """Without what torch.export and the exporter print and warn of while they try."""
    noisy = hushed("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    with noisy, warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield


def _strip(graph: Graph) -> None:
    """Names of files and lines of this machine, which the exporter notes at every node."""
    graph.ir_version = IR_VERSION
    graph.producer_name, graph.producer_version = "imitate", ""
    body = graph.graph
    body.name = "imitate"
    for each in (graph, body, *body.node, *body.value_info, *body.initializer, *body.input, *body.output):
        del each.metadata_props[:]
        each.doc_string = ""
    del body.value_info[:]  # which the runtimes infer themselves


def classifier_graph(image: Graph, sections: Mapping[str, str], branch: Branch, scorer: Scorer) -> Graph:
    """``pixels`` to ``scores``, ``probabilities`` and, of the classes with a threshold, ``decisions``.

    Columns are classes in the order of the scorer's prompts. The image graph is not changed.
    """
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    graph = ModelProto()
    graph.CopyFrom(image)
    body = graph.graph
    arrays: dict[str, np.ndarray] = {}

    def add(kind: str, inputs: Sequence[str], output: str, **options: Any) -> str:
        body.node.append(helper.make_node(kind, list(inputs), [output], name=f"classifier_{output}", **options))
        return output

    used = [sections[each] if each in sections else sections["image"] for each in BRANCHES[branch]]
    parts = np.split(scorer.differences.astype(np.float64), len(used), axis=1)
    weights: dict[str, np.ndarray] = {}
    for name, part in zip(used, parts, strict=True):
        weights[name] = weights.get(name, 0) + part.T / len(used) ** 0.5
    for name, weight in weights.items():
        arrays[f"classes_{name}"] = weight.astype(np.float32)
        add("MatMul", (name, f"classes_{name}"), f"scores_{name}" if len(weights) > 1 else "scores")
    if len(weights) > 1:
        add("Add", [f"scores_{name}" for name in weights], "scores")
    _probabilities(scorer, arrays, add)
    outputs = [
        ("scores", TensorProto.FLOAT, len(scorer.prompts)),
        ("probabilities", TensorProto.FLOAT, len(scorer.prompts)),
    ]
    if thresholds := thresholds_of(scorer):
        columns = [[*scorer.prompts].index(name) for name in thresholds]
        arrays |= {
            "decided": np.array(columns),
            "thresholds": np.array([reached(each) for each in thresholds.values()]),
        }
        add("Gather", ("scores", "decided"), "scores_decided", axis=1)
        add("GreaterOrEqual", ("scores_decided", "thresholds"), "decisions")
        outputs.append(("decisions", TensorProto.BOOL, len(columns)))
    body.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    del body.output[:]
    body.output.extend(helper.make_tensor_value_info(name, kind, ("batch", width)) for name, kind, width in outputs)
    return _without_unused(graph)


def _without_unused(graph: Graph) -> Graph:
    """Less the branch that is not asked."""
    body = graph.graph
    needed = {each.name for each in body.output}
    kept = []
    for node in reversed(body.node):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    arrays = [each for each in body.initializer if each.name in needed]
    for field, values in ((body.node, kept[::-1]), (body.initializer, arrays)):
        copies = [type(each).FromString(each.SerializeToString()) for each in values]
        del field[:]
        field.extend(copies)
    return graph


def _probabilities(scorer: Scorer, arrays: dict[str, np.ndarray], add: Callable[..., str]) -> None:
    """The logistic function of a straight line in the score, and lines between points for isotonic classes."""
    known = scorer.calibration
    fitted = [known.classes[name] if known and known.calibrated(name) else None for name in scorer.prompts]
    lines = [(each.slope, each.intercept) if each else (1 / scorer.temperature, 0.0) for each in fitted]
    arrays["slope"], arrays["intercept"] = np.array(lines, np.float32).T.copy()
    points = [(each.scores, each.values) if each and each.scores else None for each in fitted]
    stepped = any(points)
    add("Mul", ("scores", "slope"), "scaled")
    add("Add", ("scaled", "intercept"), "logits")
    add("Sigmoid", ("logits",), "logistic" if stepped else "probabilities")
    if not stepped:
        return
    most = max(max(len(each[0]) for each in points if each), 2) - 1
    starts, spans, rises = np.zeros((3, len(points), most))
    spans += 1
    for row, each in enumerate(points):
        if each:
            x, y = map(np.array, each)
            starts[row, : len(x) - 1], spans[row, : len(x) - 1], rises[row, : len(x) - 1] = (
                x[:-1],
                np.diff(x),
                np.diff(y),
            )
    arrays |= {
        name: array.astype(np.float32) for name, array in (("starts", starts), ("spans", spans), ("rises", rises))
    }
    arrays["first"] = np.array([each[1][0] if each else 0 for each in points], np.float32)
    arrays["is_isotonic"] = np.array([bool(each) for each in points])
    arrays |= {"zero": np.float32(0), "one": np.float32(1), "last_axis": np.array([2])}  # type: ignore[dict-item]
    add("Unsqueeze", ("scores", "last_axis"), "score_of_lines")
    add("Sub", ("score_of_lines", "starts"), "beyond_start")
    add("Div", ("beyond_start", "spans"), "along")
    add("Clip", ("along", "zero", "one"), "within")
    add("Mul", ("within", "rises"), "risen")
    add("ReduceSum", ("risen", "last_axis"), "rise", keepdims=0)
    add("Add", ("rise", "first"), "isotonic")
    add("Where", ("is_isotonic", "isotonic", "logistic"), "probabilities")


def thresholds_of(scorer: Scorer) -> dict[str, float]:
    """Of the scores of the classes that have one."""
    known = scorer.calibration
    found = {name: known.threshold(name) for name in scorer.prompts} if known else {}
    return {name: each for name, each in found.items() if each is not None}


def reached(threshold: float) -> np.float32:
    """The least float32 that is not below the threshold, so that both decide the same of every float32 score."""
    near = np.float32(threshold)
    return near if float(near) >= threshold else np.nextafter(near, np.float32(np.inf))


def note(graph: Graph, values: Mapping[str, Any]) -> None:
    """Into the metadata, in JSON what is no string."""
    del graph.metadata_props[:]
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        graph.metadata_props.add(key=key, value=text)
