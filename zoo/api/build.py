"""From a resolved source to a module."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.api.source import Source, resolve
from zoo.errors import UsageError, ZooWarning, nearest
from zoo.files import load_state
from zoo.spec import Backbone, Family, Preprocessing
from zoo.weights.loaded import Loaded, differs_in_channels, fitting

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.interfaces.features import Encoder

PEERS_ARGUMENTS = {  # of torchvision and Keras, whose meaning has another name here
    "weights": "in torchvision: pretrained=True takes the network's own weights, "
    '"NAME.TAG" names others, and checkpoint_path=FILE loads a file',
    "include_top": "in Keras: num_classes=0 leaves out the head",
    "include_preprocessing": "in Keras: zoo.transforms(NAME) gives the preprocessing",
    "input_shape": "in Keras: in_chans says how many channels; sizes need no argument",
}


def construct(
    source: Source, device: torch.device | str | None = None, **model_args: Any
) -> nn.Module:
    """A source's network, built anew without its numbers: not yet initialised, unless
    it is a plain module without `init_weights`, which torch has initialised.
    """
    import torch

    from zoo.layers.init import SkipInit

    if source.family is None or source.variant is None or source.origin is None:
        raise UsageError(f"{source.name} was not made by zoo.create: it cannot be built anew")
    needed = source.record.model_args if source.record else {}
    given = {**needed, **source.origin.model_args, **model_args}
    args = {**source.model_args, **model_args}
    name = source.origin.architecture
    _check_arguments(name, source.family.build, args)
    place = torch.device(device) if device else nullcontext()
    with place, SkipInit():
        built = {
            argument: _backbone(args.get(argument), own)
            for argument, own in source.variant.backbones.items()
        }
        model: nn.Module = source.family.build(**{**args, **built})
    if not callable(getattr(model, "init_weights", None)):
        with place:
            model = source.family.build(**args)
    model.origin = replace(source.origin, model_args=given)  # type: ignore[assignment]
    of_backbone: Preprocessing | None = next((each.preprocessing for each in built.values()), None)
    if source.variant.image and getattr(model, "image", None) is None:  # not its own attribute
        model.image = source.variant.image  # type: ignore[assignment]
        channels = args.get("in_chans", 0)
        recorded = source.recorded
        if recorded and channels:
            recorded = recorded.with_channels(channels)
        own = source.variant.image.preprocessing(channels)
        if of_backbone and not recorded:  # the whole image, at the size of the row
            own = replace(of_backbone, input_size=own.input_size, crop_pct=1.0)
        model.preprocessing = recorded or own  # type: ignore[assignment]
    return model


def unfilled(
    source: Source, device: torch.device | str | None = None, **model_args: Any
) -> nn.Module:
    """A source's network for numbers that `load_state` gives: on the meta device, so
    that none are made before, where it promises (as a Network) that its state dict
    holds all of them; else on `device`, newly drawn.
    """
    from zoo.interfaces.network import Network

    make = source.family.build if source.family else None
    if isinstance(make, type) and issubclass(make, Network):
        model = construct(source, "meta", **model_args)
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        names += [name for name, _ in model.named_buffers(remove_duplicate=False)]
        shared = len(names) - len([*model.parameters(), *model.buffers()])
        if not shared and model.state_dict().keys() == set(names):
            return model
    return drawn(source, device, **model_args)


def drawn(source: Source, device: torch.device | str | None = None, **model_args: Any) -> nn.Module:
    """A source's network with newly drawn numbers."""
    model = construct(source, device, **model_args)
    if callable(draw := getattr(model, "init_weights", None)):
        draw()
    return model


