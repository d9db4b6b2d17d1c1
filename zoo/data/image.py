"""Image files of any kind, brought upright and to 8-bit RGB or grey, and from there to
a network's input.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, InputError, check_choice
from zoo.spec import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

EXTENSIONS = frozenset([
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
])  # fmt: skip
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
MAX_ASPECT = 16  # long to short side, beyond which a centre crop sees nothing


class EvalTransform:
    """The preprocessing of evaluation, PIL image to tensor (C, H, W), with Pillow and
    torch alone: to the bit that of `zoo.data.transforms.build_transform`, without
    torchvision, which takes longer to import than all that is done here. Raises
    InputError for an interpolation that there is not.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        check_choice("transforms", "interpolation", preprocessing.interpolation, INTERPOLATIONS)
        self.preprocessing = preprocessing

    def __call__(self, image: Image) -> Tensor:
        return self.tensor(self.crop(image))

    def crop(self, image: Image) -> Image:
        """In 8-bit RGB or grey and of the input's size."""
        _, height, width = self.preprocessing.input_size
        return centre(self.resized(image), width, height)

    def resized(self, image: Image) -> Image:
        """As the crop is cut out of it: in 8-bit RGB or grey, and of the size that
        `Preprocessing` says.
        """
        wanted = self.preprocessing
        image = convert(image, wanted.input_size[0])
        if wanted.crop_mode == "squash":
            return self._resized(image, *stretched_sides(wanted))
        image = trim(image)
        shorter, short = resized_side(wanted), min(image.size)
        sides = (int(shorter * side / short) if side > short else shorter for side in image.size)
        return self._resized(image, *sides)

    def tensor(self, crop: Image) -> Tensor:
        """(C, H, W), in [0, 1], minus the mean, over the standard deviation."""
        import numpy
        import torch

        wanted = self.preprocessing
        pixels = torch.from_numpy(numpy.array(crop)).view(crop.height, crop.width, -1)
        scaled = pixels.permute(2, 0, 1).to(torch.float32).mul_(1 / 255)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (wanted.mean, wanted.std))
        return scaled.sub_(mean).div_(std)

    def _resized(self, image: Image, width: int, height: int) -> Image:
        from PIL.Image import Resampling

        if image.size == (width, height):
            return image
        name = self.preprocessing.interpolation.removesuffix("-exact").upper()
        return image.resize((width, height), Resampling[name])


def image_of(tensor: Tensor, preprocessing: Preprocessing) -> Image:
    """What a network sees, (C, H, W) after its preprocessing, as an image again. Of
    other numbers of channels than 1 and 3 the first one is shown.
    """
    import torch
    from PIL import Image

    mean, std = (
        torch.tensor(each).view(-1, 1, 1) for each in (preprocessing.mean, preprocessing.std)
    )
    pixels = (tensor.float().cpu() * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)
    if len(pixels) != 3:
        return Image.fromarray(pixels[0].numpy())
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def resized_side(preprocessing: Preprocessing) -> int:
    """What the shorter side of an image becomes before its centre is cut out."""
    return int(max(preprocessing.input_size[1:]) / preprocessing.crop_pct)


def stretched_sides(preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height that an image is stretched to before its centre is cut out."""
    _, height, width = preprocessing.input_size
    return int(width / preprocessing.crop_pct), int(height / preprocessing.crop_pct)


def trim(image: Any) -> Any:
    """Without the ends of a very thin image, which a crop of its centre does not show;
    resized with them, one of 30,000 x 1 pixels takes gigabytes. A PIL image, or a
    tensor (..., H, W).
    """
    tensor = not isinstance(image.size, tuple)
    width, height = (image.shape[-1], image.shape[-2]) if tensor else image.size
    longest = MAX_ASPECT * min(width, height)
    left, top = (max((side - longest) // 2, 0) for side in (width, height))
    if not left and not top:
        return image
    if tensor:
        return image[..., top : height - top, left : width - left]
    return image.crop((left, top, width - left, height - top))


def centre(image: Image, width: int, height: int) -> Image:
    """The part in the middle; what an image does not have is black."""
    wide, high = max(image.width, width), max(image.height, height)
    left, top = -((wide - image.width) // 2), -((high - image.height) // 2)
    left, top = left + round((wide - width) / 2), top + round((high - height) / 2)
    return image.crop((left, top, left + width, top + height))


def is_image_name(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def open_image(path: str | Path) -> Image:
    """The decoded image of a file in its own mode, turned upright as its EXIF data say;
    of an animation the first frame.

    Raises DataError, with the file's name and the reason.
    """
    with warnings.catch_warnings():
        # Pillow's remarks on odd metadata; what matters is an error
        warnings.simplefilter("ignore")
        return decode(path)


def decode(path: str | Path) -> Image:
    """`open_image` for threads, in which warnings cannot be held back."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return _upright(image)
    except Exception as error:  # decoders fed with garbage raise anything
        raise DataError(f"{path}: {_reason(error)}") from error


def _upright(image: Image) -> Image:
    """Turned as its EXIF data say. Malformed ones say nothing: they are no reason to
    refuse the image.
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }  # fmt: skip
    try:
        turn = turns.get(image.getexif().get(0x0112, 1))
    except Exception:  # its parser raises anything
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


def convert(image: Image, channels: int) -> Image:
    """The image as 8-bit RGB (3 channels) or grey (1): transparency over white, 16 bit
    scaled to 8 and not clipped.

    Raises DataError for pixels whose range is not known, InputError for other numbers
    of channels.
    """
    from PIL import Image

    if channels not in (1, 3):
        raise InputError(
            f"images have 1 or 3 channels; this network takes {channels}: give a Dataset of tensors"
        )
    if image.mode.startswith("I"):
        image = _to_8_bit(image)
    elif image.mode == "F":
        raise DataError("its pixels are floating-point numbers of unknown range")
    if _mode(image) == "transparent":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _to_8_bit(image: Image) -> Image:
    import numpy
    from PIL import Image

    pixels = numpy.asarray(image).astype(numpy.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise DataError("its pixels are integers beyond 16 bit")
    return Image.fromarray(((pixels + 128) // 257).astype(numpy.uint8))  # 65535 = 257 * 255


def inspect_image(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode in words and size (width, height) of an image file after decoding all of it.
    Raises DataError with the reason alone.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, size = _mode(image), image.size
            # JPEG: reads every byte, computes an eighth of the pixels
            image.draft(image.mode, (size[0] // 8, size[1] // 8))
            image.load()
            upright = _upright(image)
            if mode not in ("colour", "grey"):
                convert(upright, 3)
            return mode, size
    except Exception as error:  # as above
        raise DataError(_reason(error)) from error


def _mode(image: Image) -> str:
    """In words: colour, grey, palette, transparent, 16 bit, or Pillow's own name."""
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return "transparent"
    if image.mode.startswith("I"):
        return "16 bit"
    return {"RGB": "colour", "L": "grey", "1": "grey", "P": "palette"}.get(image.mode, image.mode)


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # no such file, permission denied
    return str(error) or type(error).__name__
