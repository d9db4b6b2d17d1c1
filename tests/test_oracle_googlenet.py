"""GoogLeNet against a plain second implementation, googlenet_bn against torchvision;
the modules' costs in the course's example.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, disable_drop_path, error, slow
from torch import nn

import zoo
from zoo.count.profile import profile_module
from zoo.count.workload import Workload
from zoo.models.googlenet import Inception, NaiveInception


def torchvision_peer(state, training):
    from torchvision.models import get_model

    aux = "aux.inception4a.head.weight" in state
    with torch.device("meta"):
        ours = zoo.create("googlenet_bn", aux=aux)
        theirs = get_model("googlenet", aux_logits=aux, transform_input=False, init_weights=False)
    ours.load_state_dict(state, assign=True)
    theirs.load_state_dict(zoo.export_state_dict(ours, "torchvision"), assign=True)
    disable_drop_path(theirs)
    theirs.train(training)

    def forward(x):
        if not (aux and training):
            return theirs(x)
        logits, aux2, aux1 = theirs(x)
        return logits, aux1, aux2

    return forward


def plain_googlenet(state, training):
    """Table 1 and section 5 from the sheet: real 5x5, pools that round up, response
    normalisation of Caffe.
    """

    def conv(x, name, kernel=1, stride=1):
        weight, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
        assert weight.shape[2:] == (kernel, kernel)
        return F.conv2d(x, weight, bias, stride, padding=(kernel - 1) // 2).clamp(min=0)

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def norm(x):
        squares = F.pad(x**2, (0, 0, 0, 0, 2, 2))
        mean = sum(squares[:, i : i + x.shape[1]] for i in range(5)) / 5
        return x / (1 + 1e-4 * mean) ** 0.75

    def module(x, name):
        name = f"features.stage{name[0]}.inception{name}"
        return torch.cat(
            [
                conv(x, f"{name}.branch1x1"),
                conv(conv(x, f"{name}.branch3x3.0"), f"{name}.branch3x3.1", 3),
                conv(conv(x, f"{name}.branch5x5.0"), f"{name}.branch5x5.1", 5),
                conv(F.max_pool2d(x, 3, 1, 1), f"{name}.branch_pool.1"),
            ],
            1,
        )

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def auxiliary(x, name):
        x = F.avg_pool2d(x, 5, 3)
        assert x.shape[2:] == (4, 4)
        x = conv(x, f"aux.{name}.body.conv").reshape(len(x), 2048)
        return linear(linear(x, f"aux.{name}.body.fc1").clamp(min=0), f"aux.{name}.head")

    def forward(x):
        x = norm(pool(conv(x, "features.stage1.conv1", 7, 2)))
        x = norm(conv(conv(x, "features.stage2.conv2_reduce"), "features.stage2.conv2", 3))
        taps = []
        for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
            x = module(pool(x) if name.endswith("a") else x, name)
            if training and f"aux.inception{name}.head.weight" in state:
                taps.append(auxiliary(x, f"inception{name}"))
        return linear(x.mean((2, 3)), "head"), *taps

    return forward


PAPER = Case("googlenet", plain_googlenet, scale=70, model_args={"aux": True})
BN = Case("googlenet_bn", torchvision_peer, model_args={"aux": True})
OTHER_SIZE = Case("googlenet", plain_googlenet, size=97, scale=70)
BN_OTHER_SIZE = Case("googlenet_bn", torchvision_peer, size=111, batch=4)


@pytest.mark.parametrize("case", [PAPER, OTHER_SIZE, BN, BN_OTHER_SIZE], ids=str)
def test_full_logits(case):
    assert error(case) < TOLERANCE


@pytest.mark.parametrize("case", [PAPER, BN, slow(OTHER_SIZE), slow(BN_OTHER_SIZE)], ids=str)
def test_full_logits_in_training(case):
    assert error(case, training=True) < TOLERANCE


def drop_relu(model):
    model.features.stage4.inception4b.branch5x5[0].relu = nn.Identity()


def lose_norm(model):
    model.features.stage2.norm2 = nn.Identity()


def norm_before_pool(model):
    stage = model.features.stage2
    stage.pool1, stage.norm1 = stage.norm1, stage.pool1


def floor_pools(model):
    model.features.stage4.pool3 = nn.MaxPool2d(3, 2, padding=1)


def swap_norms(model):
    module = model.features.stage3.inception3b
    module.branch3x3[0].bn, module.branch1x1.bn = module.branch1x1.bn, module.branch3x3[0].bn


def wider_pool4(model):
    model.features.stage5.pool4 = nn.MaxPool2d(3, 2, ceil_mode=True)


def drop_aux_relu(model):
    model.aux.inception4d.body.relu1 = nn.Identity()


def swap_aux(model):
    first, second = (model.aux[name] for name in ("inception4a", "inception4d"))
    first.body.fc1, second.body.fc1 = second.body.fc1, first.body.fc1


MUTATIONS = [
    (PAPER, drop_relu, False),
    (PAPER, lose_norm, False),
    (PAPER, norm_before_pool, False),
    (PAPER, floor_pools, False),
    (PAPER, drop_aux_relu, True),
    (PAPER, swap_aux, True),
    (BN, drop_relu, False),
    (BN, swap_norms, False),
    (BN, wider_pool4, False),
    (BN, drop_aux_relu, True),
]


@pytest.mark.parametrize(("case", "mutate", "training"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate, training):
    assert error(case, training, mutate) > 10 * TOLERANCE


def test_torchvision_normalises_twice():
    """Its pretrained network takes ImageNet's normalisation and turns it into [-1, 1],
    which ours takes.
    """
    from torchvision.models import get_model

    with torch.no_grad():
        ours = zoo.create("googlenet_bn").eval()
        theirs = get_model(
            "googlenet", aux_logits=False, transform_input=True, init_weights=False
        ).eval()
        theirs.load_state_dict(zoo.export_state_dict(ours, "torchvision"))
        pixels = torch.rand(1, 3, 64, 64)
        mean, std = (
            torch.tensor(values)[:, None, None]
            for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        cfg = ours.pretrained_cfg
        own_mean, own_std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
        logits = theirs((pixels - mean) / std)
        assert (ours((pixels - own_mean) / own_std) - logits).abs().max() < TOLERANCE * logits.std()


@pytest.mark.parametrize(
    ("module", "maps", "macs"),
    [
        (NaiveInception(256, 128, 192, 96), 128 + 192 + 96 + 256, 854_196_224),
        (Inception(256, 128, 64, 192, 64, 96, 64), 128 + 192 + 96 + 64, 271_351_808),
    ],
    ids=["naive", "bottleneck"],
)
def test_the_course_s_example(module, maps, macs):
    image = torch.empty(1, 256, 28, 28, device="meta")
    counted = profile_module(Workload(module.to("meta"), "module", (image,)))
    assert counted.macs == macs
    assert counted.rows[0].output == (1, maps, 28, 28)


def test_the_slide_counts_its_3x3_twice():
    module = Inception(256, 128, 64, 192, 64, 96, 64).to("meta")
    image = torch.empty(1, 256, 28, 28, device="meta")
    counted = profile_module(Workload(module, "module", (image,)))
    by_path = {row.path: row.macs for row in counted.rows}
    assert (counted.macs + by_path["branch3x3.1"]) // 10**6 == 358
