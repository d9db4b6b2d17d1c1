"""How to train: the one declaration of all options. The command line, the TOML files in
recipes/ and the entry in config.json are made from its fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from zoo.errors import InputError, nearest
from zoo.optimizers import OPTIMIZERS, check_options, check_rates
from zoo.spec import image_shape
from zoo.training.option import check, option
from zoo.training.strategy import Strategy

SCHEDULES = {  # the options that each has
    "cosine": ("warmup",),
    "one-cycle": ("warmup", "cycle_momentum"),
    "step": ("warmup", "lr_milestones", "lr_every", "lr_factor"),
    "plateau": ("warmup", "lr_factor", "lr_patience"),
    "linear": ("warmup",),
    "constant": ("warmup",),
}
AUGMENTATIONS = (
    "auto", "photo", "inception", "crop", "crop-mirror", "alexnet", "vgg", "resnet", "cifar",
    "cifar-reflect", "small", "affine", "elastic", "none",
)  # fmt: skip
# what goes back to its default where another schedule or optimizer is chosen
OF_SCHEDULE = ("warmup", "lr_milestones", "lr_every", "lr_factor", "lr_patience", "cycle_momentum")
OF_OPTIMIZER = ("lr", "weight_decay", "momentum", "rms_decay", "eps", "cycle_momentum")


def _per_optimizer(attribute: str) -> str:
    shown = (f"{getattr(OPTIMIZERS[name], attribute):g} {name}" for name in ("adamw", "nesterov"))
    return f"the optimizer's: {', '.join(shown)}, …"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; None is a default that depends on the rest. Raises InputError for
    impossible values.
    """

    epochs: int = option(30, "Passes over the training data.", kind=int, least=1)
    batch_size: int | str = option(
        32, "Examples per step; auto: what fits.", kind=int, least=1, words=("auto",),
        metavar="N|auto",
    )  # fmt: skip
    optimizer: str = option(
        "adamw", "momentum and nesterov are SGD with momentum 0.9.", choices=tuple(OPTIMIZERS)
    )
    lr: float | None = option(
        None, "Highest learning rate; step: that of the start.", kind=float,
        default_words=_per_optimizer("lr"),
    )  # fmt: skip
    lr_decay: float | None = option(
        None, "Rate of a layer group over that of the next; the head has the highest.",
        kind=float, default_words="one rate for all",
    )  # fmt: skip
    weight_decay: float | None = option(
        None, "Of weights, not of biases and norms.", kind=float,
        default_words=_per_optimizer("weight_decay"),
    )  # fmt: skip
    momentum: float | None = option(
        None, "Of momentum, nesterov and rmsprop.", kind=float, between=(0, 1),
        default_words="0.9, rmsprop 0",
    )  # fmt: skip
    rms_decay: float | None = option(
        None, "Of rmsprop's mean of squared gradients.", kind=float, between=(0, 1),
        default_words="0.99",
    )  # fmt: skip
    eps: float | None = option(
        None, "Added to the divisor of adagrad, rmsprop, adam and adamw.", kind=float, above=0,
        default_words="the optimizer's: 1e-8, adagrad 1e-10",
    )  # fmt: skip
    schedule: str = option(
        "cosine",
        "Course of the learning rate; step: times lr_factor at lr_milestones or every lr_every "
        "epochs; plateau: where validation stalls; linear: down to 0.",
        choices=tuple(SCHEDULES),
    )
    warmup: float | None = option(
        None, "Part of the training in which the learning rate rises.", kind=float,
        between=(0, 1), default_words="0.1 cosine, 0.3 one-cycle, 0 the others",
    )  # fmt: skip
    lr_milestones: tuple[float, ...] | None = option(
        None, "Parts of the training after which the learning rate changes.", kind=float,
        many=True, between=(0, 1), metavar="0.5,0.75", default_words="none",
    )  # fmt: skip
    lr_every: int | None = option(
        None, "Epochs between two changes of the learning rate.", kind=int, least=1,
        default_words="none",
    )  # fmt: skip
    lr_factor: float | tuple[float, ...] | None = option(
        None, "The learning rate is multiplied by this; one number, or one per milestone.",
        kind=float, many=True, above=0, metavar="0.1", default_words="0.1",
    )  # fmt: skip
    lr_patience: int | None = option(
        None, "Epochs without a better validation after which a plateau is one.", kind=int,
        least=1, default_words="5",
    )  # fmt: skip
    cycle_momentum: bool = option(
        False, "one-cycle: momentum falls from 0.95 to 0.85 and rises again.", kind=bool
    )
    clip: float | None = option(
        None, "Largest norm of all gradients together.", kind=float, above=0, default_words="none"
    )
    clip_value: float | None = option(
        None, "Largest size of any number in the gradients.", kind=float, above=0,
        default_words="none",
    )  # fmt: skip
    accumulation: int = option(1, "Batches whose gradients make one step.", kind=int, least=1)
    ema: float | None = option(
        None, "Decay of the running average of the weights, which is what is evaluated and saved.",
        kind=float, above=0, between=(0, 1), default_words="none",
    )  # fmt: skip
    patience: int | None = option(
        None, "Epochs without a better validation after which training stops.", kind=int, least=1,
        default_words="none",
    )  # fmt: skip
    label_smoothing: float = option(
        0.0, "Part of a label that is spread over all classes.", kind=float, between=(0, 1)
    )
    mixup: float = option(
        0.0, "Blend pairs of images by a share from Beta(a, a); 0: none.", kind=float,
        between=(0, math.inf), metavar="A",
    )  # fmt: skip
    cutmix: float = option(
        0.0, "Paste a part of another image, its area from Beta(a, a); 0: none; with mixup: one "
        "of them by even chance.", kind=float, between=(0, math.inf), metavar="A",
    )  # fmt: skip
    strategy: str = option(
        "auto",
        "What is trained: a probe, a head on features of the frozen network; probe-stages, one "
        "per stage; last:N, the last N layer groups; full; auto: by the images per class and a "
        "quick probe, full from random weights.",
        metavar="auto|probe|probe-stages|last:N|full",
    )
    probe_first: bool = option(
        True, "Of trained weights: a new head is fitted before anything else is trained.",
        kind=bool,
    )  # fmt: skip
    head: str = option(
        "linear", "Of a probe: linear (softmax), svm, knn, mlp.",
        choices=("linear", "svm", "knn", "mlp"),
    )  # fmt: skip
    stage: str = option(
        "pre_logits", "Of a probe: a layer group, or several with + between them; input: pixels.",
        metavar="STAGE+STAGE",
    )  # fmt: skip
    mirrored: bool = option(
        False, "Of a probe: the mean over each image and its mirror image.", kind=bool
    )
    penalty: str = option(
        "l2", "Of a linear or svm head; its strength is chosen by cross-validation.",
        choices=("l2", "l1", "elastic"),
    )  # fmt: skip
    margin: float = option(1.0, "Of the svm head's hinge.", kind=float, above=0)
    squared_hinge: bool = option(False, "Of the svm head.", kind=bool)
    distance: str = option("l2", "Of the knn head.", choices=("l1", "l2", "cosine"))
    hidden: str = option("512", "Sizes of the mlp head's hidden layers.", metavar="512,256")
    minutes: float | None = option(
        None, "How long to train: as many epochs as fit, by the measured speed.", kind=float,
        above=0, default_words="as long as it takes",
    )  # fmt: skip
    aux: bool = option(
        False, "Build the network with the auxiliary heads of its paper, and train them.", kind=bool
    )
    val_fraction: float | None = option(
        None, "Part for validation, of data that bring none; of a text 0.05.", kind=float,
        default_words="0.2",
    )  # fmt: skip
    test_fraction: float | None = option(
        None, "Part to report on, of data that bring none; of a text 0.1.", kind=float,
        default_words="none",
    )  # fmt: skip
    length: int = option(
        50, "Of a text: characters of a window, as far as gradients go back.", kind=int, least=1
    )
    input_size: int | str | tuple[int, ...] | None = option(
        None, "Size of the images.", metavar="224|3x224x224", default_words="the network's own"
    )
    augment: str = option(
        "auto",
        "photo: random parts, mirrored; inception: the same with other colours; crop: of the "
        "enlarged image; crop-mirror; alexnet, vgg and resnet: crop-mirror, enlarged at random in "
        "the latter two, with a shift of colours; cifar: moved by up to 4 of 32 pixels, mirrored; "
        "cifar-reflect: its border reflected; small: shifted and turned, not mirrored; affine and "
        "elastic: distorted digits of LeNet-5 and Ciresan; auto: small up to 40 pixels, else "
        "photo.",
        choices=AUGMENTATIONS,
    )
    cache: str = option(
        "auto", "Hold the decoded images in memory; auto: in a quarter of what is free.",
        choices=("auto", "on", "off"),
    )  # fmt: skip
    workers: int | None = option(
        None, "Processes that read the data.", kind=int, least=0, default_words="by the cores"
    )
    check: bool = option(
        True,
        "Before the run: first loss, gradients, a few examples fitted, dead ReLUs; in at most a "
        "twentieth of its time.",
        kind=bool,
    )
    report: bool = option(
        True, "After the run: confusions, worst mistakes, scores per class, and a card.", kind=bool
    )
    cpu: bool = option(False, "Use no GPU.", kind=bool)
    mixed_precision: str | None = option(
        None, "Compute in a lower precision.", choices=("no", "bf16", "fp16"),
        default_words="accelerate's configuration",
    )  # fmt: skip
    channels_last: bool = option(
        False, "Compute convolutions in NHWC: faster on many machines.", kind=bool
    )
    tensorboard: bool = option(
        False, "Write the numbers of each epoch for TensorBoard too (the extra `log`).", kind=bool
    )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = plain(getattr(self, each.name))
            if isinstance(value, list):
                value = tuple(value)
            elif each.name == "lr_milestones" and isinstance(value, (int, float)):
                value = (value,)
            object.__setattr__(self, each.name, value)
            check(each.name, value, each.metadata["option"], each.default)
        check_rates(self.optimizer, self.lr, self.weight_decay, self.lr_decay)
        check_options(self.optimizer, self.optimizer_options())
        Strategy.parse(self.strategy)
        if self.optimizer == "lbfgs" and (self.mixup or self.cutmix):
            raise InputError("mixup and cutmix: lbfgs asks for the loss of a batch several times")
        self._check_schedule()
        if self.input_size is not None:
            image_shape(self.input_size)
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name}={value}: needs a number between 0 and 1")

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """The same with other values. Another optimizer or schedule brings its own
        defaults. Raises InputError for a key that it does not have.
        """
        known = [each.name for each in fields(self)]
        for key in changes:
            if key not in known:
                near = nearest(key, known) or f"; its options: {', '.join(known)}"
                raise InputError(f"a recipe has no option {key!r}{near}")
        base: dict[str, Any] = {}
        for key, belonging in (("optimizer", OF_OPTIMIZER), ("schedule", OF_SCHEDULE)):
            if changes.get(key, getattr(self, key)) != getattr(self, key):
                base |= {each.name: each.default for each in fields(self) if each.name in belonging}
        for key, other in (("lr_every", "lr_milestones"), ("lr_milestones", "lr_every")):
            if changes.get(key) is not None:
                base[other] = None
        return replace(self, **{**base, **changes})

    def optimizer_options(self) -> dict[str, float]:
        """What `make_optimizer` takes beside the rates, by torch's names."""
        found = {"momentum": self.momentum, "alpha": self.rms_decay, "eps": self.eps}
        return {name: value for name, value in found.items() if value is not None}

    def _check_schedule(self) -> None:
        """Raises InputError for options that the schedule does not have, lacks, or that
        contradict each other.
        """
        name, milestones, factor = self.schedule, self.lr_milestones, self.lr_factor
        for key in OF_SCHEDULE:
            value = getattr(self, key)
            if value not in (None, False) and key not in SCHEDULES[name]:
                raise InputError(f"{key}={value!r}: schedule={name!r} has none")
        if name == "step" and (milestones is None) == (self.lr_every is None):
            raise InputError("schedule='step': needs either lr_milestones or lr_every")
        if milestones is not None:
            rising = all(early < late for early, late in pairwise((0.0, *milestones)))
            if not (milestones and rising):
                raise InputError(
                    f"lr_milestones={milestones!r}: needs rising parts of the training above 0"
                )
        if isinstance(factor, tuple) and len(factor) != len(milestones or ()):
            raise InputError(f"lr_factor={factor!r}: needs one number, or one per milestone")
        if self.cycle_momentum and self.optimizer not in ("momentum", "nesterov"):
            raise InputError(f"cycle_momentum=True: {self.optimizer} has no momentum to cycle")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plain(value: Any) -> Any:
    """A number or tuple of Python for a scalar or array of numpy or torch; anything
    else as it is.
    """
    if isinstance(value, (int, float, str, type(None))) and type(value).__module__ == "builtins":
        return value
    listed = getattr(value, "tolist", None)
    if not callable(listed):
        return value
    found = listed()
    return tuple(found) if isinstance(found, list) else found
