"""Label smoothing, mixup and cutmix: the shares of the classes are those of the
pixels.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.data.datasets import DataSplit
from zoo.data.mixing import Mixing
from zoo.errors import InputError, UsageError
from zoo.models.googlenet import FAMILY as GOOGLENET
from zoo.models.lenet import discriminative_loss
from zoo.tasks.classify import Classify
from zoo.training.recipe import Recipe

LABELS = torch.arange(6) % 3
# every pixel of an image says its class
IMAGES = F.one_hot(LABELS, 3).float()[:, :, None, None].expand(6, 3, 20, 20)
BATCHES = torch.utils.data.TensorDataset(IMAGES, LABELS)


def split(classes=("a", "b", "c")):
    return DataSplit(name="", source="", split="", train=BATCHES, val=BATCHES, classes=classes)


def task(**options):
    found = Classify()
    found.prepare(nn.Linear(1, 1), split(), Recipe(**options))
    return found


@pytest.mark.parametrize(
    "mixing",
    [
        Mixing(mixup=0.5, classes=3),
        Mixing(cutmix=1.0, classes=3),
        Mixing(mixup=0.5, cutmix=1.0, classes=3),
    ],
)
def test_shares_are_those_of_the_pixels(mixing):
    torch.manual_seed(0)
    cuts = 0
    for _ in range(60):
        images, shares = mixing((IMAGES, LABELS))
        torch.testing.assert_close(images.mean((2, 3)), shares)
        assert torch.equal(IMAGES.amax((2, 3)).argmax(1), LABELS), "given ones are as before"
        whole = ((images == 0) | (images == 1)).all()
        cuts += bool(whole)
        if mixing.mixup and not mixing.cutmix:
            assert torch.equal(images[:, :, :1, :1].expand_as(images), images)
    if mixing.cutmix:
        assert cuts == 60 if not mixing.mixup else 15 < cuts < 50


def test_the_share_follows_the_beta_distribution():
    """Beta(a, a) has the variance 1 / (8 a + 4)."""
    torch.manual_seed(0)
    for alpha in (0.2, 1.0, 4.0):
        pair = torch.tensor([[1.0], [0.0]])
        found = [
            Mixing(mixup=alpha, classes=2)((pair, torch.tensor([0, 1])))[0] for _ in range(1000)
        ]
        mixed = torch.stack([x for x in found if x[0] != 1])  # with itself: as it was
        assert mixed[:, 0].var() == pytest.approx(1 / (8 * alpha + 4), rel=0.25)


def test_smoothed_labels_give_torchs_loss():
    smoothed = task(label_smoothing=0.1)
    logits = torch.randn(6, 3)
    batch = smoothed.on_device((IMAGES, LABELS), True)
    assert batch[0] is IMAGES
    found = smoothed.loss(logits, batch, nn.Module())
    torch.testing.assert_close(found, F.cross_entropy(logits, LABELS, label_smoothing=0.1))
    right = (logits.argmax(1) == LABELS).float().mean()
    assert smoothed.metrics(logits, batch)["accuracy"].value == right
    assert smoothed.metrics((logits, logits), batch)["accuracy"].value == right
    plain = smoothed.on_device((IMAGES, LABELS), False)
    assert plain[1] is LABELS, "in validation labels are labels"
    assert task().on_device((IMAGES, LABELS), True)[1] is LABELS


def test_losses_of_the_families():
    """LeNet-5's is linear in the shares, and so are those with auxiliary heads."""
    logits = -torch.rand(6, 3) * 20
    shares = torch.tensor([0.7, 0.3, 0.0]).expand(6, 3)
    first, second = (discriminative_loss(logits, torch.full((6,), k)) for k in (0, 1))
    found = discriminative_loss(logits, shares)
    torch.testing.assert_close(found, 0.7 * first + 0.3 * second)
    loss = GOOGLENET.loss
    whole = loss((logits, logits / 2), (None, shares), None)
    parts = [loss((logits, logits / 2), (None, torch.full((6,), k)), None) for k in (0, 1)]
    torch.testing.assert_close(whole, 0.7 * parts[0] + 0.3 * parts[1])


def test_refused():
    with pytest.raises(InputError, match="need the number of classes: name them"):
        Classify().prepare(nn.Linear(1, 1), split(()), Recipe(mixup=0.2))
    with pytest.raises(UsageError, match="need batches of images and class numbers"):
        task(cutmix=1).on_device((IMAGES, torch.rand(6)), True)


def test_a_run_with_all_of_it(tmp_path):
    """The same seed, the same run; and the network learns."""
    options = {"epochs": 8, "batch_size": 3, "lr": 0.05, "progress": False, "cpu": True}
    options |= {"mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1, "classes": ("a", "b", "c")}
    runs = []
    for number in range(2):
        torch.manual_seed(7)
        model = nn.Sequential(nn.Flatten(), nn.Linear(1200, 3))
        runs.append(
            zoo.finetune(model, BATCHES, val=BATCHES, out=tmp_path / f"{number}", **options)
        )
    first, second = ([record["train_loss"] for record in run.history] for run in runs)
    assert first == second
    assert runs[0].accuracy == 1
    assert 0.3 < runs[0].history[-1]["train_accuracy"] <= 1
    assert min(first) > 0.3, "the shares are learnt, not the labels"
