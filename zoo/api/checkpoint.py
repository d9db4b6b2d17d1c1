"""A weights file into a network: whose key names it has, and how many classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import checkpoints, registry
from zoo.api.build import construct, convolutions_on_image, defaults, filled, takes, unfilled
from zoo.api.source import Source, layout_of, layouts_of, named_by_peers, resolve
from zoo.errors import WeightsError, warn
from zoo.formatting import as_arguments
from zoo.spec import Preprocessing
from zoo.weights import input_norm
from zoo.weights.loaded import Loaded, fitting
from zoo.weights.recognise import fits, in_own_precision, read_as

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.weights.manifest import Layout

FILE_HAS = ("num_classes", "in_chans")  # arguments that a file's tensors show


def from_file(
    source: Source, path: Path, layout: str, device: Any, model_args: dict[str, Any]
) -> nn.Module:
    """The network with the weights of a file, and as many classes as these have."""
    model, loaded = load_file(source, path, layout, device, model_args)
    loaded.say()
    return model


def load_file(
    source: Source, path: Path, layout: str, device: Any, model_args: dict[str, Any]
) -> tuple[nn.Module, Loaded]:
    """The network with the weights of a file, and what was loaded, yet to be said. It
    has as many classes as the file, and as many image channels, unless `in_chans` wants
    others: then the convolutions on the image are adapted. Arguments that the networks
    of `layout` have, and that are not given, are those of these, which is said.
    """
    from zoo.files import read_state
    from zoo.interfaces.classifier import Classifier

    where = str(path)
    if layout:
        model_args = {**_implied(source, layout, model_args), **model_args}
    wanted = _with_args(source, model_args)
    own = _tensors(wanted)
    state = with_own_keys(wanted, own, read_state(path), layout, where)
    state, preprocessing = without_input_norm(wanted, own, state, where)
    args = dict(model_args)
    heads = (
        tensor.shape[0] for key, tensor in state.items() if key.startswith("head.") and tensor.ndim
    )
    held = next(heads, None)
    if held is not None and takes(source, "num_classes"):
        args["num_classes"] = held
    if on_image := convolutions_on_image(wanted, own, state):
        args.setdefault("in_chans", state[on_image[0]].shape[1])
    model = unfilled(source, device, **args)
    own = model.state_dict()
    on_image = convolutions_on_image(_with_args(source, args), own, state)
    fit, loaded = fitting(own, state, where, on_image)
    notes = loaded.channel_notes(source.name, f"{path.name} is")
    auxiliary = [key for key in loaded.skipped if key.startswith("aux.")]
    if auxiliary and isinstance(model, Classifier) and model.aux is None:
        notes.append(
            f"{source.name}: the auxiliary heads in {path.name} are left out; aux=True loads them "
            "too"
        )
        state = {key: tensor for key, tensor in state.items() if key not in auxiliary}
    state = {**state, **{key: fit[key] for key in loaded.adapted}}
    if preprocessing:
        notes.append(set_preprocessing(preprocessing, source.name, model))
    return filled(model, state, where, device), replace(loaded, notes=tuple(notes))


def without_input_norm(
    source: Source, own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Tensor], Preprocessing | None]:
    """A state dict under our keys without a batch norm on the image, and the network's
    preprocessing with it; None where there is none.
    """
    image = source.variant.image if source.variant else None
    if image is None:
        return dict(state), None
    rest, norm = input_norm.split(state, own)
    own_preprocessing = image.preprocessing(source.model_args.get("in_chans", 0))
    return rest, input_norm.composed(own_preprocessing, norm, where) if norm else None


def set_preprocessing(preprocessing: Preprocessing, name: str, *models: nn.Module) -> str:
    """Give networks the preprocessing with a batch norm on the image, and say so."""
    for model in models:
        model.preprocessing = preprocessing  # type: ignore[assignment]
    mean, std = (
        ", ".join(f"{number:.4g}" for number in numbers)
        for numbers in (preprocessing.mean, preprocessing.std)
    )
    return (
        f"{name}: the batch norm on the image, which this network does not have, is in its "
        f"preprocessing now: mean {mean}; std {std}"
    )


def with_own_keys(
    source: Source,
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    layout: str,
    where: str,
) -> dict[str, Tensor]:
    """A state dict under our keys, in the network's precision. `own` are the network's
    tensors, `where` names the state dict in messages.

    Without `layout` the peer whose names fit exactly is taken, which is said. Raises
    WeightsError where several fit, or where the same tensors fit a network that
    computes something else; with `layout` the latter is said.
    """
    if not layout:
        return in_own_precision(_recognised(source, own, state, where), own)
    known = layout_of(source, layout)
    differences = _differences(source, known)
    if all(differences):
        needed = " or ".join(as_arguments(each) for each in differences)
        warn(
            f"{where}: a network of {layout} computes something else with these tensors than "
            f"this {source.name}: it is built with {needed}"
        )
    return in_own_precision(read_as(state, own, known, where), own)


def _implied(source: Source, layout: str, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor arguments of a layout's networks in place of our row's, where
    nothing else says them.
    """
    differences = _differences(_with_args(source, model_args), layout_of(source, layout))
    if not all(differences):
        return {}
    said = {*model_args, *(source.record.model_args if source.record else ())}
    implied = {key: value for key, value in differences[0].items() if key not in said}
    if implied:
        given = as_arguments(implied)
        warn(f"{source.name}: the network is built with {given}, as those of {layout} are")
    return implied


