"""Where pools and strided convolutions look at the border of a map: as those of a peer
do. Their windows change neither a size nor a count, and an oracle that is written here
may share a network's mistake.

Networks whose oracle is the peer's whole network are not here.
"""

from collections import Counter

import pytest
import torch
from pytorchcv.model_provider import get_model
from torch.utils._python_dispatch import TorchDispatchMode

import zoo

SAME = {  # ours: pytorchcv's
    "alexnet": "alexnet",
    "caffenet": "alexnet",
    "zfnet": "zfnet",
    "squeezenet1_0": "squeezenet_v1_0",
    "inception_resnet_v1": "inceptionresnetv1",
    "resnet50": "resnet50",
    "preresnet50": "preresnet50",
    "bn_inception": "bninception",
}


class Windows(TorchDispatchMode):
    """What pools and strided convolutions do: kind, kernel, stride, padding before, and
    sizes of the map before and after, which say the padding behind.
    """

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        kind, window = func.overloadpacket.__name__, None
        if kind == "convolution" and max(args[3]) > 1:
            window = args[1].shape[2:], args[3], args[4]
        elif kind in ("max_pool2d_with_indices", "avg_pool2d"):
            window = args[1], args[2], args[3] if len(args) > 3 else (0, 0)
        result = out[0] if isinstance(out, tuple) else out
        if window and result.shape[2] > 1:  # not the last, global mean
            sizes = args[0].shape[2:], result.shape[2:]
            self.found[kind, *(tuple(each) for each in (*window, *sizes))] += 1
        return out


def windows(make, size):
    with torch.device("meta"), torch.no_grad():
        model = make().eval()
        with Windows() as log:
            model(torch.empty(1, 3, size, size))
    return log.found


@pytest.mark.parametrize(("name", "peer"), SAME.items())
def test_windows_are_a_peer_s(name, peer):
    size = zoo.info(name).variant.image.size[1]
    found = windows(lambda: zoo.create(name), size)
    assert found
    assert found == windows(lambda: get_model(peer), size)


def test_the_comparison_sees_the_padding():
    """Equal sizes, other windows."""
    x = torch.empty(1, 1, 14, 14, device="meta")
    logs = []
    for options in ({"padding": 1}, {"ceil_mode": True}):
        with Windows() as log:
            assert torch.nn.functional.max_pool2d(x, 3, 2, **options).shape[2] == 7
        logs.append(log.found)
    assert logs[0] != logs[1]
