"""Random parts act only in training, and the seed decides: dropout, drop-path,
stochastic depth, auxiliary heads of every family.
"""

import inspect

import pytest
import torch
from oracle import dropless, small_size, smallest_rows
from torch import nn

import zoo
from zoo import registry

# Of each family the smallest row, and those whose random parts it lacks: two of
# FractalNet's columns meet in joins.
NAMES = [*smallest_rows().values(), "fractalnet_c2"]
SEEDS = range(8)


def outputs(model, x, seed):
    """All logits beside one another, and whether the generator was asked for a
    number.
    """
    torch.manual_seed(seed)
    before = torch.get_rng_state()
    with torch.no_grad():
        logits = model(x)
    return torch.cat(logits, 1) if isinstance(logits, tuple) else logits, not torch.equal(
        before, torch.get_rng_state()
    )


@pytest.mark.parametrize("name", NAMES)
def test_random_parts(name):
    """With dropout and auxiliary heads wherever the constructor has them."""
    takes = inspect.signature(registry.family(name).build).parameters
    fields = {"drop_rate": 0.3} if "drop_rate" in takes else {}
    fields |= {"aux": True} if "aux" in takes else {}
    model = zoo.create(name, **fields)
    size = (
        zoo.info(name).variant.input_size[1] if "aux" in takes else small_size(name)
    )  # auxiliary heads need larger maps
    x = torch.randn(2, model.in_chans, size, size)
    random = any(
        isinstance(module, nn.Dropout) or hasattr(module, "dropless") for module in model.modules()
    )
    assert random or "drop_rate" not in takes

    model.eval()
    logits, drawn = outputs(model, x, 0)
    assert logits.shape == (2, model.num_classes), "auxiliary heads speak in training only"
    assert not drawn, "evaluation draws random numbers"

    model.train()
    first, drawn = outputs(model, x, 0)
    again, _ = outputs(model, x, 0)
    assert torch.equal(first, again), "the seed does not decide alone"
    assert first.shape[1] == model.num_classes * (1 + len(model.aux or ()))
    assert drawn == random
    assert random == any(not torch.equal(first, outputs(model, x, seed)[0]) for seed in SEEDS[1:])

    dropless(model)
    assert torch.equal(outputs(model, x, 0)[0], outputs(model, x, 1)[0])
