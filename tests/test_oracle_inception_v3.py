"""Inception-v3 against torchvision, whose means count the padding; and with means that
leave it out.
"""

from functools import partial
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, disable_drop_path, error, slow
from torch import nn

import zoo


def torchvision_peer(state, training, count_include_pad=True):
    from torchvision.models import get_model

    aux = "aux.mixed_6e.head.weight" in state
    with torch.device("meta"):
        ours = zoo.create("inception_v3", aux=aux)
        theirs = get_model(
            "inception_v3", aux_logits=aux, transform_input=False, init_weights=False
        )
    ours.load_state_dict(state, assign=True)
    theirs.load_state_dict(zoo.export_state_dict(ours, "torchvision"), assign=True)
    disable_drop_path(theirs)
    theirs.train(training)

    def forward(x):
        with mock.patch.object(
            F, "avg_pool2d", partial(F.avg_pool2d, count_include_pad=count_include_pad)
        ):
            outputs = theirs(x)
        return tuple(outputs) if aux and training else outputs

    return forward


RELEASED = Case("inception_v3", partial(torchvision_peer, count_include_pad=False), size=139)
PADDED = Case("inception_v3", torchvision_peer, size=139, model_args={"count_include_pad": True})
AUX = Case("inception_v3", torchvision_peer, model_args={"count_include_pad": True, "aux": True})


@pytest.mark.parametrize("case", [RELEASED, PADDED, slow(AUX)], ids=str)
def test_full_logits(case):
    assert error(case) < TOLERANCE


@pytest.mark.parametrize("case", [AUX, slow(RELEASED), slow(PADDED)], ids=str)
def test_full_logits_in_training(case):
    assert error(case, training=True) < TOLERANCE


def drop_relu(model):
    model.features.stage4.mixed_6c.branch7x7dbl[3].relu = nn.Identity()


def swap_norms(model):
    branch = model.features.stage4.mixed_6b.branch7x7dbl
    branch[1].bn, branch[2].bn = branch[2].bn, branch[1].bn


def swap_halves(model):
    halves = model.features.stage5.mixed_7b.branch3x3[1]
    halves.a, halves.b = halves.b, halves.a


def count_padding(model):
    model.features.stage3.mixed_5c.branch_pool[0].count_include_pad = True


def move_stride(model):
    branch = model.features.stage4.mixed_6a.branch3x3dbl
    branch[1].conv.stride, branch[1].conv.padding = (2, 2), (0, 0)
    branch[2].conv.stride, branch[2].conv.padding = (1, 1), (1, 1)


def drop_aux_relu(model):
    model.aux.mixed_6e.body.conv1.relu = nn.Identity()


MUTATIONS = [
    (RELEASED, mutate, False)
    for mutate in (drop_relu, swap_norms, swap_halves, count_padding, move_stride)
]


@pytest.mark.parametrize(("case", "mutate", "training"), [*MUTATIONS, (AUX, drop_aux_relu, True)])
def test_the_oracle_sees_mistakes(case, mutate, training):
    assert error(case, training, mutate) > 10 * TOLERANCE


def test_torchvision_normalises_twice():
    """Its pretrained network takes ImageNet's normalisation and turns it into [-1, 1],
    which ours takes.
    """
    from torchvision.models import get_model

    with torch.no_grad():
        ours = zoo.create("inception_v3", count_include_pad=True).eval()
        theirs = get_model(
            "inception_v3", aux_logits=False, transform_input=True, init_weights=False
        ).eval()
        theirs.load_state_dict(zoo.export_state_dict(ours, "torchvision"))
        pixels = torch.rand(1, 3, 96, 96)
        mean, std = (
            torch.tensor(values)[:, None, None]
            for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        cfg = ours.pretrained_cfg
        own_mean, own_std = (torch.tensor(cfg[key])[:, None, None] for key in ("mean", "std"))
        logits = theirs((pixels - mean) / std)
        assert (ours((pixels - own_mean) / own_std) - logits).abs().max() < TOLERANCE * logits.std()
