"""Which batches a network takes, and the largest of them that fits."""

import functools

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo
from zoo.api.memory import Step, find_largest
from zoo.api.source import resolve
from zoo.cli import cli
from zoo.count.memory.batch_size import Batches, largest_batch
from zoo.count.memory.checked import GPUS, NETWORKS, unchecked
from zoo.count.memory.confirm import confirm_batch, limited_memory
from zoo.count.memory.memory_budget import available_bytes
from zoo.errors import InputError, UsageError, ZooWarning
from zoo.tasks.classify import Classify
from zoo.transfer import batch_size

MIB = 2**20


class Pairs(nn.Module):
    """Views its images in groups, and trains batch norm on one value of each."""

    def __init__(self, group=2, norm=True):
        super().__init__()
        self.group = group
        self.layer = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()

    def forward(self, x):  # (N, 4)
        y = self.layer(x).view(len(x) // self.group, self.group, 8)
        return self.norm(y[:, 0] - y[:, 1])


def one(batch):
    return torch.zeros(batch, 4)


# ------------------------------------------------------------ batches that are possible


@pytest.mark.parametrize(
    ("name", "size", "smallest"),
    [("resnet18", 32, 2), ("bn_inception", 7, 2), ("lenet5", 32, 1), ("resnet20_cifar10", 4, 2)],
)
def test_without_a_batch_the_smallest_that_is_possible_is_taken(name, size, smallest):
    assert zoo.memory(name, input_size=size).inputs[0][0] == smallest
    assert zoo.memory(name, input_size=size, mode="eval").inputs[0][0] == 1


def test_a_batch_that_is_impossible_says_which_are_possible():
    with pytest.raises(
        InputError,
        match=r"^batch_size=1: needs 2 or more: resnet18 does not take the input 1x3x32x32: in "
        r"features\.conv5_x\.0\.bn1 \(BatchNorm2d\): ValueError: Expected more than 1 value[^\n]*$",
    ):
        zoo.memory("resnet18", 1, input_size=32)
    with pytest.raises(InputError, match=r"^batch_size=3: needs 4, 6, 8, …: Pairs does not take"):
        zoo.memory(Pairs(), 3, inputs=one)
    with pytest.raises(InputError, match=r"^batch_size=1: needs 2 or more: resnet18 does not"):
        zoo.profile("resnet18", 32, mode="train")


@pytest.mark.parametrize(
    ("group", "norm", "possible"),
    [(2, True, Batches(4, 2)), (2, False, Batches(2, 2)), (3, False, Batches(3, 3))],
)
def test_images_that_are_viewed_together(group, norm, possible):
    found = find_largest(Pairs(group, norm), 100_000, inputs=one, device="cpu")
    assert (found.possible, found.smallest) == (possible, possible.first)
    batch = found.batch_size
    assert possible.up_to(batch) == batch > 100
    assert zoo.memory(Pairs(group, norm), inputs=one).inputs == ((possible.first, 4),)
    peaks = [
        zoo.memory(Pairs(group, norm), each, inputs=one, device="cpu").peak
        for each in (batch, batch + possible.stride * (1 + batch // 200))
    ]
    assert peaks[0] <= 100_000 < peaks[1]


def test_a_network_that_takes_no_batch_says_why():
    with pytest.raises(InputError, match=r"^Linear does not take the input 1x5: in Linear"):
        zoo.max_batch_size(nn.Linear(4, 4), "1GiB", inputs=torch.zeros(3, 5))
    with pytest.raises(InputError, match=r"^vgg16 takes images of 32x32 or larger"):
        zoo.max_batch_size("vgg16", "1GiB", input_size=16)


def test_arithmetic_of_batches():
    assert [Batches(4, 2).up_to(most) for most in (3, 4, 5, 6, 1000)] == [0, 4, 4, 6, 1000]
    assert str(Batches(2)) == "2 or more"


def test_the_batch_of_a_run_on_small_images():
    """`finetune … batch_size="auto"` where batch norm would have one value."""
    model = nn.Sequential(
        nn.Conv2d(1, 8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10)
    )
    accelerator = type("Accelerator", (), {"device": torch.device("cpu"), "mixed_precision": "no"})
    auto = functools.partial(
        batch_size.auto_batch_size,
        model,
        (1, 8, 8),
        task=Classify(),
        loss=None,
        optimizer="adamw",
        accelerator=accelerator(),
    )
    for count, expected in ((1000, 100), (10, 2)):
        with pytest.warns(ZooWarning, match=f"batch size {expected}: its training step"):
            assert auto(count) == expected


def test_too_small_for_the_smallest_batch(monkeypatch):
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 1000)
    accelerator = type("Accelerator", (), {"device": torch.device("cpu"), "mixed_precision": "no"})
    with pytest.raises(UsageError, match=r"^not even a batch of 2 fits into the 0 MiB"):
        batch_size.auto_batch_size(
            zoo.create("resnet20_cifar10"),
            (3, 4, 4),
            100,
            task=Classify(),
            loss=None,
            optimizer="sgd",
            accelerator=accelerator(),
        )
    done = CliRunner().invoke(cli, ["memory", "resnet18", "--input-size", "32", "--fit", "1MiB"])
    assert done.stdout.startswith(
        "largest batch of resnet18 in 1MiB: not even a batch of 2 fits (predicted)\n"
    )


# ---------------------------------------------------------------------- what fits, fits


def test_what_a_step_takes_of_a_card_is_no_more_than_the_card_has():
    """The allocator gives back cached blocks before it gives up: without a limit it
    takes 8,232 MiB for this step.
    """
    step = Step(resolve("resnet50"))
    capacity = available_bytes("8GiB", "cuda")
    limited, unlimited = step.attempt(88, capacity), step.attempt(88)
    assert limited.fits is True
    assert limited.reserved <= capacity < 8 * 1024 * MIB < unlimited.reserved
    assert (unlimited.fits, limited.peak) == (None, unlimited.peak)


def test_what_is_printed_is_the_prediction_for_that_very_batch_and_memory():
    done = CliRunner().invoke(cli, ["memory", "squeezenet1_1", "--fit", "2GiB", "--depth", "0"])
    found = find_largest("squeezenet1_1", "2GiB")
    assert found.memory.fits
    assert found.memory.inputs[0][0] == found.batch_size
    lines = done.stdout.splitlines()
    assert lines[0] == f"largest batch of squeezenet1_1 in 2GiB: {found.batch_size} (predicted)"
    assert lines[1].startswith("800 MiB of it are left for driver and libraries; one that asks")
    assert f"takes up to {found.memory.reserved / MIB:,.2f} MiB of the card" in done.stdout
    assert found.memory.reserved <= available_bytes("2GiB", "cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_there_is_no_largest_batch_of_all(device):
    found = find_largest(nn.Linear(1, 1), "1TiB", inputs=torch.zeros(1, 1), device=device)
    assert found.batch_size > 2**34
    assert found.memory.inputs == ((found.batch_size, 1),)
    assert found.memory.peak <= 2**40


def test_where_the_peak_of_small_batches_is_the_optimizers():
    tried = []

    def step(batch):
        tried.append(batch)
        return Step(resolve("vgg11"), device="cpu").attempt(batch, 8 * 1024 * MIB)

    found = largest_batch(step, 8 * 1024 * MIB)
    assert found.memory.fits
    assert len(tried) < 16
    assert max(tried) < 4 * found.batch_size


def test_confirmation_takes_a_smaller_batch_while_it_does_not_fit():
    tried = []

    def step(batch):
        tried.append(batch)
        if batch > most:
            raise torch.OutOfMemoryError

    most = 150
    assert confirm_batch(202, Batches(2, 2), step) == tried[-1]
    assert 145 <= tried[-1] <= 150
    assert all(batch % 2 == 0 for batch in tried)
    assert tried[0] == 202
    most = 1
    assert confirm_batch(6, Batches(2, 2), step) == 0


def test_confirmation_stays_within_the_memory_that_was_named(monkeypatch):
    shares = []
    card = type("Card", (), {"total_memory": 80 * 2**30})
    for name, value in {
        "get_per_process_memory_fraction": lambda: 0.9,
        "set_per_process_memory_fraction": shares.append,
        "current_device": lambda: 0,
        "get_device_properties": lambda device: card,
        "memory_reserved": lambda: 2**30,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    with pytest.raises(ZeroDivisionError), limited_memory(7 * 2**30):
        1 / 0  # noqa: B018
    assert shares == [0.1, 0.9]
    with limited_memory(200 * 2**30):
        assert shares[-1] == 0.9


# -------------------------------------------------------------- how large the memory is


@pytest.mark.parametrize("given", ["24", 24, 24.0, " 24 "])
def test_a_number_without_a_unit_is_gib_and_this_is_said(given):
    with pytest.warns(ZooWarning, match=r"^memory=.* is taken as 24(\.0)? GiB$"):
        assert available_bytes(given, "cpu") == 24 * 2**30


@pytest.mark.parametrize(
    ("given", "expected"), [("8589934592", 2**33), (2**33, 2**33), (5000, 5000)]
)
def test_a_large_number_without_a_unit_is_bytes(given, expected):
    assert available_bytes(given, "cpu") == expected


@pytest.mark.parametrize("given", ["24 gigs", "-1", "0", "0GiB", "GiB", -5, 0, True, None])
def test_what_is_no_size_is_refused(given):
    with pytest.raises(UsageError, match=r"^memory=.*: give a size such as '24GiB' or '80GB', or"):
        available_bytes(given, "cpu")


# ------------------------------------------------------------------------------- inputs


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 50)

    def forward(self, tokens, mask=None):
        y = self.embedding(tokens)
        return self.head(y if mask is None else y * mask[..., None])


def test_the_largest_batch_of_a_module_with_inputs_of_its_own():
    tokens = torch.zeros(3, 12, dtype=torch.long)
    options = {"memory": 10 * MIB, "device": "cpu"}
    batch = zoo.max_batch_size(Words(), inputs=tokens, **options)
    assert batch > 100
    memory = zoo.memory(Words(), inputs=torch.zeros(batch, 12, dtype=torch.long), device="cpu")
    assert 0.99 * 10 * MIB < memory.peak <= 10 * MIB
    for inputs in (
        (tokens,),
        {"tokens": tokens},
        lambda number: torch.zeros(number, 12, dtype=torch.long, device="meta"),
    ):
        assert zoo.max_batch_size(Words(), inputs=inputs, **options) == batch
    with_mask = {"tokens": tokens, "mask": torch.ones(3, 12)}
    assert 0 < zoo.max_batch_size(Words(), inputs=with_mask, **options) < batch


def test_inputs_without_a_batch_in_common_are_refused():
    given = torch.zeros(3, 12, dtype=torch.long), torch.ones(1, 12)
    with pytest.raises(
        UsageError,
        match=r"^inputs= has the shapes \(\(3, 12\), \(1, 12\)\), whose first dimensions are not "
        r"one batch: give a function",
    ):
        zoo.max_batch_size(Words(), "1GiB", inputs=given)
    found = zoo.max_batch_size(
        Words(), "1GiB", inputs=lambda n: (torch.zeros(n, 12, dtype=torch.long), torch.ones(1, 12))
    )
    assert found > 1000


def test_hooks_of_the_users_own_are_said():
    seen = []
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].register_forward_hook(lambda module, args, output: seen.append(output))
    with pytest.warns(
        ZooWarning,
        match="^Sequential, module 1 has a hook, which runs too: it sees shapes without numbers$",
    ):
        zoo.max_batch_size(model, "1MiB", inputs=torch.zeros(1, 4), device="cpu")
    assert all(output.is_meta for output in seen)


@pytest.mark.filterwarnings("error::zoo.errors.ZooWarning")
@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_torchs_own_hooks_are_not_said():
    model = nn.utils.weight_norm(nn.Linear(4, 4))
    assert zoo.memory(model, inputs=torch.zeros(2, 4)).peak


# -------------------------------------------------------------- checked on a GPU or not


def test_what_was_never_checked_on_a_gpu_is_said(monkeypatch):
    assert zoo.memory("resnet50").unchecked == ""
    assert zoo.memory("resnet18", device="cpu").unchecked == ""
    assert zoo.memory("resnet18").unchecked.startswith("not checked on a GPU: resnet18; checked: ")
    assert unchecked("", "cuda").startswith("not checked on a GPU: this module; checked: alexnet")
    done = CliRunner().invoke(cli, ["memory", "lenet5"])
    assert done.stdout.splitlines()[-1].startswith("not checked on a GPU: lenet5; checked:")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    assert unchecked(NETWORKS[0], "cuda").startswith("not checked on a GPU: NVIDIA A100; checked:")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: GPUS[0])
    assert unchecked(NETWORKS[0], "cuda") == ""


def test_a_table_with_predicted_memory_says_so_too():
    with pytest.warns(ZooWarning, match="^the memory of 1 of the 2 networks was not checked on a"):
        CliRunner().invoke(cli, ["compare", "lenet5", "squeezenet1_1", "--memory-batch-size", "1"])
