"""Fine-tuning networks and predicting with them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.networks import create, is_model
from zoo.errors import Note, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.train.run import Run
    from zoo.transfer.predict import Prediction


def transforms(model: str | nn.Module, train: bool = False) -> Callable[[Any], Tensor]:
    """The preprocessing that belongs to a network: a torchvision v2 transform, image
    (PIL or uint8 tensor) to tensor (C, H, W).

    Evaluation: the shorter side to size / crop_pct, the centre, [0, 1], mean and std.
    Training: a random crop, mirrored half of the time; networks for grey images turn
    and shift it a little instead, as mirrored digits are no digits.
    """
    from zoo.data.transforms import build_transform
    from zoo.transfer.heads import input_config

    cfg = input_config(create(model, device="meta") if isinstance(model, str) else model)
    return build_transform(
        cfg, train=train, augment="small" if cfg["input_size"][0] == 1 else "photo"
    )


def finetune(
    model: str | nn.Module,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any],
    *,
    val: Dataset[Any] | DataLoader[Any] | None = None,
    classes: Sequence[str] | None = None,
    epochs: int = 30,
    batch_size: int | str = 32,
    optimizer: str = "adamw",
    lr: float | None = None,
    weight_decay: float | None = None,
    seed: int = 0,
    val_fraction: float | None = None,
    input_size: int | tuple[int, ...] | None = None,
    augment: str = "auto",
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    step: Callable[[nn.Module, Any], tuple[Tensor, dict[str, Tensor]]] | None = None,
    cpu: bool = False,
    mixed_precision: str | None = None,
    progress: bool = True,
) -> Run:
    """Train a network on your images, with a new head for their classes, and write a
    run folder.

    `model` is a name or any module; one whose output fits already keeps its last layer.
    `data` is `digits`, a folder (`train/` and `val/` with a folder per class each, or
    the class folders, of which `val_fraction`, by default a fifth, is held out), a
    Dataset of (image, class number) or a DataLoader, each with `val`. `step(model,
    batch) -> (loss, metrics)` replaces the network's own loss, or cross entropy.
    `batch_size` "auto" is the largest that is predicted to fit on the device, at most
    256 and a tenth of the images. `input_size` is in pixels: an int, (H, W) or (C, H,
    W). `augment`: "photo", "small" (images up to 40 pixels), "none", or "auto". `out`
    is the run folder, by default the first free runs/NAME-DATA-N; nothing is
    overwritten. The random state is left as it was; the module is trained in place.

    Raises UsageError, and DataError for images that cannot be trained on, before
    training starts; ZooError when the loss is no longer finite.
    """
    if isinstance(model, str) and (task := registry.variant(model).task) != "classify":
        raise UsageError(
            f"{model} is a network for the task {task}: only classifiers of images can be fine-tuned"
        )
    from zoo.data.open import open_data
    from zoo.train.run import check_free
    from zoo.transfer.finetune import Settings, seeded
    from zoo.transfer.finetune import finetune as train

    settings = Settings(
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        weight_decay=weight_decay,
        seed=seed,
        input_size=input_size,
        augment=augment,
        workers=workers,
        cpu=cpu,
        mixed_precision=mixed_precision,
    )
    folder = Path(out) if out is not None else None
    if folder:
        check_free(folder)
    opened = open_data(
        data, val=val, classes=classes, val_fraction=val_fraction, seed=seed, progress=progress
    )
    with seeded(seed):
        network, fields = (model, {}) if isinstance(model, str) else _made_by_us(model)
        if isinstance(model, str):
            if not opened.classes:
                raise UsageError("the number of classes is not known: name them with classes=…")
            model = create(model)
        identity = {"zoo_version": version("classic-zoo"), "network": network, "fields": fields}
        step = step or (registry.family(network).step if network else None)
        name = network or type(model).__name__.lower()
        return train(
            model,
            opened,
            settings,
            name=name,
            identity=identity,
            step=step,
            out=folder,
            progress=progress,
        )


def _made_by_us(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Name and fields that build a module again, up to its head; no name when it is not
    from zoo.create.
    """
    from zoo.layers.classifier import Classifier

    cfg = model.pretrained_cfg if isinstance(model, Classifier) else {}
    return cfg.get("architecture", ""), cfg.get("model_args", {})


def predict(
    what: str | os.PathLike[str] | Run | nn.Module,
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    top: int = 5,
    classes: Sequence[str] | None = None,
    model: nn.Module | None = None,
    transform: Callable[[Any], Tensor] | None = None,
) -> list[Prediction]:
    """The `top` likeliest classes of image files (a folder stands for its images) with
    their probabilities, file by file.

    `what` is a run (its folder or the object), or a module together with the names of
    its `classes`. A run of a module that zoo did not create needs that module as
    `model`, which gets the run's best weights; a run on tensors of your own needs
    `transform`, image to tensor (C, H, W). A file that cannot be read gets a prediction
    whose `error` says why.
    """
    from torch import nn

    from zoo.data.transforms import build_transform
    from zoo.train.run import Run
    from zoo.transfer.predict import predict as classify

    if isinstance(what, nn.Module):
        if classes is None or model is not None:
            raise UsageError(
                "predict with a module needs the names of its classes (classes=…), and no second module"
            )
        return classify(
            what, files, transform=transform or transforms(what), classes=classes, top=top
        )
    if classes is not None:
        raise UsageError("a run has its own classes: leave classes out")
    run = what if isinstance(what, Run) else _open_run(what)
    cfg = run.config
    if transform is None:
        if not cfg["input"]:
            raise UsageError(
                f"{run.path} was trained on tensors, and how images become such is not known: transform=… says it"
            )
        transform = build_transform(cfg["input"])
    if model is None and run.network is None:
        if not cfg["network"]:
            raise UsageError(
                f"{run.path} is of a {cfg['module']} that zoo did not create: predict(run, files, model=…) takes that"
            )
        model = create(cfg["network"], **cfg["fields"])
        if getattr(model, "num_classes", None) != cfg["num_classes"]:
            with warnings.catch_warnings(action="ignore", category=Note):  # said when the run began
                model.reset_classifier(cfg["num_classes"])  # type: ignore[operator]
    return classify(run.model(model), files, transform=transform, classes=cfg["classes"], top=top)


def _open_run(path: str | os.PathLike[str]) -> Run:
    from zoo.train.run import Run

    if not Path(path).is_dir() and is_model(str(path)):
        raise UsageError(
            f"{path} has no weights to predict with: `zoo finetune {path} --data …` makes a run folder, predict takes that"
        )
    return Run.open(Path(path))