def filled(
    model: nn.Module,
    state: Mapping[str, Tensor],
    where: str,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A network of `unfilled` with the numbers of a state dict, on `device`."""
    import torch

    load_state(model, state, where)
    return model.to(device or torch.get_default_device())


def build(
    source: Source,
    device: torch.device | str | None = None,
    *,
    global_pool: str | None = None,
    **model_args: Any,
) -> nn.Module:
    """A source's network with its numbers: those of its weights, else newly drawn.
    Published ones bring their number of classes, and what of them was adapted is said.
    """
    if source.published:
        model, loaded = load_published(source, device, model_args)
        loaded.say()
    else:
        make = unfilled if source.weights else construct
        model = make(source, device, **model_args)
        if source.num_classes not in (0, getattr(model, "num_classes", None)):
            model = with_classes(model, source, source.num_classes)
        if source.probe:
            from zoo.transfer.probe_module import Probe

            model = Probe.from_config(source.probe, model)
        if source.weights:
            model = filled(model, source.read_weights(), str(source.weights), device)
        elif callable(draw := getattr(model, "init_weights", None)):
            draw()
            for argument, inner in source.backbones.items():
                part = getattr(model, argument)
                load_state(part, _of_backbone(inner, part.state_dict()), inner.name)
    if global_pool is not None:
        set_global_pool(model, global_pool, source.name)
    return model


def load_published(
    source: Source, device: torch.device | str | None, model_args: Mapping[str, Any]
) -> tuple[nn.Module, Loaded]:
    """The network with published weights, mapped and not copied, and what was loaded,
    yet to be said. For another `in_chans` the convolutions on the image are adapted;
    what the weights leave out is newly drawn. Raises UsageError for other channels
    where no convolution can be adapted.
    """
    assert source.record
    args = {key: value for key, value in model_args.items() if key != "num_classes"}
    model = unfilled(source, device, **args)
    own = model.state_dict()
    state = source.read_weights()
    state = {key: state[key] for key in state if key in own or not key.startswith("aux.")}
    for argument, inner in source.backbones.items():
        keys = {
            key.removeprefix(f"{argument}."): key for key in own if key.startswith(f"{argument}.")
        }
        state |= {keys[key]: value for key, value in _of_backbone(inner, keys).items()}
    on_image = convolutions_on_image(source, own, state, args)
    fit, loaded = fitting(own, state, source.name, on_image)
    if "in_chans" in args and not on_image and any(key in state for key in loaded.new):
        raise UsageError(
            f"{source.name}: in_chans={args['in_chans']} is not what the weights take, and they "
            "have no convolution on the image that could be adapted"
        )
    notes = loaded.channel_notes(source.name, "the weights are")
    if new := [key for key in loaded.new if source.record.may_lack(key)]:
        parts = " and no ".join(dict.fromkeys(key.partition(".")[0] for key in new))
        notes.append(f"{source.name}: the weights have no {parts}: newly drawn")
        if own[new[0]].is_meta:
            model = drawn(source, device, **args)
            own = model.state_dict()
    state |= {key: fit[key] for key in loaded.adapted} | {key: own[key] for key in new}
    return filled(model, state, source.name, device), replace(loaded, notes=tuple(notes))


def convolutions_on_image(
    source: Source,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    model_args: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """The weights that differ from those of a state dict because that is of a network
    on images of another number of channels; none where anything else differs in this.
    """
    keys = [key for key in own if key in state and differs_in_channels(state[key], own[key])]
    if not keys:
        return []
    if source.origin is None:
        return _first_convolution(source, keys)
    if not takes(source, "in_chans"):
        return []
    channels = state[keys[0]].shape[1]
    theirs = construct(source, "meta", **{**model_args, "in_chans": channels}).state_dict()
    same = all(key in theirs and theirs[key].shape == state[key].shape for key in keys)
    return keys if same else []


def _first_convolution(source: Source, keys: list[str]) -> list[str]:
    """The one of a module that is not ours, if nothing but it differs."""
    from torch import nn

    from zoo.count.meta import unwrapped

    model = unwrapped(source.module) if source.module is not None else nn.Identity()
    names = (name for name, each in model.named_modules() if isinstance(each, nn.Conv2d))
    first = next(names, None)
    return keys if keys == [f"{first}.weight"] else []


def classes_of(model: nn.Module, source: Source) -> int:
    """How many a classifier has; a plain module's are the width of its output."""
    from zoo.transfer.heads import output_width

    own = getattr(model, "num_classes", None) or source.num_classes
    return own or output_width(model, _images(source))


def with_classes(model: nn.Module, source: Source, num_classes: int) -> nn.Module:
    """The network with a head for so many classes; one that has as many stays."""
    from zoo.transfer.heads import fit_head

    with warnings.catch_warnings(action="ignore", category=ZooWarning):  # said by the caller
        if callable(reset := getattr(model, "reset_classifier", None)):
            reset(num_classes)
            return model
        return fit_head(model, num_classes, _images(source))


def _images(source: Source) -> Tensor:
    assert source.variant
    images, *_ = source.variant.example_inputs(2, model_args=source.model_args)
    return images


def set_global_pool(model: nn.Module, global_pool: str, name: str) -> None:
    """timm's argument `global_pool`. Raises UsageError for a network that has no global
    pooling, and for a kind that it does not have.
    """
    from zoo.interfaces.classifier import Classifier

    if not isinstance(model, Classifier):
        raise UsageError(f"{name} is no image classifier: leave out global_pool")
    model.set_global_pool(global_pool, model.num_classes)


def structure(source: Source, **model_args: Any) -> nn.Module:
    """A network on the meta device that may be modified: shapes without numbers.

    Raises UsageError for constructor arguments to a module that is already built.
    """
    if source.module is None:
        return build(replace(source, weights=None), "meta", **model_args)
    from zoo.count.meta import copy_on_meta

    if model_args:
        raise UsageError(
            f"{', '.join(model_args)}: for a network that is built by name, not for a module"
        )
    return copy_on_meta(source.module)


def _backbone(given: Any, own: Backbone) -> Encoder:
    """Another network as a part of one: the row's, or that of a name, `name:output`."""
    from zoo.interfaces.classifier import Classifier
    from zoo.interfaces.features import Encoder

    name, _, output = (own.name if given is None else str(given)).partition(":")
    source = resolve(name)
    if not output:
        same = source.origin is not None and source.origin.architecture == own.name
        output = own.output if same or own.output in ("logits", "pre_logits") else "features"
    model = construct(source)
    if not isinstance(model, Classifier):
        raise UsageError(f"{name} is no image classifier: it cannot be a backbone")
    return Encoder(model, output)


def _of_backbone(source: Source, keys: Iterable[str]) -> dict[str, Tensor]:
    """Of its numbers those that a part of it (`zoo.interfaces.features.Part`) has."""
    state = source.read_weights()
    return {key: state[key.removeprefix("model.")] for key in keys}


def takes(source: Source, argument: str) -> bool:
    """Whether its constructor has such an argument."""
    return source.family is not None and argument in _parameters(source.family.build)


def defaults(family: Family) -> dict[str, Any]:
    """The constructor's own values of its arguments."""
    parameters = _parameters(family.build).items()
    return {name: each.default for name, each in parameters if each.default is not each.empty}


def _parameters(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(make).parameters


def _check_arguments(name: str, make: Callable[..., Any], args: Mapping[str, Any]) -> None:
    parameters = _parameters(make)
    wrong = [argument for argument in args if argument not in parameters]
    if wrong and not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        if wrong[0] in PEERS_ARGUMENTS:
            raise UsageError(f"{name} has no argument {wrong[0]!r}, as {PEERS_ARGUMENTS[wrong[0]]}")
        near = nearest(wrong[0], parameters, f"its arguments: {', '.join(parameters)}")
        raise UsageError(f"{name} has no argument {wrong[0]!r}{near}")
