"""Stochastic depth: the kept blocks against a plain second implementation and
torchvision, and what dropping does and does not do.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, build, disable_drop_path, error
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.models.stochastic_depth import Stochastic, coin, expected_blocks, stochastic, survivals

STAGES = ("stage1", "stage2", "stage3")
SMALL = {"blocks": (2, 2, 2)}


def plain_stochastic(decay="linear", coins=None):
    """Section 3 from the sheet for two blocks per stage and p_L = 0.5; in training the
    blocks that `coins` keep (None: all).
    """

    def peer(state, training):
        def conv(x, name, stride=1):
            return F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)

        def norm(x, name):
            mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
            if training:
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
            return x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]

        def forward(x):
            x = norm(conv(x, "features.conv1.conv"), "features.conv1.bn").clamp(min=0)
            for l in range(1, 7):
                name = f"features.{STAGES[(l - 1) // 2]}.{(l - 1) % 2}"
                skip, stride = x, 1
                if l in (3, 5):
                    stride = 2
                    skip = (
                        x[:, :, ::2, ::2]
                        + x[:, :, 1::2, ::2]
                        + x[:, :, ::2, 1::2]
                        + x[:, :, 1::2, 1::2]
                    ) / 4
                    skip = torch.cat([skip, torch.zeros_like(skip)], 1)
                f = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1").clamp(min=0)
                f = norm(conv(f, f"{name}.conv2"), f"{name}.bn2")
                p = 1 - l / 6 * 0.5 if decay == "linear" else 0.5
                factor = p if not training else 1 if coins is None or coins[l - 1] else 0
                x = (factor * f + skip).clamp(min=0)
            return x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


def torchvision_peer(state, training):
    """torchvision's bottleneck ResNet with p_l put into the last batch norm of each
    block.
    """
    from torchvision.models.resnet import Bottleneck, ResNet

    names = {"features.conv1.conv": "conv1", "features.conv1.bn": "bn1", "head": "fc"}
    names |= {f"features.conv{i + 1}_x": f"layer{i}" for i in (1, 2, 3, 4)}
    with torch.device("meta"):
        theirs = ResNet(Bottleneck, [1, 2, 1, 1])
    keys = {key: next(prefix for prefix in names if key.startswith(f"{prefix}.")) for key in state}
    theirs.load_state_dict(
        {names[p] + key.removeprefix(p): state[key] for key, p in keys.items()}, assign=True
    )
    blocks = [module for module in theirs.modules() if isinstance(module, Bottleneck)]
    for l, block in enumerate(blocks, 1):
        for parameter in block.bn3.parameters():
            parameter.data *= 1 if training else 1 - l / 5 * 0.5
    return theirs.train(training)


CIFAR = Case("resnet110_sd_cifar10", plain_stochastic(), batch=4, model_args=SMALL)
IMAGENET = Case("resnet152_sd", torchvision_peer, size=64, model_args={"blocks": (1, 2, 1, 1)})
UNIFORM = Case(
    "resnet110_sd_cifar10",
    plain_stochastic("uniform"),
    batch=4,
    model_args={**SMALL, "decay": "uniform"},
)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", [CIFAR, IMAGENET, UNIFORM], ids=str)
def test_full_logits(case, training):
    """Nothing dropped in training; every residual times p_l in evaluation."""
    assert error(case, training) < TOLERANCE


def subsample(model):
    model.features.stage2[0].downsample[0] = nn.MaxPool2d(1, 2)


def late_first_block(model):
    """The schedule of other libraries: the first block is always kept."""
    for block, probability in zip(stochastic(model), [1, *survivals(5, 0.5)], strict=True):
        block.survival = probability


@pytest.mark.parametrize("mutate", [subsample, late_first_block])
def test_the_oracle_sees_mistakes(mutate):
    assert error(CIFAR, mutate=mutate) > 10 * TOLERANCE


def fresh(seed=0, **fields):
    """A small network that drops half of its blocks, and images for it."""
    torch.manual_seed(seed)
    given = {**SMALL, "survival": 0.5, "decay": "uniform", **fields}
    return zoo.create("resnet110_sd_cifar10", **given).train(), torch.randn(4, 3, 32, 32)


@pytest.mark.parametrize("seed", range(3))
def test_dropped_blocks(seed):
    """Survivors are added as they are; the others are neither computed nor see the
    batch, forwards or backwards.
    """
    case = Case(
        "resnet110_sd_cifar10",
        plain_stochastic(),
        batch=4,
        model_args={**SMALL, "decay": "uniform"},
    )
    model, x = build(case)
    for block in stochastic(model):
        block.dropping = True
        block.bn1.num_batches_tracked.zero_()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(seed)
    coins = [coin(0.5) for _ in range(6)]
    assert 0 < sum(coins) < 6
    torch.manual_seed(seed)
    logits = model.train()(x)
    expected = plain_stochastic(coins=coins)(state, True)(x)
    assert (logits - expected).abs().max() / expected.std() < TOLERANCE
    logits.sum().backward()
    for block, kept in zip(stochastic(model), coins, strict=True):
        assert block.bn1.num_batches_tracked == kept
        assert all((parameter.grad is not None) == kept for parameter in block.parameters())


def test_all_blocks_may_drop():
    model, x = fresh(survival=1e-9)
    assert model(x).shape == (4, 10)
    assert [block.bn1.num_batches_tracked.item() for block in stochastic(model)] == [0] * 6


def test_reproducible_under_a_seed_and_off_in_evaluation():
    model, x = fresh()
    passes = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        passes.append(model(x))
    assert torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], passes[2])
    model.eval()
    before = torch.get_rng_state()
    assert torch.equal(model(x), model(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_recomputed_activations_keep_their_coins():
    model, x = fresh()
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(5)
        model(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert any(gradient is None for gradient in gradients[0])
    for plain, recomputed in zip(*gradients, strict=True):
        assert (plain is None and recomputed is None) or torch.equal(plain, recomputed)


def test_coins_are_drawn_on_the_cpu():
    torch.manual_seed(0)
    with torch.device("meta"):
        there = [coin(0.5) for _ in range(20)]
    torch.manual_seed(0)
    assert there == [coin(0.5) for _ in range(20)]
    assert 0.27 < sum(coin(0.3) for _ in range(5000)) / 5000 < 0.33


def test_survival_probabilities():
    """Equation 4 for L = 54, and the uniform rule."""
    blocks = stochastic(zoo.create("resnet110_sd_cifar10", device="meta"))
    assert len(blocks) == 54
    assert blocks[0].survival == pytest.approx(1 - 0.5 / 54)
    assert blocks[53].survival == 0.5
    assert expected_blocks(zoo.create("resnet110_sd_cifar10", device="meta")) == pytest.approx(
        40.25
    )
    assert survivals(3, 0.2, "uniform") == [0.2, 0.2, 0.2]


def test_expected_cost_of_training():
    """74.6 % of the MACs: what a block computes, its shortcut apart, counts with its
    probability.
    """
    model = zoo.create("resnet110_sd_cifar10", device="meta")
    profile = zoo.profile("resnet110_sd_cifar10")
    macs = {row.path: row.macs for row in profile.rows}
    expected = profile.macs
    for path, module in model.named_modules():
        if isinstance(module, Stochastic):
            expected -= (1 - module.survival) * (macs[path] - macs[f"{path}.downsample"])
    assert expected == pytest.approx(188_618_709.3, abs=0.1)


@pytest.mark.parametrize("size", [1, 3, 33])
def test_odd_sizes(size):
    """Where dimensions change, the pooled shortcut is as large as the strided
    branch.
    """
    model, _ = fresh()
    assert all(
        feature.shape[2] == -(-size // factor)
        for feature, factor in zip(maps(model, size), (1, 1, 2, 4), strict=True)
    )


def maps(model, size):
    return model.eval().forward_intermediates(
        torch.randn(2, 3, size, size), intermediates_only=True
    )


@pytest.mark.parametrize("mode", ["eval", "kept", "dropped"])
def test_gradients(mode):
    block = (
        zoo.create("resnet110_sd_cifar10", **SMALL)
        .features.stage2[0]
        .double()
        .train(mode != "eval")
    )
    block.survival = {"eval": 0.6, "kept": 1.0, "dropped": 0.0}[mode]
    x = torch.rand(2, 16, 4, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))


def test_dropless_keeps_evaluation():
    model, x = fresh()
    before = model.eval()(x)
    disable_drop_path(model)
    assert torch.equal(model(x), before)
    state = torch.get_rng_state()
    model.train()(x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("fields", [{"survival": 0.0}, {"survival": 1.5}, {"decay": "cosine"}])
def test_bad_fields(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        zoo.create("resnet110_sd_cifar10", **fields)
