"""Stochastic depth: ResNets that train a random subset of their blocks per mini-batch
and use all of them afterwards.

G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Q. Weinberger. Deep Networks with Stochastic
Depth. ECCV 2016, arXiv:1603.09382. Method: section 3, equations 2 to 5; networks and
results: section 4, Table 1; decay rules: section 5, Figure 8.

Block l of L survives with probability p_l = 1 - l / L (1 - p_L), p_L = 0.5 (eq. 4): one
coin per block and mini-batch. In training a surviving block is not rescaled, a dropped
one is not computed at all, forwards or backwards, and its batch norms do not see the
batch; the ReLU after the addition stays. In evaluation each block's residual is
multiplied by p_l (eq. 5).

Coins come from torch's CPU generator, whatever the network's device:
`torch.manual_seed` makes them reproducible.

Readings
- CIFAR-10 and SVHN nets are ResNet's with option A; where dimensions change the
  shortcut is averaged 2x2 instead of subsampled, as in the authors' code. At odd sizes
  the pool rounds up, as the convolution beside it does.
- resnet152_sd is ResNet-152 as fb.resnet.torch has it, the stride in the 3x3; its
  projections are never dropped.
- Initialisation: He with fan-in, biases 0, as in the authors' code.

Departures
- Convolutions have no bias; the authors' have one each, which the batch norm after it
  takes out again.
- Inputs are RGB in [0, 1], normalised per channel: with CIFAR-10's (also for SVHN) or
  ImageNet's mean and standard deviation.
- torch's optimisers leave a dropped block as it is in that step; the authors' code goes
  on applying its momentum and weight decay.
"""

from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.figures import CIFAR10_TEST, IMAGENET_VAL, error_rates, residual_outputs
from zoo.interfaces.classifier import Classifier
from zoo.layers.neck import global_pool
from zoo.layers.residual import (
    BasicBlock,
    Bottleneck,
    PadShortcut,
    add_stages,
    add_stem,
    init_he_,
    make_shortcut,
)
from zoo.layers.tracing import as_one_node, is_symbolic, refuse_recording
from zoo.spec import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    Claims,
    Family,
    ImageInput,
    Paper,
    PrintedFigure,
    Result,
    Variant,
)


def coin(probability: float) -> bool:
    """True with this probability; drawn on the CPU under any default device."""
    return torch.rand((), device="cpu").item() < probability


class Stochastic(nn.Module):
    """Makes a residual block survive a mini-batch with probability `survival` (eq. 2),
    and count as much afterwards (eq. 5).
    """

    residual: Any  # this and the next two are the block's
    downsample: Any
    relu: Any
    survival = 1.0
    dropping = True

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            # A product of its own: FX quantisation leaves out the alpha of torch.add.
            return self.relu(self.downsample(x) + self.survival * self.residual(x))
        if not self.dropping:
            return self.relu(self.residual(x) + self.downsample(x))
        if is_symbolic(x):
            return as_one_node(self, x)
        refuse_recording("the blocks that are dropped")
        if coin(self.survival):
            return self.relu(self.residual(x) + self.downsample(x))
        if isinstance(self.downsample, nn.Identity):
            return x  # the output of a ReLU
        return self.relu(self.downsample(x))

    def disable_drop_path(self) -> None:
        """From now on compute every block in training; evaluation stays as it is."""
        self.dropping = False

    def keep_probabilities(self) -> dict[str, float]:
        """How often each layer of the residual runs in training."""
        layers = [name for name, _ in self.named_children() if name not in ("downsample", "relu")]
        return dict.fromkeys(layers, self.survival if self.dropping else 1.0)

    def extra_repr(self) -> str:
        return f"survival={self.survival:.4f}"


class StochasticBasicBlock(Stochastic, BasicBlock):
    pass


class StochasticBottleneck(Stochastic, Bottleneck):
    pass


