"""The memory of optimizers: by name as by a function, each of torch's as measured, and
what torch does on a GPU.
"""

import inspect
import threading

import pytest
import torch
from torch import nn, optim

import zoo
from zoo.count.memory.measured_memory import measure
from zoo.count.torch_internals import optimizers_take_meta
from zoo.count.workload import Workload
from zoo.errors import InputError
from zoo.optimizers import OPTIMIZERS, make_optimizer

pytestmark = pytest.mark.filterwarnings("ignore:.*[Pp]rofiler.*")

IMAGES = torch.zeros(8, 300)
ALL = [
    name
    for name, kind in vars(optim).items()
    if inspect.isclass(kind) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
]


def model():
    """Most of its memory is that of the parameters."""
    return nn.Sequential(
        nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 200), nn.ReLU(), nn.Linear(200, 10)
    )


def predicted(optimizer, device="cpu"):
    return zoo.memory(model(), inputs=IMAGES, optimizer=optimizer, device=device)


def made_by(name, **options):
    if name == "Muon":
        return lambda given: optim.Muon([each for each in given if each.ndim == 2], **options)
    return lambda given: getattr(optim, name)(given, **({"lr": 0.1} | options))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_by_name_and_by_function_are_the_same(name, device):
    by_name = predicted(name, device)
    spec = OPTIMIZERS[name]
    decay = {} if name == "lbfgs" else {"weight_decay": spec.weight_decay}
    options = {"lr": spec.lr, **decay, **spec.options}
    for function in (
        lambda given: make_optimizer(name, given),
        lambda given: getattr(optim, spec.kind)(given, **options),
    ):
        found = predicted(function, device)
        assert found.optimizer == spec.kind
        assert found.to_dict() | {"optimizer": name} == by_name.to_dict()


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) for name in ALL if name not in ("LBFGS", "SparseAdam", "RAdam")]
    + [(name, {"fused": True}) for name in ("Adagrad", "Adam", "AdamW", "SGD")]
    + [("Adam", {"foreach": True}), ("Adam", {"amsgrad": True})],
    ids=str,
)
def test_each_of_torchs_own_as_measured(name, options):
    make = made_by(name, **options)
    found = measure(Workload(model(), "", (IMAGES,)), optimizer=make)
    assert predicted(make).peak == pytest.approx(found.tensors, rel=0.001)


def test_what_only_later_steps_make_is_predicted():
    """RAdam adapts its rate from the sixth step on."""

    def later(given):
        made = optim.RAdam(given)
        made.register_step_post_hook(
            lambda made, *_: [state.update(step=torch.tensor(9.0)) for state in made.state.values()]
        )
        return made

    found = measure(Workload(model(), "", (IMAGES,)), optimizer=later)
    assert predicted(optim.RAdam).peak == pytest.approx(found.tensors, rel=0.001)


def test_on_a_gpu_all_parameters_at_once_is_the_default():
    for name in ("SGD", "Adam", "AdamW", "Adagrad", "ASGD", "Adafactor"):
        default, foreach, single = (
            predicted(made_by(name, **options), "cuda").peak
            for options in ({}, {"foreach": True}, {"foreach": False})
        )
        if name == "Adafactor":
            assert default == single < foreach, "torch's default for it alone"
        else:
            assert default == foreach


def test_a_fused_step_makes_nothing_on_a_gpu():
    whole = predicted("adamw", "cuda").parameters
    for name, copies in (("SGD", 2), ("Adagrad", 3), ("AdamW", 4)):
        found = predicted(made_by(name, fused=True), "cuda")
        assert found.peak == pytest.approx(copies * whole, rel=0.03)
        assert found.temporary < 0.03 * whole


def test_a_capturable_step_on_a_gpu_and_on_the_cpu():
    """Its step counts lie on the GPU; the CPU has no such thing."""
    for name in ("Adam", "AdamW", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "Adamax"):
        plain, capturable = (
            predicted(made_by(name, **options), "cuda") for options in ({}, {"capturable": True})
        )
        assert capturable.optimizer_state >= plain.optimizer_state
        assert capturable.peak > plain.peak or name == "ASGD"
    with pytest.raises(
        InputError,
        match=r"^Sequential: a step of Adam cannot be predicted: AssertionError: If capturable",
    ):
        predicted(made_by("Adam", capturable=True))


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (
            lambda given: optim.SGD(given, lr=-1),
            "a step of the optimizer cannot be predicted: ValueError: Invalid learning rate",
        ),
        (lambda given: given, "optimizer= gives a list: expected a function from a list of param"),
        (optim.SparseAdam, "a step of SparseAdam cannot be predicted: RuntimeError: SparseAdam"),
    ],
)
def test_an_optimizer_that_cannot_be_made_is_one_line(optimizer, says):
    with pytest.raises(InputError, match=f"^[^\n]*{says}[^\n]*$"):
        predicted(optimizer)


def test_several_threads_leave_torchs_optimizers_as_they_were():
    def devices():
        adam = inspect.getmodule(optim.Adam)
        return adam._get_capturable_supported_devices(), vars(adam).copy()

    before = devices()

    def often():
        for _ in range(20):
            with optimizers_take_meta("cuda"):
                assert "meta" in devices()[0]

    threads = [threading.Thread(target=often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert devices() == before
