"""What of a weights file went into a network, and what did not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from zoo.errors import warn
from zoo.files import unfit
from zoo.formatting import Printable, Section, Table, figure, some_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loaded(Printable):
    """Which tensors of a network come from `source`, under the network's names.

    `loaded`: as they are there. `adapted`: changed to fit, with how. `new`: not from
    there, with why: drawn anew, or as they were before. `skipped`: there, and not used,
    with why. `notes` are what the user is told.
    """

    source: str
    loaded: tuple[str, ...]
    adapted: Mapping[str, str] = field(default_factory=dict)
    new: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def missing_keys(self) -> list[str]:
        """torch's name for `new`."""
        return [*self.new]

    @property
    def unexpected_keys(self) -> list[str]:
        """torch's name for `skipped`."""
        return [*self.skipped]

    def but_new(self, keys: Iterable[str], why: str, note: str) -> Loaded:
        """The same after `keys` were replaced by new tensors."""
        new = {**self.new, **dict.fromkeys(keys, why)}
        return replace(
            self,
            loaded=tuple(key for key in self.loaded if key not in new),
            adapted={key: how for key, how in self.adapted.items() if key not in new},
            new=new,
            notes=(*self.notes, note),
        )

    def channel_notes(self, name: str, held_by: str) -> list[str]:
        """That the convolutions on the image of the network `name` were adapted, where
        they were.
        """
        if not self.adapted:
            return []
        names, ways = ", ".join(self.adapted), " and ".join(sorted({*self.adapted.values()}))
        return [f"{name}: {held_by} for images of other channels, and {names} is adapted: {ways}"]

    def say(self) -> None:
        """Warn of its notes; the command line shows the table with them."""
        if self.notes:
            warn("; ".join(self.notes), details=self)

    def sections(self) -> list[Section]:
        rows = [["loaded", str(len(self.loaded)), "", ""]]
        for what in ("adapted", "new", "skipped"):
            rows += [[what, *row] for row in _grouped(getattr(self, what))]
        headers = ("", "tensors", "which", "how or why")
        return [Table(headers, rows, left=("", "which", "how or why"), wrap="which")]

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "loaded": [*self.loaded],
            "adapted": {**self.adapted},
            "new": {**self.new},
            "skipped": {**self.skipped},
        }


def _grouped(reasons: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Number, names and reason of the tensors that one reason is given for."""
    ordered = sorted(reasons, key=lambda key: reasons[key])  # stable: the network's order
    rows = []
    for reason, group in groupby(ordered, key=lambda key: reasons[key]):
        names = list(group)
        rows.append((str(len(names)), some_of(names, 4), reason))
    return rows


def fitting(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    on_image: Collection[str] = (),
) -> tuple[dict[str, Tensor], Loaded]:
    """What of a state dict goes into a network with the tensors `own`: those of equal
    name and shape, and the convolutions `on_image`, adapted to the number of channels.
    """
    found, loaded, adapted, new, skipped = {}, [], {}, {}, {}
    for key, value in own.items():
        if key not in state:
            new[key] = "not there"
            continue
        tensor = state[key]
        if wrong := unfit(tensor, value):
            new[key] = skipped[key] = wrong
        elif tensor.shape == value.shape:
            found[key] = tensor
            loaded.append(key)
        elif key in on_image:
            found[key] = adapt_channels(tensor, value.shape[1])
            adapted[key] = how_adapted(tensor, value)
        else:
            shapes = [figure(tuple(each.shape)) or "one number" for each in (tensor, value)]
            new[key] = skipped[key] = f"{shapes[0]} there, {shapes[1]} here"
    skipped |= dict.fromkeys((key for key in state if key not in own), "unknown to the network")
    return found, Loaded(source, tuple(loaded), adapted, new, skipped)


# -------------------------------------------------------------------------- channels


def differs_in_channels(tensor: Tensor, own: Tensor) -> bool:
    """Whether two weights of a convolution, (out, in, height, width), differ in the
    channels that they read and in nothing else.
    """
    theirs, ours = tuple(tensor.shape), tuple(own.shape)
    return (
        len(theirs) == len(ours) == 4
        and theirs[1] != ours[1]
        and min(theirs[1], ours[1]) > 0
        and theirs[:1] + theirs[2:] == ours[:1] + ours[2:]
    )


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """The weight (out, in, height, width) of a convolution on images, for images of
    another number of channels. For one channel the sum, which gives for a grey image
    what the same image in all channels gave; for more the channels in turn, scaled so
    that a grey image in all channels gives what it gave.
    """
    import torch

    held = weight.shape[1]
    wide = weight.float()
    if channels == 1:
        return wide.sum(1, keepdim=True).to(weight.dtype)
    turns = torch.arange(channels) % held
    return (wide[:, turns] * (held / channels)).to(weight.dtype)


def how_adapted(tensor: Tensor, own: Tensor) -> str:
    held, wanted = tensor.shape[1], own.shape[1]
    if wanted == 1:
        return f"the sum of {held} channels"
    return f"{held} channels in turn as {wanted}, times {held / wanted:.3g}"
