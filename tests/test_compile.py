"""The smallest row of each family under torch's compilers, in evaluation mode: the
logits are those of the eager network.
"""

import pytest
import torch
from oracle import redraw, small_size, smallest_rows

import zoo

NAMES = [
    *smallest_rows().values(),
    "fractalnet_c2",
]  # the smallest FractalNet has one column, so no joins
DEEP = (
    "inception_v4",
    "inception_resnet_v1",
    "preresnet164_cifar10",
    "resnet110_sd_cifar10",
)  # 7 to 12 s each to trace
TOLERANCE = 1e-5  # of logits of spread one


def built(name):
    """The network with drawn weights and statistics, images that it takes, and its
    logits.
    """
    model = zoo.create(name)
    x = torch.randn(2, model.in_chans, *[small_size(name)] * 2)
    redraw(model, x, torch.Generator().manual_seed(1))
    logits = model.eval()(x)
    assert logits.std() > 0.1, "logits so alike would show nothing"
    torch.compiler.reset()  # what was traced for other networks counts against the limit of recompilations
    return model, x, logits


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in NAMES]
)
@torch.no_grad()
def test_compile_and_export(name):
    """Traced as one graph: nothing in the forward pass sends torch back to Python. The
    exported program holds no code of ours.
    """
    model, x, logits = built(name)
    torch.testing.assert_close(
        torch.compile(model, backend="aot_eager", fullgraph=True)(x), logits, rtol=0, atol=TOLERANCE
    )
    torch.testing.assert_close(
        torch.export.export(model, (x,)).module()(x), logits, rtol=0, atol=TOLERANCE
    )


@pytest.mark.slow
@torch.no_grad()
def test_inductor():
    """Generated and compiled code, which needs a C++ compiler."""
    model, x, logits = built("resnet20_cifar10")
    torch.testing.assert_close(
        torch.compile(model, fullgraph=True)(x), logits, rtol=0, atol=TOLERANCE
    )
