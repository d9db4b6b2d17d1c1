"""Attention drawn over photos, and photos with their captions."""

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from zoo.decoding.attention_plot import draw_attention
from zoo.errors import InputError, ZooError
from zoo.tasks.contact_sheet import Panel, draw_sheet

WORDS = ["a", "temple", "behind", "trees", "with", "a", "golden", "roof"]


@pytest.fixture(scope="module")
def photos():
    return [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


def coloured(path):
    """(y, x) of pixels that are not grey, as shares of the height and the width."""
    pixels = numpy.asarray(Image.open(path).convert("RGB")).astype(int)
    return numpy.argwhere(numpy.ptp(pixels, 2) > 40) / pixels.shape[:2]


def test_words_over_a_photo(photos, tmp_path):
    attention = torch.rand(len(WORDS), 5 * 7, requires_grad=True).softmax(1)
    for suffix, count in (("png", len(WORDS)), ("svg", 1)):
        path = tmp_path / f"attention.{suffix}"
        draw_attention(photos[0], WORDS[:count], attention[:count], (5, 7), path, title="a temple")
        assert path.stat().st_size > 50_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention.png", "attention.svg"]
    with Image.open(tmp_path / "attention.png") as picture:
        assert picture.width > 2 * picture.height, "nine panels of a wide photo in two rows"


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", [0, 3])
def test_the_place_is_right(tmp_path, row, column):
    """One place of 2x4 over a grey photo: the colour lies in its part of the second
    panel, which is the right half of the picture.
    """
    attention = torch.zeros(1, 2, 4)
    attention[0, row, column] = 1
    photo = Image.new("RGB", (320, 160), "grey")
    path = tmp_path / "place.png"
    draw_attention(photo, ["word"], attention.flatten(1), (2, 4), path)
    y, x = coloured(path).mean(0)
    assert (y > 0.5) == bool(row)
    assert x > 0.5
    assert (x > 0.75) == bool(column)


def test_no_weight_no_colour(tmp_path):
    photo, path = Image.new("L", (50, 50), 128), tmp_path / "none.png"
    draw_attention(photo, ["word"], torch.zeros(1, 9), (3, 3), path)
    assert not len(coloured(path))


def test_refused(photos, tmp_path):
    weights = torch.rand(2, 12)
    for words, grid in ((["a"], (3, 4)), (["a", "b"], (3, 3)), ([], (3, 4))):
        with pytest.raises(InputError, match=r"attention of shape \(2, 12\): expected \("):
            draw_attention(photos[0], words, weights, grid, tmp_path / "no.png")
    with pytest.raises(ZooError, match="cannot be written"):
        draw_attention(photos[0], ["a", "b"], weights, (3, 4), tmp_path / "no" / "folder.png")
    assert not list(tmp_path.iterdir()), "nothing half written"


def test_a_sheet_of_captions(photos, tmp_path):
    captions = ["a temple behind trees", "a large red flower with many long petals in the sun"]
    panels = [Panel(photo, caption) for photo, caption in zip(photos, captions, strict=True)]
    assert panels[0].text == "a temple behind trees"
    assert panels[1].text == "a large red flower with many\nlong petals in the sun"
    assert panels[0].colour == Panel(photos[0], "cat", 0.5).colour
    draw_sheet(panels, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > picture.height > 100
