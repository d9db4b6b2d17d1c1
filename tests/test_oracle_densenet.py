"""DenseNet against torchvision (ImageNet) and pytorchcv (CIFAR, BC), the basic networks
against a plain second implementation; memory.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, build, error, torchvision_peer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import set_checkpoint_early_stop

import zoo
from zoo.errors import InputError
from zoo.interfaces.network import BatchNorm
from zoo.layers import init
from zoo.models.densenet import DenseBlock, DenseLayer


def pytorchcv_peer(state, training):
    """pytorchcv's DenseNet-BC of 100 layers, k=12: its stage holds the transition
    before its layers.
    """
    from pytorchcv.models.densenet_cifar import densenet100_k12_bc_cifar10

    names = {
        "features.stem.conv": "features.init_block",
        "features.stage3.norm": "features.post_activ.bn",
        "head": "output",
    }
    for stage in (1, 2, 3):
        names |= {
            f"features.stage{stage}.transition.norm": f"features.stage{stage}.trans{stage}.conv.bn"
        }
        names |= {
            f"features.stage{stage}.transition.conv": f"features.stage{stage}.trans{stage}.conv.conv"
        }
        for i in range(1, 17):
            ours, theirs = (
                f"features.stage{stage}.dense.denselayer{i}",
                f"features.stage{stage}.unit{i}",
            )
            for n in (1, 2):
                names |= {
                    f"{ours}.norm{n}": f"{theirs}.conv{n}.bn",
                    f"{ours}.conv{n}": f"{theirs}.conv{n}.conv",
                }
    with torch.device("meta"):
        theirs = densenet100_k12_bc_cifar10()
    parts = {key: key.rpartition(".") for key in state}
    theirs.load_state_dict(
        {f"{names[parts[key][0]]}.{parts[key][2]}": tensor for key, tensor in state.items()},
        assign=True,
    )
    return theirs.train(training)


def plain_basic(layers):
    """Section 3 without B and C: the input of each layer is rebuilt from all maps
    before it.
    """

    def peer(state, training):
        def norm_relu(x, name):
            mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
            if training:
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
            return (
                x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]
            ).clamp(min=0)

        def forward(x):
            x = F.conv2d(x, state["features.stem.conv.weight"], padding=1)
            for stage in (1, 2, 3):
                if stage > 1:
                    name = f"features.stage{stage}.transition"
                    weight = state[f"{name}.conv.weight"]
                    assert weight.shape == (x.shape[1], x.shape[1], 1, 1), "no compression"
                    x = torch.einsum(
                        "nchw,oc->nohw", norm_relu(x, f"{name}.norm"), weight[:, :, 0, 0]
                    )
                    x = (
                        x[:, :, ::2, ::2]
                        + x[:, :, 1::2, ::2]
                        + x[:, :, ::2, 1::2]
                        + x[:, :, 1::2, 1::2]
                    ) / 4
                for i in range(1, layers + 1):
                    name = f"features.stage{stage}.dense.denselayer{i}"
                    new = F.conv2d(
                        norm_relu(x, f"{name}.norm1"), state[f"{name}.conv1.weight"], padding=1
                    )
                    assert new.shape[1] == 12
                    x = torch.cat([x, new], 1)
            x = norm_relu(x, "features.stage3.norm").mean((2, 3))
            return x @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


DENSENET121 = Case("densenet121", torchvision_peer("densenet121"), size=64)
BASIC = Case("densenet40_k12_cifar10", plain_basic(12))
BC = Case("densenet_bc100_k12_cifar10", pytorchcv_peer)
CASES = [
    DENSENET121,
    Case(
        "densenet121",
        torchvision_peer("densenet121"),
        size=64,
        model_args={"memory_efficient": True},
    ),
    BASIC,
    BC,
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


@pytest.mark.parametrize("name", ["densenet161", "densenet169", "densenet201"])
def test_the_torchvision_layout_fits_every_row(name):
    import torchvision

    with torch.device("meta"):
        ours = zoo.export_state_dict(zoo.create(name), "torchvision")
        theirs = torchvision.models.get_model(name).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {
        key: tensor.shape for key, tensor in theirs.items()
    }


def drop_relu(model):
    model.features.stage3.dense.denselayer5.relu2 = nn.Identity()


def drop_last_relu(model):
    model.features.stage4.relu = nn.Identity()


def swap_norms(model):
    layers = model.features.stage2.dense
    layers.denselayer3.norm2, layers.denselayer4.norm2 = (
        layers.denselayer4.norm2,
        layers.denselayer3.norm2,
    )


def reverse_maps(model):
    layer = model.features.stage1.dense.denselayer5
    reduce = layer.reduce
    layer.reduce = lambda *maps: reduce(*maps[:-2], maps[-1], maps[-2])


def pool_the_maximum(model):
    model.features.stage2.transition.pool = nn.MaxPool2d(2)


@pytest.mark.parametrize(
    ("case", "mutate"),
    [
        (DENSENET121, drop_relu),
        (DENSENET121, drop_last_relu),
        (DENSENET121, swap_norms),
        (BASIC, reverse_maps),
        (BASIC, pool_the_maximum),
    ],
)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


# --------------------------------------------------------------------- memory_efficient


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("densenet_bc100_k12_cifar10", {"blocks": (4, 4, 4), "drop_rate": 0.2}),
        ("densenet40_k12_cifar10", {"blocks": (4, 4, 4), "drop_rate": 0.2}),
        ("densenet121", {"blocks": (2, 2, 2, 2)}),
    ],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_efficient_changes_nothing(name, fields, checkpointing):
    """Equal to the last bit over two steps: logits, gradients, and every buffer, the
    number of batches included.
    """
    x = torch.randn(2, 3, 32, 32)
    results = []
    start = zoo.create(name, **fields).state_dict()
    for efficient in (False, True):
        model = zoo.create(name, memory_efficient=efficient, **fields).train()
        model.load_state_dict(start)
        model.set_grad_checkpointing(checkpointing and efficient)
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        seen = []
        for _ in range(2):
            optimizer.zero_grad()
            logits = model(x)
            logits.square().sum().backward()
            optimizer.step()
            seen += [logits.detach(), *(parameter.grad.clone() for parameter in model.parameters())]
        seen += [buffer.clone() for buffer in model.buffers()]
        results.append(seen)
        assert all(
            norm.num_batches_tracked == 2 and norm.momentum == 0.1
            for norm in model.modules()
            if isinstance(norm, BatchNorm)
        )
    assert all(torch.equal(plain, efficient) for plain, efficient in zip(*results, strict=True))


def kept_bytes(model, x):
    """Bytes of activations that are alive for the backward pass: what autograd saves,
    and the maps that recomputing starts from.
    """
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage  # held, so that its address is not given to another
        return tensor

    def keep_maps(layer, args):
        for tensor in args[0]:
            keep(tensor)

    handles = [
        layer.register_forward_pre_hook(keep_maps)
        for layer in model.modules()
        if isinstance(layer, DenseLayer)
    ]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(x).sum()
    for handle in handles:
        handle.remove()
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("name", "at_most"), [("densenet_bc100_k12_cifar10", 0.45), ("densenet40_k12_cifar10", 0.25)]
)
def test_memory_efficient_keeps_less(name, at_most):
    x = torch.randn(2, 3, 32, 32)
    plain, efficient = (
        kept_bytes(zoo.create(name, memory_efficient=option).train(), x) for option in (False, True)
    )
    assert efficient < at_most * plain


def dense_block(layers, in_chans, *, bottleneck=True, memory_efficient):
    return DenseBlock(
        layers,
        in_chans,
        4,
        bottleneck=bottleneck,
        drop_rate=0.0,
        memory_efficient=memory_efficient,
    ).train()


def test_memory_grows_linearly_with_depth():
    """Four times the layers keep four times as much, and without it more than seven
    times.
    """
    x = torch.randn(1, 16, 16, 16)
    ratios = []
    for efficient in (False, True):
        short, long = (dense_block(n, 16, memory_efficient=efficient) for n in (8, 32))
        ratios.append(kept_bytes(long, x) / kept_bytes(short, x))
    assert ratios[0] > 7
    assert ratios[1] < 4.5


class Convolutions(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bottleneck", [True, False])
def test_no_convolution_is_computed_twice(bottleneck):
    block = dense_block(3, 8, bottleneck=bottleneck, memory_efficient=True)
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    with Convolutions() as forward:
        loss = block(x).sum()
    with Convolutions() as backward:
        loss.backward()
    assert forward.count == (6 if bottleneck else 3)
    assert backward.count == 0
    assert x.grad is not None
    with set_checkpoint_early_stop(False), Convolutions() as backward:
        block(x).sum().backward()
    assert backward.count == forward.count + 3, "what the count would be without stopping early"


def test_evaluation_recomputes_nothing():
    """Without training, and without gradients, the two are one."""
    model, x = build(Case(BC.name, BC.peer, model_args={"memory_efficient": True}))
    plain = zoo.create(BC.name).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain(x), model.eval()(x))
    with torch.no_grad():
        assert torch.equal(plain(x), model(x))


def test_memory_efficient_networks_compile():
    x = torch.randn(2, 8, 8, 8)
    block = dense_block(2, 8, memory_efficient=True)
    plain = dense_block(2, 8, memory_efficient=False)
    plain.load_state_dict(block.state_dict())
    torch.testing.assert_close(
        torch.compile(block, backend="aot_eager", fullgraph=True)(x), plain(x)
    )
    for key, tensor in plain.state_dict().items():
        torch.testing.assert_close(block.state_dict()[key], tensor)


def test_dropout_is_after_every_convolution_but_the_first():
    for name, count in (("densenet_bc100_k12_cifar10", 98), ("densenet40_k12_cifar10", 38)):
        model = zoo.create(name, drop_rate=0.2)
        assert [module.p for module in model.modules() if isinstance(module, nn.Dropout)] == [
            0.2
        ] * count
        assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == count + 1


def test_initialisation():
    """He et al. by fan-out for convolutions, and no bias but the head's."""
    model = zoo.create("densenet_bc100_k12_cifar10")
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
            ratio = module.weight.std() / (2 / init.fans(module.weight)[1]) ** 0.5
            assert abs(ratio - 1) < 4 / module.weight.numel() ** 0.5
    assert not model.head.bias.any()


def test_wrong_arguments():
    expected = "DenseNet: stem='svhn': expected 'imagenet' or 'cifar'"
    with pytest.raises(InputError, match=expected):
        zoo.create("densenet121", stem="svhn")
