"""Building networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.build import (
    build,
    classes_of,
    construct,
    convolutions_on_image,
    load_published,
    set_global_pool,
    with_classes,
)
from zoo.api.checkpoint import (
    load_file,
    set_preprocessing,
    with_own_keys,
    without_input_norm,
)
from zoo.api.pretrained import published, with_backbones
from zoo.api.source import Source, layout_of, resolve
from zoo.errors import UsageError, WeightsError, warn
from zoo.weights.loaded import Loaded, fitting

if TYPE_CHECKING:
    import os

    import torch
    from torch import Tensor, nn

    from zoo.interfaces.classifier import Classifier
    from zoo.training.run import Run


def create(
    what: str | os.PathLike[str] | Run,
    pretrained: bool | None = None,
    *,
    checkpoint_path: str | Path | None = None,
    layout: str = "",
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    global_pool: str | None = None,
    device: torch.device | str | None = None,
    pretrained_backbones: bool = False,
    **model_args: Any,
) -> nn.Module:
    """Build a network by name, or with the numbers of a run folder or a weights file of
    ours. `model_args` override its row (`num_classes`, `in_chans`, `drop_rate`, …).

    `pretrained=True` loads the published weights of a name, fetched and converted the
    first time; `name.tag` loads those of that tag (`pretrained=False`: only the network
    as they need it). They bring their preprocessing and arguments, which are said.
    `checkpoint_path` loads a weights file, or a folder with one or an index of several,
    whose key names are those of `layout` (default: ours, or those of the only peer
    whose names and shapes fit). With weights, another `num_classes` keeps the body and
    gets a new head, and another `in_chans` adapts the convolutions on the image: all
    that differs is said. A safetensors file is mapped: it is never changed,
    and must not be overwritten in place while the network is in use.

    `pretrained_backbones=True` loads the published weights of the networks inside one
    (a captioner's encoder) alone.

    `features_only` gives the list of feature maps after the stages `out_indices`
    instead of logits. `global_pool` "" with `num_classes` 0 gives the map (N, C, H, W)
    that is otherwise pooled before the head; a kind of pooling is taken where it is the
    paper's ("avg"; OverFeat: "max"). Raises UnknownModelError, UsageError (a wrong
    argument) and WeightsError.
    """
    from zoo.interfaces.classifier import Classifier
    from zoo.interfaces.features import FeatureNet

    source = resolve(what)
    path = Path(checkpoint_path) if checkpoint_path else None
    if path and pretrained:
        raise UsageError("pretrained=True and checkpoint_path are two sets of weights: give one")
    if pretrained or (pretrained is None and source.record and not path):
        source = published(source)
    if pretrained_backbones and not source.published:
        source = _with_backbones(source, model_args)
    if path:
        model, loaded = load_file(source, path, layout, device, model_args)
    elif source.published:
        model, loaded = load_published(source, device, model_args)
    else:
        model = build(source, device, **model_args)
        loaded = Loaded(str(source.weights or ""), tuple(model.state_dict()))
    wanted = model_args.get("num_classes")
    if wanted is not None and loaded.source:
        named = path or not source.record
        held_by = f"{Path(loaded.source).name} has" if named else "the weights have"
        model, loaded = _fit_classes(model, wanted, source, loaded, held_by)
    loaded.say()
    if features_only or out_indices is not None:
        if not isinstance(model, Classifier):
            raise UsageError(f"{source.name} is no image classifier: it has no feature maps")
        if global_pool:
            raise UsageError(f"global_pool={global_pool!r}: feature maps are not pooled")
        return FeatureNet(model, out_indices)
    if global_pool is not None:
        set_global_pool(model, global_pool, source.name)
    return model


def _with_backbones(source: Source, model_args: dict[str, Any]) -> Source:
    """With the weights of the networks that `model_args` or the row names, whose names
    then are in the source.
    """
    if source.variant is None or not source.variant.backbones or source.origin is None:
        raise UsageError(f"{source.name} has no backbones: leave out pretrained_backbones")
    named = {key: model_args.pop(key) for key in source.variant.backbones if key in model_args}
    origin = replace(source.origin, model_args={**source.origin.model_args, **named})
    return with_backbones(replace(source, origin=origin))


def model_entrypoint(name: str) -> Callable[..., nn.Module]:
    """The function that builds `name`; it takes what `create` takes after the name."""
    return partial(create, registry.meant(name))


def load_state_dict(
    model: nn.Module, state: Mapping[str, Any], layout: str = "", strict: bool = True
) -> Loaded:
    """Load a state dict whose keys are those of `layout` (a peer such as `torchvision`;
    default: ours, or those of the only peer whose names and shapes fit) into a created
    network. Containers of training scripts (`state_dict`, `model_state_dict`, …) and
    what wrappers put before the keys (`module.`, `_orig_mod.`, `model.`, …) are opened.

    A network made with `features_only` takes what it has of the whole network's
    tensors. Strict: raises WeightsError naming the tensors that are missing, unknown or
    of another shape. With `strict` False what fits is loaded, a convolution on the
    image is adapted to its number of channels, and all else stays as it was. Returns
    what was loaded, adapted, not there and skipped, as a table; after an error the
    network is as it was.
    """
    from zoo.checkpoints import state_dict_in
    from zoo.count.meta import unwrapped
    from zoo.files import load_state

    where = "the state dict"
    source, preprocessing = resolve(model), None
    model = outer = unwrapped(model)
    own = construct(source, "meta").state_dict() if source.part else model.state_dict()
    found = state_dict_in(state, where)
    if not (source.part and found.keys() == model.state_dict().keys()):
        found = with_own_keys(source, own, found, layout, where)
        found, preprocessing = without_input_norm(source, own, found, where)
    if source.part:
        model, found = _of_part(source, found)
    own = model.state_dict()
    on_meta = any(tensor.is_meta for tensor in own.values())
    on_image = [] if strict else convolutions_on_image(source, own, found)
    fit, loaded = fitting(own, found, where, on_image)
    if not strict and fit:
        if on_meta and loaded.new:
            raise WeightsError(
                f"{where} has no {', '.join(list(loaded.new)[:3])}, and a network on the meta "
                "device has no numbers to keep: build it on another one"
            )
        found = {**own, **fit}
    if on_meta:  # which takes tensors as they are: the caller's stay the caller's
        found = {key: tensor.clone() for key, tensor in found.items()}
    load_state(model, found, where)
    if preprocessing:
        warn(set_preprocessing(preprocessing, source.name, model, outer))
    return loaded


def export_state_dict(what: Any, layout: str = "") -> dict[str, Tensor]:
    """The state dict of a created network, a run, a weights file or published weights
    (`name.tag`) in the layout of a peer; by name alone, of newly drawn numbers. The
    keys of a network made with `features_only` are those of the whole network.

    Raises WeightsError for numbers that the peer's files cannot hold.
    """
    from zoo.weights.recognise import write_as

    source = resolve(what)
    state = _state(source)
    return write_as(state, layout_of(source, layout)) if layout else state


def _state(source: Source) -> dict[str, Tensor]:
    """The numbers of a network; of a run those of its best epoch."""
    if source.record and not source.weights:
        source = published(source)
    if source.weights:
        return source.read_weights()
    if source.module is None:
        return build(source).state_dict()
    return (_whole(source) if source.part else source.module).state_dict()


def _whole(source: Source) -> Classifier:
    """The classifier inside a part, whose names are those of the whole network."""
    from zoo.count.meta import unwrapped
    from zoo.interfaces.features import Part

    part = unwrapped(source.module) if source.module is not None else None
    assert isinstance(part, Part)
    return part.model


def _of_part(source: Source, state: dict[str, Tensor]) -> tuple[Classifier, dict[str, Tensor]]:
    """The classifier inside a part, and of a state dict, the part's own or that of the
    whole network, what belongs to it.
    """
    if state and all(key.startswith("model.") for key in state):
        state = {key.removeprefix("model."): tensor for key, tensor in state.items()}
    model = _whole(source)
    own = model.state_dict()
    behind = construct(source, "meta").state_dict().keys() - own.keys()
    return model, {key: tensor for key, tensor in state.items() if key not in behind}


def _fit_classes(
    model: nn.Module, wanted: int, source: Source, loaded: Loaded, held_by: str
) -> tuple[nn.Module, Loaded]:
    """A new head where another number of classes is wanted than the weights have."""
    held = classes_of(model, source)
    if held == wanted:
        return model, loaded
    before = dict(model.named_parameters())
    model = with_classes(model, source, wanted)
    if not wanted:
        return model, loaded
    new = [name for name, each in model.named_parameters() if before.get(name) is not each]
    note = (
        f"{source.name}: {held_by} {held} classes, {wanted} are wanted: "
        "the body is kept, the head is new"
    )
    return model, loaded.but_new(new, f"{held} classes there, {wanted} here", note)
