"""OverFeat against a plain second implementation, and its dense evaluation against
running every window by itself.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, build, error
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.models.overfeat import TABLE_1, TABLE_3

STRIDES = {
    "overfeat_fast": (4, 1, 1, 1, 1),
    "overfeat_accurate": (2, 1, 1, 1, 1, 1),
}  # sheet: of the convolutions
POOLS = {"overfeat_fast": (2, 2, 0, 0, 2), "overfeat_accurate": (3, 2, 0, 0, 0, 3)}


def narrow(table, **model_args):
    """The network with a sixteenth of its maps."""
    return {
        "layers": tuple((channels // 16, *rest) for channels, *rest in table),
        "hidden": (96, 128),
        "num_classes": 20,
        **model_args,
    }


def plain_overfeat(name, padding=1):
    """Fully connected layers as matrix products over each window of the last pooled
    map, then the maximum over the windows.
    """

    def peer(state, training):
        def forward(x):
            for n, (stride, pool) in enumerate(zip(STRIDES[name], POOLS[name], strict=True), 1):
                weight, bias = (
                    state[f"features.stage{n}.conv.{part}"] for part in ("weight", "bias")
                )
                x = F.conv2d(x, weight, bias, stride, padding if weight.shape[2] == 3 else 0).clamp(
                    min=0
                )
                x = F.max_pool2d(x, pool, pool) if pool else x
            hidden = [
                key.removesuffix(".weight")
                for key in state
                if key.startswith("neck.") and key.endswith(".weight")
            ]
            side = 6 if name == "overfeat_fast" else 5
            scores = []
            for i in range(x.shape[2] - side + 1):
                for j in range(x.shape[3] - side + 1):
                    y = x[:, :, i : i + side, j : j + side].flatten(1)
                    for layer in hidden:
                        y = (
                            y @ state[f"{layer}.weight"].flatten(1).T + state[f"{layer}.bias"]
                        ).clamp(min=0)
                    scores.append(y @ state["head.weight"].flatten(1).T + state["head.bias"])
            return torch.stack(scores).amax(0)

        return forward

    return peer


WHOLE = Case("overfeat_fast", plain_overfeat("overfeat_fast"), size=263, batch=1)
FAST = Case("overfeat_fast", plain_overfeat("overfeat_fast"), size=295, model_args=narrow(TABLE_1))
ACCURATE = Case(
    "overfeat_accurate", plain_overfeat("overfeat_accurate"), size=257, model_args=narrow(TABLE_3)
)
UNPADDED = Case(
    "overfeat_accurate",
    plain_overfeat("overfeat_accurate", 0),
    size=353,
    model_args=narrow(TABLE_3, padding=0),
)
FAST_UNPADDED = Case(
    "overfeat_fast",
    plain_overfeat("overfeat_fast", 0),
    size=375,
    model_args=narrow(TABLE_1, padding=0),
)


CASES = {
    "fast": (FAST, False),
    "accurate": (ACCURATE, False),
    "accurate-train": (ACCURATE, True),
    "unpadded": (UNPADDED, False),
}


@pytest.mark.parametrize(("case", "training"), CASES.values(), ids=CASES.keys())
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


@pytest.mark.slow
def test_full_logits_of_the_whole_network():
    assert error(WHOLE) < TOLERANCE


def drop_relu(model):
    model.features.stage3.relu = nn.Identity()


def drop_hidden_relu(model):
    model.neck.relu8 = nn.Identity()


def average_scores(model):
    model.forward_head = lambda x: model.head(model.neck(x)).mean((2, 3))


@pytest.mark.parametrize("mutate", [drop_relu, drop_hidden_relu, average_scores])
def test_the_oracle_sees_mistakes(mutate):
    assert error(ACCURATE, mutate=mutate) > 10 * TOLERANCE


def dense(case, height, width):
    """A network with drawn weights, images whose fine map has `height` x `width`
    scores, and that map.
    """
    model, _ = build(case)
    step = model.step // model.pool
    x = torch.randn(2, 3, model.window + step * (height - 1), model.window + step * (width - 1))
    with torch.no_grad():
        scores = model.eval().forward_map(x, fine=True)
    assert scores.shape == (2, 20, height, width)
    return model, x, scores


def assert_same(scores, others):
    assert 0.1 < scores.std() < 10
    assert (scores - others).abs().max() < TOLERANCE * scores.std()


@torch.no_grad()
@pytest.mark.parametrize(
    ("case", "height", "width"), [(ACCURATE, 6, 9), (FAST, 5, 4), (ACCURATE, 2, 1)]
)
def test_fine_map_is_every_window_of_the_unpooled_map(case, height, width):
    model, x, scores = dense(case, height, width)
    maps = model.forward_features(x)
    side = model.pool * model.side
    windows = [
        [model.head(model.neck(maps[:, :, i : i + side, j : j + side])) for j in range(width)]
        for i in range(height)
    ]
    assert_same(scores, torch.cat([torch.cat(row, 3) for row in windows], 2))
    assert_same(scores[:, :, :: model.pool, :: model.pool], model.forward_map(x))
    assert_same(scores[:, :, :: model.pool, :: model.pool].amax((2, 3)), model(x))


@torch.no_grad()
@pytest.mark.parametrize("case", [UNPADDED, FAST_UNPADDED], ids=["accurate", "fast"])
def test_fine_map_is_every_crop_of_the_image(case):
    model, x, scores = dense(case, 4, 5)
    assert_same(scores, every_crop(model, x, 4, 5))


@torch.no_grad()
def test_padding_makes_crops_differ():
    model, x, scores = dense(ACCURATE, 4, 5)
    difference = (scores - every_crop(model, x, 4, 5)).square().mean().sqrt() / scores.std()
    assert 0.01 < difference < 1


def every_crop(model, x, height, width):
    step = model.step // model.pool
    places = [(i * step, j * step) for i in range(height) for j in range(width)]
    crops = torch.stack(
        [model(x[:, :, i : i + model.window, j : j + model.window]) for i, j in places], -1
    )
    return crops.unflatten(-1, (height, width))


@torch.no_grad()
def test_fine_map_is_a_dilated_classifier():
    """Pooling at every pixel and spreading the classifier's taps over them gives the
    same map.
    """
    model, x, scores = dense(ACCURATE, 6, 7)
    y = F.max_pool2d(model.forward_features(x), model.pool, stride=1)
    y = F.conv2d(y, model.neck.fc7.weight, model.neck.fc7.bias, dilation=model.pool).relu()
    assert_same(scores, model.head(model.neck.fc8(y).relu()))


@torch.no_grad()
def test_scales():
    model, _ = build(ACCURATE)
    model.eval()
    scales = [torch.randn(2, 3, 245, 245), torch.randn(2, 3, 245, 281)]
    views = [
        model.forward_map(view, fine=True).amax((2, 3)) for x in scales for view in (x, x.flip(-1))
    ]
    assert_same(model.forward_scales(scales), sum(views) / 4)


TABLE_5 = {  # sheet: input: unpooled map, scores of one offset, interleaved scores
    (245, 245): ((17, 17), (1, 1), (3, 3)),
    (281, 317): ((20, 23), (2, 3), (6, 9)),
    (317, 389): ((23, 29), (3, 5), (9, 15)),
    (389, 461): ((29, 35), (5, 7), (15, 21)),
    (425, 497): ((32, 38), (6, 8), (18, 24)),
    (461, 569): ((35, 44), (7, 10), (21, 30)),
}


def test_map_sizes_of_table_5():
    with torch.device("meta"):
        model = zoo.create("overfeat_accurate")
    for size, (unpooled, coarse, fine) in TABLE_5.items():
        x = torch.empty(1, 3, *size, device="meta")
        assert model.forward_features(x).shape[2:] == unpooled
        assert model.forward_map(x).shape == (1, 1000, *coarse)
        assert model.forward_map(x, fine=True).shape == (1, 1000, *fine)


WINDOWS = [(FAST, 1, 231), (ACCURATE, 1, 221), (FAST, 0, 327), (ACCURATE, 0, 317)]


@torch.no_grad()
@pytest.mark.parametrize(("case", "padding", "window"), WINDOWS)
def test_window_is_the_smallest_input(case, padding, window):
    model = zoo.create(case.name, **{**case.model_args, "padding": padding})
    assert model.window == window
    assert model.forward_map(torch.zeros(1, 3, window, window)).shape == (1, 20, 1, 1)
    smaller = torch.zeros(1, 3, window - 1, window)
    with pytest.raises(InputError, match=f"{window}x{window} or larger, not {window - 1}x{window}"):
        model(smaller)
    with pytest.raises(RuntimeError):
        model.head(model.neck(model.features(smaller)))


def test_headless_map():
    with torch.device("meta"):
        model = zoo.create("overfeat_accurate", num_classes=0)
    assert model.forward_map(torch.empty(1, 3, 245, 245, device="meta"), fine=True).shape == (
        1,
        4096,
        3,
        3,
    )
