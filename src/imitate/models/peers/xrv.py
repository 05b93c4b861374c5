"""torchxrayvision's DenseNet-121 and ResNet-50, of one channel from -1024 to 1024."""

from typing import Any

from imitate.models.peers.base import FEATURES, Family, Peer, prepared
from imitate.models.peers.images import Enter, densenet, resnet
from imitate.models.peers.state import State

VALUES: dict[str, Any] = {"range": (-1024.0, 1024.0), "mean": (0.0,), "std": (1.0,)}
WHERE = "github.com/mlmed/torchxrayvision, release v1"


def _densenet(state: State) -> Peer:
    image = densenet(state, "", Enter(224), unused=[r"classifier\..*", "op_threshs"])
    return Peer(image, prepared("middle-bilinear", 224, **VALUES))


def _resnet(state: State) -> Peer:
    image = resnet(state, "", Enter(512))
    return Peer(image, prepared("middle-bilinear", 512, **VALUES))


DENSENET = Family(
    name="xrv-densenet",
    title="torchxrayvision DenseNet",
    where=f"{WHERE}; import it",
    licence="Apache-2.0",
    gives=FEATURES,
    verified="torchvision",
    signs={
        "features.conv0.weight": (None, 1, 7, 7),
        "features.denseblock1.denselayer1.conv1.weight": (None, None, 1, 1),
        "features.norm5.weight": (None,),
    },
    build=_densenet,
    unused=(r"classifier\..*", "op_threshs"),
    particular=False,
    note="Resized on 8 bits, where the authors resize on real numbers.",
)
RESNET = Family(
    name="xrv-resnet",
    title="torchxrayvision ResNet",
    where=WHERE,
    licence="Apache-2.0",
    gives=FEATURES,
    verified="torchvision",
    signs={"conv1.weight": (64, 1, 7, 7), "fc.weight": (18, None), "layer1.0.conv1.weight": (None, None, 1, 1)},
    build=_resnet,
    unused=(r"fc\..*", "op_threshs"),
    particular=False,
    note="Resized on 8 bits, where the authors resize on real numbers.",
)
