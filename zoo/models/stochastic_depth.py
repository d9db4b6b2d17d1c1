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
from zoo.layers.classifier import Classifier
from zoo.layers.residual import (
    BasicBlock,
    Bottleneck,
    PadShortcut,
    add_stages,
    add_stem,
    init_he_,
    make_shortcut,
    pooling,
)
from zoo.spec import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Claims,
    Family,
    Paper,
    Printed,
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
        shortcut = self.downsample(x)
        if not self.training:
            return self.relu(torch.add(shortcut, self.residual(x), alpha=self.survival))
        if not self.dropping or coin(self.survival):
            return self.relu(self.residual(x) + shortcut)
        return x if shortcut is x else self.relu(shortcut)  # x is the output of a ReLU

    def dropless(self) -> None:
        """From now on compute every block in training; evaluation stays as it is."""
        self.dropping = False

    def expected_shares(self) -> dict[str, float]:
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
            return nn.Sequential(
                mean, PadShortcut(1, 0, out_chans - in_chans)
            )  # (N, out_chans, H / 2, W / 2)

        def block(in_chans: int, out_chans: int, stride: int) -> nn.Module:
            downsample = skip(in_chans, out_chans, stride)
            if bottleneck:
                return StochasticBottleneck(in_chans, out_chans // 4, out_chans, stride, downsample)
            return StochasticBasicBlock(in_chans, out_chans, stride, downsample)

        width = 64 if imagenet else 16
        add_stem(self, stem, width)  # (N, width, H / 2, W / 2), CIFAR: (N, width, H, W)
        self.num_features = add_stages(
            self, stem, blocks, 4 * width if bottleneck else width, block
        )
        for module, probability in zip(
            stochastic(self), survivals(sum(blocks), survival, decay), strict=True
        ):
            module.survival = probability
        self.neck = pooling()  # (N, num_features)
        self.head = self.make_head(num_classes)  # (N, num_classes)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        init_he_(module, "in")


def survivals(count: int, last: float, decay: str = "linear") -> list[float]:
    """p_1 to p_L of L = `count` blocks."""
    return [1 - l / count * (1 - last) if decay == "linear" else last for l in range(1, count + 1)]


def stochastic(model: nn.Module) -> list[Stochastic]:
    """The blocks that may be dropped, in order."""
    return [module for module in model.modules() if isinstance(module, Stochastic)]


def expected_blocks(model: nn.Module) -> float:
    """How many blocks survive on average."""
    return sum(module.survival for module in stochastic(model))


def row(blocks, params, macs, data, errors, **fields) -> Variant:  # type: ignore[no-untyped-def]
    """A net with its errors (protocol, error, where)."""
    imagenet = fields.get("stem") == "imagenet"
    names, maps, size = (("conv{}_x", 256, 56), ("stage{}", 16, 32))[not imagenet]
    outputs = [
        (names.format(i + 1 + imagenet), (maps << i, size >> i, size >> i))
        for i in range(len(blocks))
    ]
    depth = (3 if imagenet else 2) * sum(blocks) + 2
    printed = [
        Printed("output", output, "ResNet paper", module=f"features.{stage}")
        for stage, output in outputs
    ]
    printed += [
        Printed(
            "expected blocks", (3 * sum(blocks) - 1) / 4, "section 3", unit=0.01, by=expected_blocks
        )
    ]
    return Variant(
        fields={"blocks": blocks, **fields},
        claims=Claims(params, macs, (Printed("depth", depth, "section 4"), *printed)),
        depth=depth,
        input_size=(3, 224, 224) if imagenet else (3, 32, 32),
        mean=IMAGENET_MEAN if imagenet else CIFAR10_MEAN,
        std=IMAGENET_STD if imagenet else CIFAR10_STD,
        results=tuple(
            Result("top-1 error %", error, data, protocol, where)
            for protocol, error, where in errors
        ),
    )


EPOCH = "single network at the epoch of its lowest validation error"
IMAGENET = {"bottleneck": True, "stem": "imagenet", "num_classes": 1000}
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
        "resnet110_sd_cifar10": row(
            (18, 18, 18),
            1_727_962,
            252_887_680,
            "CIFAR-10 test",
            [(EPOCH, 5.25, "Table 1"), (f"{EPOCH}, no augmentation", 11.66, "section 4")],
        ),
        "resnet152_sd_svhn": row((25, 25, 25), 2_408_474, 351_978_112, "SVHN test", [(EPOCH, 1.75, "Table 1")]),
        "resnet1202_sd_cifar10": row((200, 200, 200), 19_421_274, 2_829_238_912, "CIFAR-10 test", [(EPOCH, 4.91, "section 4")]),
        "resnet152_sd": row(
            (3, 8, 36, 3),
            60_192_808,
            11_513_626_624,
            "ILSVRC-2012 val",
            [("single network, 120 epochs", 21.98, "Table 1"), ("single network, 90 epochs", 23.38, "Figure 6")],
            **IMAGENET,
        ),
    },
)
