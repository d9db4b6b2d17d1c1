"""The multilayer perceptrons against a plain second implementation."""

import pytest
import torch
from oracle import TOLERANCE, Case, error
from torch import nn

import zoo
from zoo.models.ciresan import ScaledTanh

WIDTHS = {"ciresan_mlp2": (1500, 1000, 500), "ciresan_mlp5": (1000,) * 9}  # sheet: Table 1


def plain_mlp(name):
    def peer(state, training):
        def forward(x):
            x = x.reshape(len(x), 29 * 29)
            for number, width in enumerate(WIDTHS[name], 1):
                weight, bias = (
                    state[f"features.fc{number}.linear.{part}"] for part in ("weight", "bias")
                )
                assert len(weight) == width
                x = 1.7159 * torch.tanh(0.6666 * (x @ weight.T + bias))
            return x @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


CASES = [Case(name, plain_mlp(name), batch=8) for name in WIDTHS]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def lose_scale(model):
    model.features.fc2.act = nn.Tanh()


def lose_activation(model):
    model.features.fc3.act = nn.Identity()


@pytest.mark.parametrize("mutate", [lose_scale, lose_activation])
def test_the_oracle_sees_mistakes(mutate):
    assert error(CASES[0], mutate=mutate) > 10 * TOLERANCE


def test_hidden_layers_are_maps_of_one_pixel():
    with torch.device("meta"):
        model = zoo.create("ciresan_mlp4", features_only=True)
    maps = model(torch.empty(2, 1, 29, 29, device="meta"))
    assert [tuple(m.shape) for m in maps] == [
        (2, width, 1, 1) for width in (2500, 2000, 1500, 1000, 500)
    ]


def test_scaled_tanh_gradient():
    assert torch.autograd.gradcheck(
        ScaledTanh(), torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    )