class StochasticDepth(Classifier):
    """ResNet with stochastic depth. `blocks`: per stage. Input (N, in_chans, H, W) of
    any size.

    `survival`: p_L of the last block; `decay`: "linear" (eq. 4) or "uniform", p_L for
    all blocks. `bottleneck`: which block. `stem`: "imagenet" (projections, option B) or
    "cifar" (option A after 2x2 means). Raises InputError for a `survival` not in (0,
    1].
    """

    skips_parameters = True

    def __init__(
        self,
        blocks: tuple[int, ...],
        survival: float = 0.5,
        decay: str = "linear",
        bottleneck: bool = False,
        stem: str = "cifar",
        num_classes: int = 10,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes, in_chans)
        check_choice("StochasticDepth", "decay", decay, ("linear", "uniform"))
        if not 0 < survival <= 1:
            raise InputError(f"survival={survival}: a probability in (0, 1] is needed")
        imagenet = stem == "imagenet"

        def skip(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            if imagenet or stride == 1:
                return make_shortcut("B" if imagenet else "A", in_chans, out_chans, stride)
            mean = nn.AvgPool2d(stride, ceil_mode=True)  # (N, in_chans, H / 2, W / 2)
            pad = PadShortcut(1, 0, out_chans - in_chans)  # (N, out_chans, H / 2, W / 2)
            return nn.Sequential(mean, pad)

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            downsample = skip(in_chans, out_chans, stride)
            if bottleneck:
                inner = out_chans // 4
                return StochasticBottleneck(
                    in_chans, inner, out_chans, stride, downsample=downsample
                )
            return StochasticBasicBlock(in_chans, out_chans, stride, downsample)

        width = 64 if imagenet else 16
        first = 4 * width if bottleneck else width  # channels of the first stage
        add_stem(self, stem, width)  # (N, width, H / 2, W / 2), CIFAR: (N, width, H, W)
        self.head_hidden_size = add_stages(self, stem, blocks, first, block=block)
        probabilities = survivals(sum(blocks), survival, decay)
        for module, probability in zip(stochastic(self), probabilities, strict=True):
            module.survival = probability
        self.neck = global_pool()  # (N, head_hidden_size)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module, "in")


def survivals(count: int, last: float, decay: str = "linear") -> list[float]:
    """p_1 to p_L of L = `count` blocks."""
    if decay == "uniform":
        return [last] * count
    return [1 - l / count * (1 - last) for l in range(1, count + 1)]


def stochastic(model: nn.Module) -> list[Stochastic]:
    """The blocks that may be dropped, in order."""
    return [module for module in model.modules() if isinstance(module, Stochastic)]


def expected_blocks(model: nn.Module) -> float:
    """How many blocks survive on average."""
    return sum(module.survival for module in stochastic(model))


def row(
    *,
    blocks: tuple[int, ...],
    imagenet: bool = False,
    params: int,
    macs: int,
    results: tuple[Result, ...],
) -> Variant:
    """A net for 32x32 images, or a bottleneck net for ImageNet, with its errors."""
    depth = (3 if imagenet else 2) * sum(blocks) + 2
    stem = "imagenet" if imagenet else "cifar"
    small = ImageInput((3, 32, 32), mean=CIFAR10_MEAN, std=CIFAR10_STD)
    printed = (
        PrintedFigure("depth", depth, "section 4"),
        *residual_outputs("ResNet paper", stem, channels=256 if imagenet else 16),
        PrintedFigure(
            "expected blocks",
            (3 * sum(blocks) - 1) / 4,
            "section 3",
            resolution=0.01,
            compute=expected_blocks,
        ),
    )
    return Variant(
        model_args={
            "blocks": blocks,
            "bottleneck": imagenet,
            "stem": stem,
            "num_classes": 1000 if imagenet else 10,
        },
        claims=Claims(params, macs, printed),
        depth=depth,
        inputs=(ImageInput() if imagenet else small,),
        results=results,
        tiny={"blocks": (2, 1, 1, 1) if imagenet else (2, 1, 1)},
    )


EPOCH = "single network at the epoch of its lowest validation error"


def error(
    value: float, source: str, *, protocol: str = EPOCH, data: str = CIFAR10_TEST
) -> tuple[Result, ...]:
    """A top-1 error."""
    return error_rates(top1=value, data=data, protocol=protocol, source=source)


# fmt: off
FAMILY = Family(
    paper=Paper(
        title="Deep Networks with Stochastic Depth",
        authors="G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Q. Weinberger",
        year=2016,
        venue="ECCV",
        arxiv="1603.09382",
        doi="10.1007/978-3-319-46493-0_39",
    ),
    build=StochasticDepth,
    variants={
        # blocks; exact counts; errors in %
        "resnet110_sd_cifar10": row(
            blocks=(18, 18, 18), params=1_727_962, macs=252_887_680,
            results=(*error(5.25, "Table 1"), *error(11.66, "section 4", protocol=f"{EPOCH}, no augmentation")),
        ),
        "resnet152_sd_svhn": row(
            blocks=(25, 25, 25), params=2_408_474, macs=351_978_112, results=error(1.75, "Table 1", data="SVHN test"),
        ),
        "resnet1202_sd_cifar10": row(
            blocks=(200, 200, 200), params=19_421_274, macs=2_829_238_912, results=error(4.91, "section 4"),
        ),
        "resnet152_sd": row(
            blocks=(3, 8, 36, 3), imagenet=True, params=60_192_808, macs=11_513_626_624,
            results=(
                *error(21.98, "Table 1", protocol="single network, 120 epochs", data=IMAGENET_VAL),
                *error(23.38, "Figure 6", protocol="single network, 90 epochs", data=IMAGENET_VAL),
            ),
        ),
    },
)
