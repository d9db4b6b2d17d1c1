"""What a network takes: its positional arguments, and how images become them.

Standard library only at import time. Model files import all of it from `zoo.spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.errors import InputError

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
CIFAR10_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR10_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
PAD = -1  # token: stands behind the last one of the shorter sentences of a batch
SMALL_IMAGE = 64  # pixels: up to here nothing is cut off an image in evaluation


def image_shape(
    size: int | str | tuple[int, ...], own: tuple[int, ...] = (3, 224, 224)
) -> tuple[int, int, int]:
    """(C, H, W) of an input size: the side in pixels, (H, W) or (C, H, W), also as the
    text `224` or `3x224x224`; channels that are not named are those of `own`.

    Raises InputError for anything else.
    """
    given: Any = size.lower().split("x") if isinstance(size, str) else size
    try:
        sides = [int(side) for side in ([given] if isinstance(given, int) else given)]
    except (TypeError, ValueError):
        sides = []
    if len(sides) == 1:
        sides *= 2
    if len(sides) == 2:
        sides = [own[0], *sides]
    if len(sides) != 3 or min(sides) < 1:
        raise InputError(
            f"input_size={size!r}: expected the side in pixels (224), height and width, or "
            "channels, height and width (3x224x224)"
        )
    return sides[0], sides[1], sides[2]


@dataclass(frozen=True)
class Preprocessing:
    """From an image to the tensor that a network takes: resized, cropped, in [0, 1],
    minus `mean`, over `std`.

    `crop_mode`: "center", the shorter side becomes size / `crop_pct`, then the centre;
    "squash", both sides are stretched to size / `crop_pct`, then the centre.
    `interpolation`: as torchvision names it.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)  # (C, H, W)
    mean: tuple[float, ...] = IMAGENET_MEAN  # per channel
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bilinear"

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Preprocessing:
        """From config.json, or from a `pretrained_cfg` of timm: other keys are left
        out.
        """
        known = {name.name for name in fields(cls)}
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in record.items()
            if key in known and value is not None
        }
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def resized(self, size: int | str | tuple[int, ...]) -> Preprocessing:
        """The same for images of another size, and other channels where it names
        them.
        """
        shape = image_shape(size, self.input_size)
        return replace(self.with_channels(shape[0]), input_size=shape)

    def with_channels(self, channels: int) -> Preprocessing:
        """For another number of channels, each with the average of `mean` and `std`."""
        if channels == len(self.mean):
            return replace(self, input_size=(channels, *self.input_size[1:]))
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        shape = (channels, *self.input_size[1:])
        return replace(self, input_size=shape, mean=(mean,) * channels, std=(std,) * channels)


@dataclass(frozen=True)
class Input:
    """One positional argument of a network's `forward`; a kind of its own overrides
    `shape` and `values`.

    `follows` names the constructor's argument that changes the shape or the values.
    """

    follows: ClassVar[str] = ""

    def shape(self, model_args: Mapping[str, Any] | None = None) -> tuple[int, ...]:
        """Without the batch."""
        raise NotImplementedError

    def values(self, shape: tuple[int, ...], model_args: Mapping[str, Any]) -> torch.Tensor:
        """Random values as a network expects them, on the CPU."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.float32

    def resized(self, size: int | str | tuple[int, ...]) -> Input:
        """The same with images of another size. Raises InputError where there are
        none.
        """
        raise InputError(f"input_size={size!r} is for images, and this network takes {self}")

    def example(
        self,
        batch_size: int = 1,
        *,
        device: torch.device | str = "cpu",
        model_args: Mapping[str, Any] | None = None,
    ) -> torch.Tensor:
        """A batch of the right shape and type, for a network built with
        `model_args`.
        """
        import torch

        shape = (batch_size, *self.shape(model_args))
        if torch.device(device).type == "meta":
            return torch.empty(shape, dtype=self.dtype, device=device)
        return self.values(shape, model_args or {}).to(device)


@dataclass(frozen=True)
class TensorInput(Input):
    """Floating-point numbers (N, *size), normal-distributed in an example."""

    size: tuple[int, ...]

    def shape(self, model_args: Mapping[str, Any] | None = None) -> tuple[int, ...]:
        return self.size

    def values(self, shape: tuple[int, ...], model_args: Mapping[str, Any]) -> torch.Tensor:
        import torch

        return torch.randn(shape)

    def __str__(self) -> str:
        return "x".join(map(str, self.size))


@dataclass(frozen=True)
class ImageInput(Input):
    """Images (N, C, H, W), or clips (N, frames, C, H, W), normalised.

    `min_size`: the smallest height and width; `fixed`: only `size` is possible; `mean`
    and `std`: of values in [0, 1], per channel.
    """

    size: tuple[int, int, int] = (3, 224, 224)  # (C, H, W)
    _: KW_ONLY
    min_size: int = 1
    fixed: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    frames: int = 0
    follows: ClassVar[str] = "in_chans"

    def shape(self, model_args: Mapping[str, Any] | None = None) -> tuple[int, ...]:
        channels = (model_args or {}).get(self.follows) or self.size[0]
        image = (channels, *self.size[1:])
        return (self.frames, *image) if self.frames else image

    def values(self, shape: tuple[int, ...], model_args: Mapping[str, Any]) -> torch.Tensor:
        import torch

        return torch.randn(shape)

    def resized(self, size: int | str | tuple[int, ...]) -> ImageInput:
        return replace(self, size=image_shape(size, self.size))

    def preprocessing(self, in_chans: int = 0) -> Preprocessing:
        """What makes such inputs of images; `in_chans` 0: those of `size`."""
        crop_pct = 0.875 if self.size[1] > SMALL_IMAGE else 1.0
        own = Preprocessing(self.size, self.mean, self.std, crop_pct)
        return own.with_channels(in_chans or self.size[0])

    def __str__(self) -> str:
        limit = "only" if self.fixed else f"{self.min_size} or larger"
        return f"{'x'.join(map(str, self.shape()))}{' ' if self.fixed else ', '}{limit}"


@dataclass(frozen=True)
class TokenInput(Input):
    """Token numbers (N, length), each below `vocab_size`."""

    vocab_size: int
    length: int
    follows: ClassVar[str] = "vocab_size"

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.int64

    def shape(self, model_args: Mapping[str, Any] | None = None) -> tuple[int, ...]:
        return (self.length,)

    def values(self, shape: tuple[int, ...], model_args: Mapping[str, Any]) -> torch.Tensor:
        import torch

        return torch.randint(model_args.get(self.follows) or self.vocab_size, shape)

    def __str__(self) -> str:
        return f"{self.length} tokens of {self.vocab_size:,}"


@dataclass(frozen=True, kw_only=True)
class Specials:
    """The numbers that no word has: of the start, of the end and of any unknown word;
    None where a network has none. START and END may share one: the one is only given,
    the other only predicted.
    """

    start: int | None = None
    end: int
    unknown: int | None = None

    @property
    def count(self) -> int:
        """Numbers before the first word."""
        given = [each for each in (self.start, self.end, self.unknown) if each is not None]
        return max(given) + 1
