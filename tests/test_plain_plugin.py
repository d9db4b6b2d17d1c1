"""A network of a third party that is a plain `nn.Module`: it works wherever it can, and
what needs more says so in one line.
"""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import TensorDataset

import zoo
from zoo import registry
from zoo.errors import UsageError, WeightsError, ZooWarning
from zoo.spec import Claims, Family, ImageInput, Paper, Variant


class Plain(nn.Module):
    """(N, 3, 32, 32) to logits (N, num_classes)."""

    def __init__(self, width, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


class Fixed(Plain):
    """Without an argument for its classes, and with another name for the last layer."""

    def __init__(self, width):
        super().__init__(width)
        self.out, self.head = self.head, nn.Identity()

    def forward(self, x):
        return self.out(super().forward(x))


class Tied(Plain):
    """With one tensor under two names."""

    def __init__(self, width):
        super().__init__(width)
        self.again = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.again.weight = self.conv.weight


IMAGES = ImageInput((3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
CLAIMS = Claims(3 * 9 * 8 + 8 + 8 * 10 + 10, 16 * 16 * 27 * 8 + 80)
FAMILIES = {
    name: Family(
        Paper("Plain", "N. N.", 2026, "nowhere"),
        build,
        {name: Variant(model_args={"width": 8}, claims=CLAIMS, depth=2, inputs=(IMAGES,))},
    )
    for name, build in {"plain": Plain, "fixed": Fixed}.items()
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_registered", {})
    for family in FAMILIES.values():
        zoo.register_family(family)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def test_it_is_counted_and_held_to_its_claims(name):
    assert zoo.profile(name).macs == CLAIMS.macs
    assert zoo.memory(name, batch_size=2).peak > 0
    assert zoo.max_batch_size(name, "1GiB") > 1
    zoo.compare([name], recount=True)  # an error where the claims do not hold
    state = zoo.export_state_dict(name)
    zoo.load_state_dict(zoo.create(name), state)


def test_what_it_lacks_is_said_in_one_line(name):
    for wrong, words in (
        (lambda: zoo.create(name, features_only=True), "is no image classifier"),
        (lambda: zoo.create(name, in_chans=1), "has no argument 'in_chans'"),
        (lambda: zoo.create(name, pretrained=True), "there are no weights"),
        (lambda: zoo.export_state_dict(name, "torchvision"), "has no layout"),
    ):
        with pytest.raises((UsageError, WeightsError), match=words) as raised:
            wrong()
        assert "\n" not in str(raised.value)


def test_a_run_keeps_its_head(name):
    """Four classes instead of ten: the run is the network with four, also when it is
    opened anew.
    """
    data = TensorDataset(torch.randn(24, 3, 32, 32), torch.arange(24) % 4)
    run = zoo.finetune(
        name, data, val=data, classes=list("abcd"), epochs=1, out="run", progress=False
    )
    images = torch.randn(2, 3, 32, 32)
    again = zoo.create("run").eval()
    assert torch.equal(again(images), run.load_best(run.model)(images))
    assert zoo.profile("run").params == zoo.profile(again).params == CLAIMS.params - 6 * 9


def test_a_file_with_other_classes(tmp_path):
    torch.save(zoo.create("plain", num_classes=4).state_dict(), tmp_path / "four.pt")
    images = torch.randn(2, 3, 32, 32)
    assert zoo.create("plain", checkpoint_path="four.pt")(images).shape == (2, 4)
    assert zoo.create("plain", checkpoint_path="four.pt", num_classes=4)(images).shape == (2, 4)
    with pytest.warns(ZooWarning, match="four.pt has 4 classes, 7 are wanted"):
        model = zoo.create("plain", checkpoint_path="four.pt", num_classes=7)
    assert model(images).shape == (2, 7)
    with pytest.raises(WeightsError, match="does not fit Fixed"):
        zoo.create("fixed", checkpoint_path="four.pt")


def test_images_become_its_own_size():
    """The row says the size and the normalisation; nothing is guessed."""
    run = zoo.finetune("plain", "digits", epochs=1, out="digits", progress=False)
    own = run.config["preprocessing"]
    assert own["input_size"] == [3, 32, 32]
    assert own["mean"] == [0.5, 0.5, 0.5]


def test_published_weights_of_tied_tensors_leave_them_tied(tmp_path):
    """A network on the meta device would take the tensors of both names."""
    model = Tied(8)
    save_file({key: each.clone() for key, each in model.state_dict().items()}, tmp_path / "a")
    (tmp_path / "weights.toml").write_text(
        '[weights."tied.mine"]\n[[weights."tied.mine".sources]]\nfile = "a"\n'
        'format = "safetensors"\n'
    )
    row = Variant(model_args={"width": 8}, claims=CLAIMS, depth=2, inputs=(IMAGES,))
    paper = FAMILIES["plain"].paper
    zoo.register_family(Family(paper, Tied, {"tied": row}, weights=tmp_path / "weights.toml"))
    with pytest.warns(ZooWarning):
        found = zoo.create("tied", pretrained=True)
    assert found.again.weight is found.conv.weight
    assert torch.equal(found.conv.weight, model.conv.weight)
