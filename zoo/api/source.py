"""What the public functions are asked about, resolved once per call: a name,
`name.tag`, a weights file, a run folder, a Run, or a module.
"""

from __future__ import annotations

import os
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.records import weight_records
from zoo.errors import UsageError, WeightsError, nearest, warn
from zoo.spec import Family, Input, Origin, Preprocessing, Variant
from zoo.weights import manifest
from zoo.weights.manifest import Layout
from zoo.weights.records import WeightsRecord

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.training.run import Run

What = "str | os.PathLike[str] | Run | nn.Module"


@dataclass(frozen=True)
class Source:
    """A network, resolved. `origin` is None for a module that zoo did not create, or a
    run of such; with it come `family`, `variant` and `distribution`.

    `module`: the network itself, where it is at hand; else `weights` is the file with
    its numbers, and without that it is built anew. `num_classes`: of a head that
    replaced the network's own; 0: none did. `record` is of the weights that a tag
    names; with `weights` too, these are the published ones: converted, unless `convert`
    does that.
    """

    name: str  # in messages and tables
    origin: Origin | None = None
    family: Family | None = None
    variant: Variant | None = None
    entry: registry.Entry | None = None
    record: WeightsRecord | None = None
    module: nn.Module | None = None
    weights: Path | None = None
    convert: Callable[[], dict[str, Tensor]] | None = None
    run: Run | None = None
    classes: tuple[str, ...] = ()
    num_classes: int = 0
    recorded: Preprocessing | None = None  # of a run or of weights
    probe: Mapping[str, Any] | None = None  # of a head on several stages: what rebuilds it
    backbones: Mapping[str, Source] = field(default_factory=dict)  # by argument, with their numbers
    part: bool = False  # the module is a part of the network, as features_only gives

    @property
    def task(self) -> str:
        """What the network is for; image classification where nothing says
        otherwise.
        """
        return self.variant.task if self.variant else "classify"

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What `forward` takes; () where it is not known."""
        return self.variant.inputs if self.variant else ()

    @property
    def model_args(self) -> dict[str, Any]:
        """What the constructor gets: the row's, those of the weights, and the given."""
        row = self.variant.model_args if self.variant else {}
        needed = self.record.model_args if self.record else {}
        given = self.origin.model_args if self.origin else {}
        return {**row, **needed, **given}

    def read_weights(self) -> dict[str, Tensor]:
        """The numbers in its weights file under our names. Raises WeightsError."""
        from zoo.files import read_state

        assert self.weights is not None
        return self.convert() if self.convert else read_state(self.weights)

    def require_whole(self, verb: str) -> None:
        """Raise UsageError for a part of a network, which gives feature maps."""
        if self.part:
            raise UsageError(
                f"{verb} takes a whole network, not feature maps of {self.name} (features_only)"
            )

    @property
    def published(self) -> bool:
        """Whether `weights` are published ones."""
        return bool(self.record and self.weights)

    @property
    def takes_images(self) -> bool:
        """Whether images are among its inputs; of a module that says nothing it is
        assumed.
        """
        return self.variant is None or self.variant.image is not None

    @property
    def preprocessing(self) -> Preprocessing:
        """From an image to the network's input. Raises UsageError for a network that
        takes no image, or whose run was trained on tensors.
        """
        if self.recorded:
            return self.recorded
        if self.variant and self.variant.image is None:
            takes = self.variant.describe_inputs()
            raise UsageError(f"{self.name} takes no images but {takes}: it has no transforms")
        if self.weights:
            raise UsageError(
                f"{self.name} was trained on tensors, and how images become such is not known: "
                "transform=… says it"
            )
        if self.variant and self.variant.image:
            return self.variant.image.preprocessing(self.model_args.get("in_chans", 0))
        if self.module is None:
            raise UsageError(f"{self.name}: how images become its inputs is not known")
        from zoo.data.transforms import preprocessing_of

        return preprocessing_of(self.module)


def resolve(what: Any) -> Source:
    """The network that is meant. A registered name wins over a folder of that name.

    Raises UnknownModelError, WeightsError for an unknown tag, UsageError for a folder
    or file that is none of ours, DataError for a damaged run.
    """
    torch = sys.modules.get("torch")
    if torch and isinstance(what, torch.nn.Module):
        return _of_module(what)
    if type(what).__name__ == "Run" and hasattr(what, "config"):
        return _of_run(what)
    if isinstance(what, str) and registry.is_registered(what):
        if Path(what).is_dir():
            warn(f"{what!r} is the network of that name; the folder is ./{what}")
        return _of_name(what)
    if isinstance(what, os.PathLike) or (isinstance(what, str) and _is_path(what)):
        return _of_path(Path(what))
    if not isinstance(what, str):
        raise UsageError(_no_network(what))
    name, _, tag = what.partition(".")
    if tag and registry.is_registered(name):
        return _of_name(name, tag)
    if tag and not registry.fitting(what) and registry.fitting(name):
        return _of_name(registry.meant(name), tag)
    return _of_name(registry.meant(what))


def require_module(what: Any, verb: str) -> nn.Module:
    """`what`, which `verb` changes in place or looks into. Raises UsageError for a name
    or a path, whose module nobody would have afterwards.
    """
    from torch import nn

    if not isinstance(what, nn.Module):
        raise UsageError(f"zoo.{verb} takes a module: zoo.create(…) makes one of {what!r}")
    return what


