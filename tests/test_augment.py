"""Each augmentation does what its paper says, by torch's random numbers alone."""

import pickle
from itertools import pairwise

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from zoo.data.augment import AUGMENTATIONS, RandomColourShift, RandomDistortion
from zoo.data.transforms import build_transform, principal_colours
from zoo.errors import InputError
from zoo.spec import Preprocessing

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
SMALL = Preprocessing(input_size=(3, 32, 32), crop_pct=1.0, **PLAIN)


def photo(height=90, width=120):
    return to_pil_image(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))


def made(name, preprocessing, image, times, colours=None):
    transform = build_transform(preprocessing, train=True, augment=name, colours=colours)
    torch.manual_seed(0)
    return [transform(image) for _ in range(times)]


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_one(name, channels):
    kind = Preprocessing(input_size=(channels, 32, 24)).with_channels(channels)
    colours = 0.1 * torch.eye(channels) if AUGMENTATIONS[name].colours else None
    transform = build_transform(kind, train=True, augment=name, colours=colours)
    transform = pickle.loads(pickle.dumps(transform))
    image, found = photo(), []
    for seed in (1, 1, 2, 3):
        torch.manual_seed(seed)
        found.append(transform(image))
    assert found[0].shape == (channels, 32, 24)
    assert found[0].dtype == torch.float32
    assert torch.equal(found[0], found[1])
    varied = not torch.equal(found[1], found[2]) or not torch.equal(found[2], found[3])
    assert varied == (name != "none")


@pytest.mark.parametrize("name", ["cifar", "cifar-reflect"])
def test_moved_by_up_to_four_pixels_and_mirrored(name):
    image = Image.new("RGB", (32, 32))
    image.putpixel((10, 16), (255, 255, 255))
    places = set()
    for x in made(name, SMALL, image, 400):
        places |= {tuple(place) for place in x[0].nonzero().tolist() if 12 <= place[0] <= 20}
    from_left = {column for _, column in places if column < 16}
    mirrored = {column for _, column in places if column > 16}
    assert from_left == set(range(6, 15))
    assert mirrored == {31 - column for column in from_left}
    assert {row for row, _ in places} == set(range(12, 21))
    white = [x.min() for x in made(name, SMALL, Image.new("RGB", (32, 32), "white"), 20)]
    assert (min(white) == 1) == (name == "cifar-reflect"), "padded with black"


@pytest.mark.parametrize(
    ("name", "largest"), [("crop", 1), ("crop-mirror", 1), ("vgg", 2), ("resnet", 480 / 256)]
)
def test_crops_of_the_image_at_the_papers_scales(name, largest):
    """By a picture whose grey value is the place: the crop's width, as a share of the
    image's, is 224 by 256 to 512.
    """
    ramp = torch.arange(512).div(2).byte().expand(3, 512, 512)
    kind = Preprocessing(input_size=(3, 56, 56), crop_pct=0.875, **PLAIN)
    colours = torch.zeros(3, 3) if AUGMENTATIONS[name].colours else None
    found = [x[0, 28] for x in made(name, kind, to_pil_image(ramp), 80, colours)]
    widths = [float((x[-1] - x[0]).abs()) * 56 / 55 for x in found]
    starts = [float(min(x[0], x[-1])) for x in found]
    assert max(widths) == pytest.approx(0.875, rel=0.05)
    assert min(widths) == pytest.approx(0.875 / largest, rel=0.05)
    assert min(starts) < 0.02 and max(start + w for start, w in zip(starts, widths)) > 0.98  # noqa
    flipped = sum(bool(x[-1] < x[0]) for x in found)
    assert flipped == 0 if name == "crop" else 20 < flipped < 60


