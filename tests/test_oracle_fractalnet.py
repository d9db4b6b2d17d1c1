"""FractalNet against pytorchcv (which pools after the last join) and, as the authors
pool, against the paper's recursion; drop-path.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, build, disable_drop_path, error
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.models.fractalnet import FractalBlock, FractalNet, Join


def pytorchcv_peer(channels, columns):
    """pytorchcv counts columns from the deepest, and steps by where a column's
    convolution ends.
    """

    def peer(state, training):
        from pytorchcv.models.fractalnet_cifar import CIFARFractalNet

        renamed = {}
        for key, tensor in state.items():
            if key.startswith("head"):
                renamed[key.replace("head", "output")] = tensor
                continue
            _, block, _, column, i, *rest = key.split(".")
            step = (int(i) + 1) * 2 ** (columns - int(column))
            place = f"block{step}.subblock{columns + 1 - int(column)}"
            renamed[
                ".".join(["features", block.replace("block", "unit"), "block.blocks", place, *rest])
            ] = tensor
        with torch.device("meta"):
            theirs = CIFARFractalNet(
                channels, columns, [0.0] * 5, 0.0, 0.0, num_classes=len(state["head.bias"])
            )
        theirs.load_state_dict(renamed, assign=True)
        return theirs.train(training)

    return peer


def plain_fractal(columns, alone=0):
    """f_1(z) = conv(z), f_{C+1}(z) = join(f_C(f_C(z)), conv(z)); joins that feed joins
    are one; `alone`: the only column.
    """

    def peer(state, training):
        def conv(x, name):
            x = F.conv2d(x, state[f"{name}.conv.weight"], padding=1)
            mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
            if training:
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
            return (
                x * state[f"{name}.bn.weight"][:, None, None]
                + state[f"{name}.bn.bias"][:, None, None]
            ).clamp(min=0)

        def branches(x, column, block, used):
            """What the last join of f_column takes; `used` counts the convolutions of
            each column so far.
            """
            deeper = []
            if column < columns:
                inner = branches(x, column + 1, block, used)
                deeper = branches(torch.stack(inner).mean(0), column + 1, block, used)
            used[column] += 1
            return [*deeper, conv(x, f"features.{block}.columns.{column}.{used[column] - 1}")]

        def forward(x):
            for block in ("block1", "block2", "block3", "block4", "block5"):
                if alone:
                    for i in range(2 ** (alone - 1)):
                        x = conv(x, f"features.{block}.columns.{alone}.{i}")
                    x = F.max_pool2d(x, 2)
                else:
                    last = branches(x, 1, block, [0] * (columns + 1))
                    x = torch.stack([F.max_pool2d(branch, 2) for branch in last]).mean(0)
            return x.flatten(1) @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


NARROW = [16, 32, 64, 128, 128]
C3 = Case("fractalnet_c3", plain_fractal(3), batch=4)
CASES = [
    C3,
    Case("fractalnet_c1", plain_fractal(1), batch=4),
    Case("fractalnet_c4", plain_fractal(4), batch=4),
    Case("fractalnet_cifar10", plain_fractal(3), batch=4),
    Case("fractalnet_c3", plain_fractal(3, alone=3), batch=4, model_args={"column": 3}),
    Case("fractalnet_c3", plain_fractal(3, alone=1), batch=4, model_args={"column": 1}),
    Case("fractalnet_c3", pytorchcv_peer(NARROW, 3), batch=4, model_args={"pool": "join"}),
    Case("fractalnet_c4", pytorchcv_peer(NARROW, 4), batch=4, model_args={"pool": "join"}),
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def pool_the_join(model):
    model.features.block2.pool_first = False


def drop_relu(model):
    model.features.block3.columns["2"][1].relu = nn.Identity()


def swap_columns(model):
    columns = model.features.block3.columns
    columns["2"][1], columns["3"][3] = columns["3"][3], columns["2"][1]


def add_instead(model):
    model.features.block4.join.forward = sum


@pytest.mark.parametrize("mutate", [pool_the_join, drop_relu, swap_columns, add_instead])
def test_the_oracle_sees_mistakes(mutate):
    assert error(C3, mutate=mutate) > 10 * TOLERANCE


# ---------------------------------------------------------------------------- drop-path


def test_local_drop_path():
    """Each input is left out with probability 0.15, independently; one at random stays
    if none would; none in evaluation.
    """
    join = Join(0.15).train()
    maps = [torch.full((2, 1, 1, 1), 10.0**i) for i in range(3)]
    outcomes = [round(join(maps)[0].item(), 4) for _ in range(4000)]
    expected = {}
    for kept in range(1, 8):
        chosen = [i for i in range(3) if kept >> i & 1]
        chance = 0.85 ** len(chosen) * 0.15 ** (3 - len(chosen)) + (
            0.15**3 / 3 if len(chosen) == 1 else 0
        )
        expected[round(sum(10.0**i for i in chosen) / len(chosen), 4)] = chance
    assert set(outcomes) <= set(expected)
    for value, chance in expected.items():
        assert (
            abs(outcomes.count(value) / 4000 - chance) < 4 * (chance * (1 - chance) / 4000) ** 0.5
        )
    assert join.eval()(maps)[0].item() == 37


def test_a_join_never_drops_everything():
    join = Join(1.0).train()
    values = [join([torch.tensor(1.0), torch.tensor(2.0)]).item() for _ in range(100)]
    assert set(values) == {1.0, 2.0}


def test_gradients_of_the_layers():
    x = torch.randn(1, 1, 2, 2, dtype=torch.double, requires_grad=True)
    y = torch.randn(1, 1, 2, 2, dtype=torch.double, requires_grad=True)
    for drop_prob in (0.0, 0.5):

        def join(x, y, join=Join(drop_prob).train()):  # noqa: B008
            torch.manual_seed(3)
            return join([x, y])

        assert torch.autograd.gradcheck(join, (x, y))
    block = (
        FractalBlock(1, 1, columns=2, drop_rate=0.0, drop_path=0.0, pool="columns").double().eval()
    )
    assert torch.autograd.gradcheck(lambda x, *_: block(x), (x, *block.parameters()))


def test_global_drop_path():
    """Half of the mini-batches run one column, each as often as the others, and it is
    the same in all blocks.
    """
    model = zoo.create("fractalnet_c3").train()
    draws = [model.draw_column() for _ in range(3000)]
    assert abs(draws.count(0) / 3000 - 0.5) < 0.04
    assert all(abs(draws.count(column) / 3000 - 1 / 6) < 0.03 for column in (1, 2, 3))
    assert not any(model.eval().draw_column() for _ in range(100))
    ours, x = build(Case("fractalnet_c3", C3.peer, batch=4, model_args={"global_share": 1.0}))
    ours.global_share = 1.0
    state = {key: value.clone() for key, value in ours.state_dict().items()}
    columns = [plain_fractal(3, alone)(state, True)(x) for alone in (1, 2, 3)]
    seen = set()
    for _ in range(12):
        logits = ours.train()(x)
        [column] = [
            i
            for i, expected in enumerate(columns)
            if torch.allclose(logits, expected, rtol=1e-3, atol=1e-3)
        ]
        assert column == ours.drawn - 1
        seen.add(column)
    assert seen == {0, 1, 2}


def test_only_the_drawn_column_is_computed():
    model = zoo.create("fractalnet_c3", global_share=1.0).train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    without = {
        key.split(".")[3] for key, parameter in model.named_parameters() if parameter.grad is None
    }
    assert without == {"1", "2", "3"} - {str(model.drawn)}


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["local", "global"])
def test_drop_path_acts_in_training_only_and_follows_the_seed(share):
    """Also inside a default device, where the coins are still drawn on the CPU."""
    model = zoo.create("fractalnet_c3", global_share=share, drop_path=0.5, drop_rate=0.0)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(2, 3, 32, 32)

    def run(seed, training=True):
        model.load_state_dict(start)
        torch.manual_seed(seed)
        with torch.no_grad():
            return model.train(training)(x)

    passes = [run(seed) for seed in range(5)]
    assert all(torch.equal(run(seed), logits) for seed, logits in enumerate(passes))
    assert len({tuple(logits.flatten().tolist()) for logits in passes}) > 1
    assert torch.equal(run(0, training=False), run(1, training=False))
    with torch.device("meta"):
        assert all(torch.equal(run(seed), logits) for seed, logits in enumerate(passes))
    disable_drop_path(model)
    assert torch.equal(run(0), run(1))


def test_checkpointing_recomputes_what_was_drawn():
    """Even when another pass has drawn another column in between."""
    torch.manual_seed(0)
    model = zoo.create("fractalnet_c3", drop_path=0.5, drop_rate=0.3).train()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(2, 3, 32, 32)
    results = []
    for enable in (False, True):
        model.load_state_dict(start)
        model.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        gradients = []
        losses = [model(x).square().sum() for _ in range(6)]
        for loss in losses:
            model.zero_grad()
            loss.backward()
            gradients += [parameter.grad for parameter in model.parameters()]
        results.append((gradients, [buffer.clone() for buffer in model.buffers()]))
    for plain, recomputed in zip(*results, strict=True):
        for a, b in zip(plain, recomputed, strict=True):
            assert (a is b is None) or torch.equal(a, b)


# --------------------------------------------------------------------------- one column


@pytest.mark.parametrize("column", [1, 2, 3])
def test_a_column_as_a_network(column):
    """It shares its tensors with the whole network and is what `column=` builds; the
    deepest is a plain network of 20 convolutions.
    """
    whole, x = build(C3)
    alone = whole.column_network(column if column < 3 else 0).eval()
    assert isinstance(alone, FractalNet)
    assert sum(isinstance(module, nn.Conv2d) for module in alone.modules()) == 5 * 2 ** (column - 1)
    assert sum(isinstance(module, nn.Conv2d) for module in whole.modules()) == 5 * 7, (
        "the whole network is as before"
    )
    tensors = whole.state_dict(keep_vars=True)
    assert all(tensor is tensors[key] for key, tensor in alone.state_dict(keep_vars=True).items())
    expected = plain_fractal(3, alone=column)(dict(whole.state_dict()), False)(x)
    assert torch.allclose(alone(x), expected, rtol=1e-3, atol=1e-4)
    built = zoo.create("fractalnet_c3", column=column).eval()
    built.load_state_dict(alone.state_dict())
    assert torch.equal(built(x), alone(x))


def test_wrong_arguments():
    for column in (-1, 4):
        with pytest.raises(InputError, match=f"FractalNet: column={column}: expected 1 to 3"):
            zoo.create("fractalnet_cifar10", column=column)
    with pytest.raises(InputError, match="FractalNet: pool='mean': expected 'columns' or 'join'"):
        zoo.create("fractalnet_c1", pool="mean")
    with pytest.raises(InputError, match="expected a rate for each of 5 blocks"):
        zoo.create("fractalnet_c1", drop_rate=(0.1,))
