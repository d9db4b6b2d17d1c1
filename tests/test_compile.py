"""Networks under torch's compilers, in evaluation mode: the logits are those of the
eager network.

Of each family the row with the fewest MACs, built small; those whose blocks another one
has too are slow.
"""

import pytest
import torch
from oracle import redraw, small_size, smallest_rows, tiny

import zoo

# The smallest FractalNet has one column, so no joins.
NAMES = [*smallest_rows().values(), "fractalnet_c2"]
FAMILIES_OF_THE_SAME_BLOCKS = {
    "alexnet": ("vgg", "zfnet"),
    "inception_resnet": ("googlenet", "bn_inception", "inception_v3", "inception_v4"),
}
SAME = [family for families in FAMILIES_OF_THE_SAME_BLOCKS.values() for family in families]
TOLERANCE = 1e-5  # of logits of spread one


def built(name):
    """The small network with drawn weights and statistics, images that it takes, and
    its logits.
    """
    model = zoo.create(name, **tiny(name))
    x = torch.randn(2, model.in_chans, *[small_size(name)] * 2)
    redraw(model, x, torch.Generator().manual_seed(1))
    logits = model.eval()(x)
    assert logits.std() > 0.1, "logits so alike would show nothing"
    torch.compiler.reset()  # other networks' traces count against the limit of recompilations
    return model, x, logits


def case(name):
    same = zoo.info(name).family in SAME
    return pytest.param(name, marks=[pytest.mark.slow] if same else [])


@pytest.mark.parametrize("name", [*map(case, NAMES)])
@torch.no_grad()
def test_compile_and_export(name):
    """Traced as one graph: nothing in the forward pass sends torch back to Python. The
    exported program holds no code of ours.
    """
    model, x, logits = built(name)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), logits, rtol=0, atol=TOLERANCE)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), logits, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
@torch.no_grad()
def test_inductor():
    """Generated and compiled code, which needs a C++ compiler."""
    model, x, logits = built("resnet20_cifar10")
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(x), logits, rtol=0, atol=TOLERANCE)
