"""Image files of any kind, brought upright and to 8-bit RGB or grey."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DataError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = frozenset([
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff",
    ".webp",
])  # fmt: skip


def is_image_name(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def open_image(path: str | Path) -> Image:
    """The decoded image of a file in its own mode, turned upright as its EXIF data say;
    of an animation the first frame.

    Raises DataError, with the file's name and the reason.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow's remarks on odd metadata; what matters is an error
            warnings.simplefilter("ignore")
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
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # no such file, permission denied
    return str(error) or type(error).__name__
