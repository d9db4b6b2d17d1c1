"""Names and networks: listing, building, loading and exporting."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.errors import PluginError, UsageError, WeightsError, note
from zoo.spec import Paper, Variant
from zoo.weights import manifest

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Patterns = str | Iterable[str]


def list_models(
    filter: Patterns = (),
    *,
    exclude_filters: Patterns = (),
    family: Patterns = (),
    task: str = "",
    pretrained: bool = False,
) -> list[str]:
    """Names in natural order that match one of the shell patterns `filter` (none: all)
    and none of `exclude_filters`.

    `family` is the name of a model file (`vgg`); `pretrained` keeps names that have
    weights. Only `task` imports torch.
    """
    known = registry.entries()
    names = [
        name
        for name in known
        if matches(name, filter, empty=True) and not matches(name, exclude_filters)
    ]
    if families := _patterns(family):
        names = [name for name in names if matches(known[name].family, families)]
    if pretrained:
        names = [name for name in names if _records(name)]
    return [name for name in names if _has_task(name, task)] if task else names


def matches(name: str, patterns: Patterns, empty: bool = False) -> bool:
    """Whether a name matches one of the shell patterns; `empty` is the answer for no
    pattern.
    """
    patterns = _patterns(patterns)
    return any(fnmatchcase(name, pattern) for pattern in patterns) if patterns else empty


def _patterns(patterns: Patterns) -> list[str]:
    return [patterns] * bool(patterns) if isinstance(patterns, str) else list(patterns)


def _has_task(name: str, task: str) -> bool:
    try:
        return registry.variant(name).task == task
    except PluginError as error:
        note(f"left out of the list: {error}")
        return False


def is_model(name: str) -> bool:
    """Whether `name` (without a tag) is a registered network."""
    return name in registry.entries()


def model_entrypoint(name: str) -> Callable[..., nn.Module]:
    """The function that builds `name`; it takes what `create` takes after the name."""
    registry.entry(name)
    return partial(create, name)


def list_pretrained(filter: Patterns = ()) -> list[str]:
    """`name.tag` of all weights whose network or full name matches."""
    found = []
    for name in registry.entries():
        found += [
            tagged
            for tagged in _records(name)
            if matches(tagged, filter, empty=True) or matches(name, filter)
        ]
    return found


def _records(name: str) -> dict[str, dict[str, Any]]:
    entry = registry.entry(name)
    path = None
    if not entry.distribution.startswith(registry.OWN + " "):
        try:
            path = registry.family(
                name
            ).weights  # a third party's module must be imported to know its file
        except PluginError as error:
            note(f"its weights are left out: {error}")
        if path is None:
            return {}
    return {
        tagged: record
        for tagged, record in manifest.records(entry.family, path).items()
        if tagged.partition(".")[0] == name
    }


@dataclass(frozen=True)
class Info:
    """What is known of a network: `paper`, `variant` (fields, claims, results), the
    file's head as `doc`, and its weights.
    """

    name: str
    family: str
    distribution: str
    paper: Paper
    variant: Variant
    weights: dict[str, dict[str, Any]]
    doc: str


def info(name: str) -> Info:
    """Paper, variant, claims, weights and notes of a network."""
    name = name.partition(".")[0]
    entry = registry.entry(name)
    family = registry.family(name)
    return Info(
        name,
        entry.family,
        entry.distribution,
        family.paper,
        family.variants[name],
        _records(name),
        family.doc,
    )


def create(
    name: str,
    pretrained: bool = False,
    *,
    checkpoint_path: str | Path | None = None,
    layout: str = "",
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    device: torch.device | str | None = None,
    **fields: Any,
) -> nn.Module:
    """Build a network; `fields` override its row (`num_classes`, `in_chans`,
    `drop_rate`, …).

    `checkpoint_path` loads a weights file, whose key names are those of `layout`
    (default: ours). With weights, another `num_classes` keeps the body and gets a new
    head. `features_only` gives the list of feature maps after the stages `out_indices`
    instead of logits. Raises UnknownModelError, UsageError (a wrong field) and
    WeightsError.
    """
    from zoo.layers.classifier import Classifier, FeatureNet

    name, _, tag = name.partition(".")
    if pretrained or tag:
        raise _cannot_download(name, tag)
    if checkpoint_path:
        model = _from_file(name, Path(checkpoint_path), layout, device, fields)
    else:
        model = _build(name, device, fields)
        model.init_weights()  # type: ignore[operator]
    if features_only or out_indices is not None:
        if not isinstance(model, Classifier):
            raise UsageError(f"{name} is no image classifier: it has no feature maps")
        return FeatureNet(model, out_indices)
    return model


def _build(name: str, device: torch.device | str | None, fields: Mapping[str, Any]) -> nn.Module:
    """The network, its parameters not yet initialised."""
    import torch

    from zoo.layers.classifier import Classifier
    from zoo.layers.init import SkipInit

    family = registry.family(name)
    given, fields = dict(fields), {**family.variants[name].fields, **fields}
    _check_fields(name, family.build, fields)
    with torch.device(device) if device else nullcontext(), SkipInit():
        model: nn.Module = family.build(**fields)
    if isinstance(model, Classifier):
        model.pretrained_cfg = {**_cfg(name, family.variants[name], model), "model_args": given}
    return model


def _from_file(
    name: str, path: Path, layout: str, device: torch.device | str | None, fields: dict[str, Any]
) -> nn.Module:
    """The network with the weights of a file, and a new head where the file's has
    another number of classes.
    """
    from zoo.layers.classifier import Classifier
    from zoo.weights.load import assign, read_file

    state = _renamed(name, read_file(path), layout)
    held = next(
        (
            tensor.shape[0]
            for key, tensor in state.items()
            if key.startswith("head.") and tensor.ndim
        ),
        None,
    )
    wanted = fields.get("num_classes", held)
    model = _build(name, device, fields if held is None else {**fields, "num_classes": held})
    auxiliary = [key for key in state if key.startswith("aux.")]
    if auxiliary and isinstance(model, Classifier) and model.aux is None:
        note(f"{name}: the auxiliary heads in {path.name} are left out; aux=True loads them too")
        state = {key: tensor for key, tensor in state.items() if key not in auxiliary}
    assign(model, state, str(path))
    if isinstance(model, Classifier) and wanted not in (None, model.num_classes):
        note(
            f"{name}: {path.name} has {held} classes, {wanted} are wanted: the body is kept, the head is new"
        )
        model.reset_classifier(wanted)
    return model


def _cannot_download(name: str, tag: str) -> WeightsError:
    """Why there are no weights to be had by name: none are recorded, or they must be
    fetched by hand.
    """
    records = _records(name)
    tagged = f"{name}.{tag}" if tag else next(iter(records), "")
    if not records:
        return WeightsError(
            f"there are no weights for {name!r} yet; load a file with checkpoint_path=…"
        )
    if tagged not in records:
        return WeightsError(f"there are no weights {tagged!r}; there are: {', '.join(records)}")
    where = records[tagged].get("url", "an unknown address")
    return WeightsError(
        f"{tagged} lies at {where}, and this version does not download: fetch it and pass checkpoint_path=…, layout=…"
    )


def _check_fields(name: str, build: Callable[..., Any], fields: Mapping[str, Any]) -> None:
    parameters = inspect.signature(build).parameters
    wrong = [field for field in fields if field not in parameters]
    if wrong and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise UsageError(
            f"{name} has no field {wrong[0]!r}{registry.nearest(wrong[0], parameters)}; its fields: {', '.join(parameters)}"
        )


def _cfg(name: str, variant: Variant, model: Any) -> dict[str, Any]:
    """timm's description of the input that belongs to the network."""
    channels, *size = variant.input_size
    matching = model.in_chans == channels
    return {
        "architecture": name,
        "num_classes": model.num_classes,
        "input_size": (model.in_chans, *size),
        "min_input_size": (model.in_chans, variant.min_input, variant.min_input),
        "fixed_input_size": variant.fixed_input,
        "mean": variant.mean
        if matching
        else (sum(variant.mean) / len(variant.mean),) * model.in_chans,
        "std": variant.std if matching else (sum(variant.std) / len(variant.std),) * model.in_chans,
        "crop_pct": 0.875 if size[0] > 64 else 1.0,  # nothing is cut off small images
        "interpolation": "bilinear",
        "first_conv": next(
            (n for n, m in model.named_modules() if type(m).__name__ == "Conv2d"), ""
        ),
        "classifier": "head",
    }


