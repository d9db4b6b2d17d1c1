"""Random parts act only in training, and the seed decides: dropout, drop-path,
stochastic depth, auxiliary heads of every family.
"""

import inspect

import pytest
import torch
from oracle import disable_drop_path, small_size, smallest_rows, tiny
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
    args = tiny(name)
    if "drop_rate" in takes:
        args["drop_rate"] = 0.3
    size = small_size(name)
    if "aux" in takes:  # such heads need larger maps
        args["aux"] = True
        size = zoo.info(name).variant.image.size[1]
    model = zoo.create(name, **args)
    x = torch.randn(2, model.in_chans, size, size)
    random = any(
        isinstance(module, nn.Dropout) or hasattr(module, "disable_drop_path")
        for module in model.modules()
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

    disable_drop_path(model)
    assert torch.equal(outputs(model, x, 0)[0], outputs(model, x, 1)[0])
