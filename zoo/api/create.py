"""Building networks by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.build import build, classes_of, takes, with_classes
from zoo.api.source import Source, layout_table, resolve, weight_records
from zoo.errors import UsageError, WeightsError, warn

if TYPE_CHECKING:
    import os

    import torch
    from torch import Tensor, nn

    from zoo.training.run import Run


def create(
    what: str | os.PathLike[str] | Run,
    pretrained: bool = False,
    *,
    checkpoint_path: str | Path | None = None,
    layout: str = "",
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    device: torch.device | str | None = None,
    **model_args: Any,
) -> nn.Module:
    """Build a network by name, or with the numbers of a run folder or a weights file of
    ours. `model_args` override its row (`num_classes`, `in_chans`, `drop_rate`, …).

    `checkpoint_path` loads a weights file, whose key names are those of `layout`
    (default: ours). With weights, another `num_classes` keeps the body and gets a new
    head. `features_only` gives the list of feature maps after the stages `out_indices`
    instead of logits. Raises UnknownModelError, UsageError (a wrong argument) and
    WeightsError.
    """
    from zoo.interfaces.classifier import Classifier
    from zoo.interfaces.features import FeatureNet

    source = resolve(what)
    if pretrained or (source.origin and source.origin.tag and not source.weights):
        raise missing_weights(source)
    if checkpoint_path:
        model = _from_file(source, Path(checkpoint_path), layout, device, model_args)
    else:
        model = build(source, device, **model_args)
    wanted = model_args.get("num_classes")
    if wanted is not None and (weights := checkpoint_path or source.weights):
        model = _fit_classes(model, wanted, source, Path(weights))
    if features_only or out_indices is not None:
        if not isinstance(model, Classifier):
            raise UsageError(f"{source.name} is no image classifier: it has no feature maps")
        return FeatureNet(model, out_indices)
    return model


def model_entrypoint(name: str) -> Callable[..., nn.Module]:
    """The function that builds `name`; it takes what `create` takes after the name."""
    registry.entry(name)
    return partial(create, name)


def load_state_dict(model: nn.Module, state: dict[str, Tensor], layout: str = "") -> None:
    """Load a state dict whose keys are those of `layout` (a peer such as `torchvision`;
    default: ours) into a created network.

    Strict: raises WeightsError naming the tensors that are missing, unknown or of
    another shape.
    """
    from zoo.files import load_state
    from zoo.weights.convert import to_ours

    if layout:
        state = to_ours(state, layout_table(resolve(model), layout))
    load_state(model, state, "the state dict")


def export_state_dict(what: Any, layout: str = "") -> dict[str, Tensor]:
    """The state dict of a created network, a run or a weights file under the key names
    of a peer; by name, of newly drawn numbers.
    """
    from zoo.weights.convert import to_theirs

    source = resolve(what)
    state = _state(source)
    return to_theirs(state, layout_table(source, layout)) if layout else state


def _state(source: Source) -> dict[str, Tensor]:
    """The numbers of a network; of a run those of its best epoch."""
    from zoo.files import read_state

    if source.weights:
        return read_state(source.weights)
    return (source.module if source.module is not None else build(source)).state_dict()


def _from_file(
    source: Source, path: Path, layout: str, device: Any, model_args: dict[str, Any]
) -> nn.Module:
    """The network with the weights of a file, and as many classes as these have."""
    from zoo.api.build import construct
    from zoo.files import load_state, read_state
    from zoo.interfaces.classifier import Classifier
    from zoo.weights.convert import to_ours

    name, state = source.name, read_state(path)
    if layout:
        state = to_ours(state, layout_table(source, layout))
    heads = (
        tensor.shape[0] for key, tensor in state.items() if key.startswith("head.") and tensor.ndim
    )
    held = next(heads, None)
    known = held is not None and takes(source, "num_classes")
    args = {**model_args, "num_classes": held} if known else model_args
    model = construct(source, device, **args)
    auxiliary = [key for key in state if key.startswith("aux.")]
    if auxiliary and isinstance(model, Classifier) and model.aux is None:
        warn(f"{name}: the auxiliary heads in {path.name} are left out; aux=True loads them too")
        state = {key: tensor for key, tensor in state.items() if key not in auxiliary}
    load_state(model, state, str(path))
    return model


def _fit_classes(model: nn.Module, wanted: int, source: Source, weights: Path) -> nn.Module:
    """A new head where another number of classes is wanted than the weights have."""
    held = classes_of(model, source)
    if held == wanted:
        return model
    warn(
        f"{source.name}: {weights.name} has {held} classes, {wanted} are wanted: "
        "the body is kept, the head is new"
    )
    return with_classes(model, source, wanted)


def missing_weights(source: Source) -> WeightsError:
    """Why there are no weights to be had by name: none are recorded, or they must be
    fetched by hand.
    """
    if source.origin is None:
        return WeightsError(f"{source.name} has its own numbers: leave out pretrained=True")
    name, tag = source.origin.architecture, source.origin.tag
    records = weight_records(name, source.family)
    tagged = f"{name}.{tag}" if tag else next(iter(records), "")
    if not records:
        return WeightsError(
            f"there are no weights for {name!r} yet; load a file with checkpoint_path=…"
        )
    where = records[tagged].get("url", "an unknown address")
    return WeightsError(
        f"{tagged} lies at {where}, and this version does not download: fetch it and pass "
        "checkpoint_path=…, layout=…"
    )