def _recognised(
    source: Source, own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str
) -> dict[str, Tensor]:
    """A state dict in the only layout that fits, or as it is."""
    plain = checkpoints.without_prefix(state, own, where)
    if source.origin is None or fits(plain, own):
        return plain
    name = source.origin.architecture
    known = layouts_of(source)
    fitting = {
        peer: found
        for peer, each in known.items()
        if fits(found := read_as(state, own, each, where), own)
    }
    if not fitting:
        _name_the_right_network(source, state, where)
        return plain
    twins = _twins(source)
    for peer in fitting:
        others = _differences(source, known[peer])
        twins += [f"{name} with {as_arguments(each)}" for each in others if each]
    different: dict[str, dict[str, Tensor]] = {}  # layouts may mean the same by a file
    for peer, found in fitting.items():
        if not any(_same(found, other) for other in different.values()):
            different[peer] = found
    if len(different) > 1 or twins:
        candidates = " or ".join(f'layout="{peer}"' for peer in different)
        also = f"; the same tensors fit {' and '.join(twins)} as well" if twins else ""
        raise WeightsError(
            f"{where}: has the key names of a peer, and of which network is not guessed: pass "
            f"{candidates}{also}"
        )
    (peer, found), *_ = different.items()
    warn(f"{where}: read with the key names of {peer}")
    return found


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two readings of a file are of the same tensors."""
    return one.keys() == other.keys() and all(one[key] is other[key] for key in one)


def _differences(source: Source, layout: Layout) -> list[dict[str, Any]]:
    """Per network of the peer with these tensors its constructor arguments that are
    other ones than the source's; the network that the layout is of is the first.
    """
    assert source.family is not None
    row = {**defaults(source.family), **(source.variant.model_args if source.variant else {})}
    own = {**row, **source.model_args}
    return [
        {
            key: value
            for key in {**layout.model_args, **layout.also}
            if (value := args.get(key, row.get(key))) != own.get(key)
        }
        for args in ([layout.model_args, layout.also] if layout.also else [layout.model_args])
    ]


def _with_args(source: Source, model_args: Mapping[str, Any]) -> Source:
    """A source with constructor arguments, but for the numbers of classes and image
    channels, which the file has.
    """
    if source.origin is None:
        return source
    given = {key: value for key, value in model_args.items() if key not in FILE_HAS}
    origin = replace(source.origin, model_args={**source.origin.model_args, **given})
    return replace(source, origin=origin)


def _tensors(source: Source) -> dict[str, Tensor]:
    """A network's tensors, on the meta device."""
    return construct(source, "meta").state_dict()


def _twins(source: Source) -> list[str]:
    """Other networks of the family whose tensors have the same names and shapes."""
    family, origin, variant = source.family, source.origin, source.variant
    assert family is not None
    assert origin is not None
    assert variant is not None
    own = {key: tensor.shape for key, tensor in _tensors(source).items()}
    found = []
    for name, other in family.variants.items():
        if name != origin.architecture and other.claims.params == variant.claims.params:
            twin = replace(source, name=name, variant=other)
            shapes = {key: tensor.shape for key, tensor in _tensors(twin).items()}
            found += [name] if shapes == own else []
    return found


def _name_the_right_network(source: Source, state: Mapping[str, Tensor], where: str) -> None:
    """Raises WeightsError where a peer calls another of our networks by this name, and
    the keys are of that.
    """
    assert source.origin is not None
    name = source.origin.architecture
    for peer, ours in named_by_peers(source).items():
        if ours in registry.entries():
            other = resolve(ours)
            own = _tensors(other)
            layout = layouts_of(other).get(peer)
            if layout and fits(read_as(state, own, layout, where), own):
                raise WeightsError(
                    f"{where}: is of {peer}'s {name}, which is `{ours}` here: "
                    f'zoo.create("{ours}", checkpoint_path=…, layout="{peer}")'
                )
