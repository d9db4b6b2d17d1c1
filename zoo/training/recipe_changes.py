"""The fields of Recipe, for functions that take them as keyword arguments."""

from __future__ import annotations

from typing import TypedDict


class RecipeChanges(TypedDict, total=False):
    """The fields of Recipe as keyword arguments (a test holds them together)."""

    epochs: int
    batch_size: int | str
    optimizer: str
    lr: float | None
    lr_decay: float | None
    weight_decay: float | None
    momentum: float | None
    rms_decay: float | None
    eps: float | None
    schedule: str
    warmup: float | None
    lr_milestones: tuple[float, ...] | None
    lr_every: int | None
    lr_factor: float | tuple[float, ...] | None
    lr_patience: int | None
    cycle_momentum: bool
    clip: float | None
    clip_value: float | None
    accumulation: int
    ema: float | None
    patience: int | None
    label_smoothing: float
    mixup: float
    cutmix: float
    strategy: str
    probe_first: bool
    head: str
    stage: str
    mirrored: bool
    penalty: str
    margin: float
    squared_hinge: bool
    distance: str
    hidden: str
    minutes: float | None
    aux: bool
    val_fraction: float | None
    test_fraction: float | None
    length: int
    input_size: int | str | tuple[int, ...] | None
    augment: str
    cache: str
    workers: int | None
    check: bool
    report: bool
    cpu: bool
    mixed_precision: str | None
    channels_last: bool
    tensorboard: bool
