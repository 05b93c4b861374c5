"""An image graph of 8 bits: weights and activations of its convolutions and linear layers, and what that changes."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.inference.onnx_graphs import IMAGE, IR_VERSION, OPSET
from imitate.inference.tones import warn_of_preparation

KINDS = ["Conv", "Add", "MaxPool", "Relu", "Gemm", "MatMul"]
FINE = ("aggregation", "_head.")  # weights that stay as they are: few, and they decide most
IMAGES, BATCH = 256, 16
Pixels = Float32[np.ndarray, "images channels side side"]


def open_images(encoder: Encoder, folder: Path) -> Corpus:
    """The prepared folder. UserError: it is not of the encoder's size, or has no training or validation images."""
    wanted = encoder.preprocessing
    data = Corpus.open(folder, size=wanted.prepared_size)
    warn_of_preparation(data, encoder.name, wanted)
    for split in ("train", "val"):
        data.rows(split)
    return data


def some_images(encoder: Encoder, data: Corpus, split: str) -> Iterator[Pixels]:
    """Batches of IMAGES of a split, the same ones each time, as the graph reads them."""
    rows = data.rows(split)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:IMAGES])
    for start in range(0, len(rows), BATCH):
        batch = torch.from_numpy(np.array(data.images[rows[start : start + BATCH]]))
        yield encoder.prepare(batch).numpy()


def quantised(graph: Any, encoder: Encoder, data: Corpus) -> Any:
    """The graph in QDQ form, scaled to the range that activations have on training images.

    Weights have 7 bits, a scale for each channel: with 8, sums of products would overflow on processors without VNNI.
    The aggregation and the heads keep 32 bits. UserError: it is too large, or the quantiser fails.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = some_images(encoder, data, "train")

        def get_next(self) -> dict[str, Pixels] | None:
            found = next(self.batches, None)
            return None if found is None else {"pixels": found}

    disabled = logging.root.manager.disable
    with tempfile.TemporaryDirectory() as folder:
        whole, fused, small = (Path(folder) / f"{name}.onnx" for name in ("whole", "fused", "small"))
        try:
            logging.disable(logging.WARNING)  # advice of the quantiser about its own steps
            onnx.save_model(graph, str(whole))
            quant_pre_process(str(whole), str(fused), skip_symbolic_shape=True)  # BatchNorm into convolutions
            quantize_static(
                str(fused), str(small), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=KINDS,
                nodes_to_exclude=_fine(onnx.load(str(fused))),
            )  # fmt: skip
            found = onnx.load(str(small))
        except UserError:
            raise
        except Exception as error:  # whatever the quantiser makes of a graph
            first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"{encoder.backbone} cannot be quantised ({first}): export it without --int8") from error
        finally:
            logging.disable(disabled)
    own = [each for each in found.opset_import if not each.domain]
    del found.opset_import[:]
    found.opset_import.extend(own)  # less those that the runtime knows and the graph does not use
    if [each.version for each in own] != [OPSET] or any(node.domain for node in found.graph.node):
        raise UserError(f"{encoder.backbone} cannot be quantised within opset {OPSET}: export it without --int8")
    found.ir_version, found.producer_name, found.producer_version = IR_VERSION, graph.producer_name, ""
    del found.graph.value_info[:]
    return found


def _fine(graph: Any) -> list[str]:
    """The nodes that keep 32 bits: those of the weights FINE, and products of two activations."""
    weights = {each.name for each in graph.graph.initializer}
    return [
        node.name
        for node in graph.graph.node
        if any(part in name for part in FINE for name in node.input)
        or (node.op_type in ("Gemm", "MatMul") and node.input[1] not in weights)
    ]


def loss(whole: Any, small: Any, encoder: Encoder, data: Corpus) -> dict[str, Any]:
    """Cosines between the vectors of both sessions for validation images."""
    cosines, count = [], 0
    for pixels in some_images(encoder, data, "val"):
        pairs = zip(*(each.run(list(IMAGE), {"pixels": pixels}) for each in (whole, small)), strict=True)
        cosines += [(one * other).sum(axis=1) for one, other in pairs]
        count += len(pixels)
    every = np.concatenate(cosines)
    return {"images": count, "cosine": float(every.mean()), "least_cosine": float(every.min())}
