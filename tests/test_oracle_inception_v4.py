"""Inception-v4 against timm."""

import pytest
import torch
from oracle import TOLERANCE, Case, disable_drop_path, error
from torch import nn

import zoo


def timm_peer(state, training):
    import timm

    with torch.device("meta"):
        ours, theirs = zoo.create("inception_v4"), timm.create_model("inception_v4")
    ours.load_state_dict(state, assign=True)
    theirs.load_state_dict(zoo.export_state_dict(ours, "timm"), assign=True)
    disable_drop_path(theirs)
    return theirs.train(training)


CASE = Case("inception_v4", timm_peer, size=139)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_full_logits(training):
    assert error(CASE, training) < TOLERANCE


def drop_relu(model):
    model.features.inception_b[3].branch2[4].relu = nn.Identity()


def swap_norms(model):
    branch = model.features.inception_a[2].branch2
    branch[1].bn, branch[2].bn = branch[2].bn, branch[1].bn


def count_padding(model):
    model.features.inception_c[1].branch3[0].count_include_pad = True


def swap_stem_branches(model):
    stem = model.features.stem2[1]
    stem.branch0, stem.branch1 = stem.branch1, stem.branch0


@pytest.mark.parametrize("mutate", [drop_relu, swap_norms, count_padding, swap_stem_branches])
def test_the_oracle_sees_mistakes(mutate):
    assert error(CASE, mutate=mutate) > 10 * TOLERANCE