def _no_network(what: Any) -> str:
    """Why something is no network, and what was probably meant."""
    shown = " ".join(reprlib.repr(what).split())
    if isinstance(what, type):
        return f"{what.__name__} is a class: pass a module, an instance of it"
    if isinstance(what, Mapping):
        return "a dict is no network; zoo.load_state_dict(model, state) loads a state dict into one"
    if isinstance(what, (list, tuple, set)):
        return f"{shown} is no network: give one at a time, or zoo.compare several"
    return f"{shown} is no network: expected a name, a run folder, a weights file or a module"


def _is_path(what: str) -> bool:
    return "/" in what or os.sep in what or (bool(what) and Path(what).exists())


def _of_name(name: str, tag: str = "", model_args: Mapping[str, Any] | None = None) -> Source:
    entry, family = registry.lookup(name)
    origin = Origin(name, "", model_args or {})
    source = Source(name, origin, family, family.variants[name], entry)
    return with_tag(source, tag) if tag else source


def with_tag(source: Source, tag: str) -> Source:
    """The network as the weights `tag` need it, with their preprocessing; without their
    numbers. Raises WeightsError for a tag that there is not.
    """
    assert source.origin is not None
    name = source.origin.architecture
    records = weight_records(name, source.family)
    record = records.get(f"{name}.{tag}")
    if record is None:
        tags = [key.partition(".")[2] for key in records]
        near = f"; {name} has none"
        if tags:
            near = nearest(tag, tags, f"there are: {', '.join(records)}")
        raise WeightsError(f"there are no weights '{name}.{tag}'{near}")
    return replace(
        source,
        name=f"{name}.{tag}",
        origin=replace(source.origin, tag=tag),
        record=record,
        recorded=record.preprocessing,
    )


def _of_module(module: nn.Module) -> Source:
    from zoo.count.meta import unwrapped
    from zoo.interfaces.features import Part

    inner = unwrapped(module)
    origin = getattr(inner, "origin", None)
    if not isinstance(origin, Origin) or not registry.is_registered(origin.architecture):
        config = getattr(inner, "pretrained_cfg", None)  # of timm, or an attribute of the user's
        name = config.get("architecture") if isinstance(config, Mapping) else None
        return Source(name or type(inner).__name__, module=module)
    entry, family = registry.lookup(origin.architecture)
    variant = family.variants[origin.architecture]
    return Source(
        origin.architecture,
        origin,
        family,
        variant,
        entry,
        module=module,
        recorded=getattr(inner, "preprocessing", None),
        part=isinstance(inner, Part),
    )


def _of_run(run: Run) -> Source:
    return _of_config(run.config, str(run.path), run.path / "best.safetensors", run)


def _of_path(path: Path) -> Source:
    if path.is_file():
        from zoo.files import read_about

        about = read_about(path)
        if about is None:
            raise UsageError(
                f"{path} does not say of which network it is: zoo.create(NAME, "
                "checkpoint_path=…, layout=…) loads it"
            )
        return _of_config(about, str(path), path)
    from zoo.training.run import Run

    return _of_run(Run.open(path))


def _of_config(
    config: Mapping[str, Any], name: str, weights: Path, run: Run | None = None
) -> Source:
    """Of what a run folder or a weights file of ours says of its network."""
    recorded = config.get("preprocessing")
    facts: dict[str, Any] = {
        "weights": weights,
        "run": run,
        "classes": tuple(config.get("classes") or ()),
        "num_classes": config.get("num_classes") or 0,
        "recorded": Preprocessing.from_dict(recorded) if recorded else None,
        "probe": config.get("head"),
    }
    if not config.get("architecture"):
        return Source(name, module=run.model if run else None, **facts)
    known = _of_name(config["architecture"], "", config.get("model_args"))
    assert known.origin is not None
    # the tag of the weights that it began with, whose record may be gone
    origin = replace(known.origin, tag=config.get("tag", ""))
    return replace(known, name=name, origin=origin, **facts)


def layouts_of(source: Source) -> dict[str, Layout]:
    """The peers whose key names are known for a network; none for a module that zoo did
    not create.
    """
    return manifest.layouts(*where) if (where := _manifest_of(source)) else {}


def named_by_peers(source: Source) -> dict[str, str]:
    """Per peer the network of ours that it calls by this one's name, where that is
    another one.
    """
    return manifest.named_by_peers(*where) if (where := _manifest_of(source)) else {}


def _manifest_of(source: Source) -> tuple[str, str, str | Path | None] | None:
    """Family, name and file of what its manifest says of a network; None for a module
    that zoo did not create.
    """
    if source.origin is None or source.family is None or source.entry is None:
        return None
    return source.entry.family, source.origin.architecture, source.family.weights


def layout_of(source: Source, peer: str) -> Layout:
    """How a peer stores a network. Raises UsageError for a layout that there is not, or
    a module that zoo did not create.
    """
    if source.origin is None:
        raise UsageError(f"{source.name} was not made by zoo.create: its layouts are not known")
    known = layouts_of(source)
    if peer not in known:
        name, meant = source.origin.architecture, named_by_peers(source).get(peer)
        hint = f"it has: {', '.join(known) or 'only its own'}"
        if meant:
            hint = f"{peer}'s {name} is `{meant}` here"
        raise UsageError(f"{name} has no layout {peer!r}; {hint}")
    return known[peer]