def _renamed(name: str, state: Mapping[str, Tensor], layout: str) -> Mapping[str, Tensor]:
    from zoo.weights.convert import to_ours

    return to_ours(state, _table(name, layout)) if layout else state


def _table(name: str, layout: str) -> dict[str, str]:
    tables = manifest.layouts(registry.entry(name).family, name, _toml(name))
    if layout not in tables:
        raise UsageError(
            f"{name} has no layout {layout!r}; it has: {', '.join(tables) or 'only its own'}"
        )
    return tables[layout]


def _toml(name: str) -> str | Path | None:
    return registry.family(name).weights


def load_state_dict(model: nn.Module, state: Mapping[str, Tensor], layout: str = "") -> None:
    """Load a state dict whose keys are those of `layout` (a peer such as `torchvision`;
    default: ours) into a created network.

    Strict: raises WeightsError naming the tensors that are missing, unknown or of
    another shape.
    """
    from zoo.weights.load import assign

    assign(
        model, _renamed(_architecture(model), state, layout) if layout else state, "the state dict"
    )


def export_state_dict(model: nn.Module, layout: str = "") -> dict[str, Tensor]:
    """The state dict of a created network under the key names of a peer."""
    from zoo.weights.convert import to_theirs

    return (
        to_theirs(model.state_dict(), _table(_architecture(model), layout))
        if layout
        else model.state_dict()
    )


def _architecture(model: nn.Module) -> str:
    from zoo.layers.classifier import Classifier

    name = (
        model.pretrained_cfg.get("architecture") if isinstance(model, Classifier) else ""
    )  # timm's networks have such a field too
    if not name:
        raise UsageError(
            f"{type(model).__name__} was not made by zoo.create: its layouts are not known"
        )
    return str(name)