def test_colours_along_the_principal_components():
    """AlexNet's: the variance of the pixels, times a number from N(0, 0.1)."""
    red = torch.tensor([0, 255], dtype=torch.uint8).repeat(8, 4)
    picture = torch.stack([red, torch.full_like(red, 51), torch.full_like(red, 51)])
    data = [(to_pil_image(picture), 0)] * 5
    colours = principal_colours(data, 3)
    expected = torch.zeros(3, 3)
    expected[0, 2] = 0.25 * 320 / 319  # of 0 and 1, as often
    torch.testing.assert_close(colours, expected, atol=1e-6, rtol=1e-3)
    torch.manual_seed(0)
    shift = RandomColourShift(colours)
    drawn = torch.stack([shift(torch.zeros(3, 2, 2)) for _ in range(2000)])
    assert torch.equal(drawn[:, :, :1, :1].expand_as(drawn), drawn), "one shift per image"
    assert drawn[:, 0, 0, 0].std() == pytest.approx(0.1 * 0.25, rel=0.05)
    assert drawn[:, 1:].abs().max() < 1e-7
    grey = principal_colours([(Image.new("L", (4, 4), 9), 0), (Image.new("L", (4, 4)), 1)], 1)
    assert grey.shape == (1, 1)
    with pytest.raises(InputError, match="augment='vgg': needs colours="):
        build_transform(SMALL, train=True, augment="vgg")


def square(**options):
    """A white square of 16 in 32 pixels, distorted by numbers that are given."""
    drawn = torch.zeros(1, 8)
    order = ("turn", "zoom", "right", "down", "horizontal", "vertical", "lean", "coin")
    for name, value in options.pop("drawn").items():
        drawn[0, order.index(name)] = value
    x = torch.zeros(1, 1, 32, 32)
    x[:, :, 8:24, 8:24] = 1
    return RandomDistortion(**options).distorted(x, drawn)[0, 0]


def sides(x):
    """Width and height of what is white."""
    return float(x[16].sum()), float(x[:, 16].sum())


def test_distortions_by_hand():
    assert sides(square(zoom=0.25, drawn={"zoom": 1})) == pytest.approx((20, 20), abs=0.1)
    stretched = square(stretch=0.5, drawn={"horizontal": 0.5, "vertical": -0.5})
    assert sides(stretched) == pytest.approx((20, 12), abs=0.1)
    moved = square(shift=0.125, drawn={"right": 1, "down": -0.5})  # of 32: 4 and 2 pixels
    assert moved[10:26, 4:20].min() == 1
    assert moved.sum() == 256
    turned = square(degrees=45, drawn={"turn": 1})
    assert sides(turned) == pytest.approx((16 * 2**0.5 - 1,) * 2, abs=0.3)  # half a pixel off
    leaning = square(shear=45, drawn={"lean": 1})
    rows = leaning.argmax(1).tolist()
    assert [early - late for early, late in pairwise(rows[8:24])] == [1] * 15
    both = {"degrees": 45, "shear": 45}
    for coin, other in ((-1, leaning), (1, turned)):
        found = square(**both, drawn={"turn": 1, "lean": 1, "coin": coin})
        assert torch.equal(found, other), "one of both"


def test_elastic_displacement():
    """A field of U(-1, 1), smoothed by a Gaussian, is of (1 / 3)^(1/2) / (2 sigma
    pi^(1/2)): with 6 and 36 about one pixel.
    """
    torch.manual_seed(0)
    bend = RandomDistortion(sigma=6, alpha=36)
    ramp = torch.arange(64.0).expand(50, 1, 64, 64)
    field = 2 * torch.rand(50, 2, 64, 64) - 1
    moved = (bend.distorted(ramp, torch.zeros(50, 8), field) - ramp)[:, :, 24:40, 24:40]
    assert moved.std() == pytest.approx(36 * 3**-0.5 / (12 * torch.pi**0.5), rel=0.1)
    assert (moved[..., 1:] - moved[..., :-1]).abs().max() < 1, "neighbours go together"


def test_a_batch_is_its_images():
    torch.manual_seed(0)
    distortion, images = AUGMENTATIONS["elastic"].distortion, torch.rand(4, 2, 20, 24)
    drawn, field = 2 * torch.rand(4, 8) - 1, 2 * torch.rand(4, 2, 20, 24) - 1
    together = distortion.distorted(images, drawn, field)
    alone = [
        distortion.distorted(*(part[i : i + 1] for part in (images, drawn, field)))
        for i in range(4)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
