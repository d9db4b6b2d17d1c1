"""Predicted memory against what torch records on a GPU: every kernel of the table, and
networks of each kind.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.count.memory.checked import NETWORKS
from zoo.count.memory.device_kernels import KERNELS
from zoo.count.memory.measured_memory import measure
from zoo.count.memory.memory_budget import LIBRARY_RESERVE, available_bytes
from zoo.count.workload import Workload

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def saved_bytes(forward, *inputs):
    """Bytes that a forward pass saves for its backward pass on the GPU: of its outputs
    only those that are needed there.
    """
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    output = forward(*inputs)
    graph = (output[0] if isinstance(output, tuple) else output).grad_fn
    del output
    torch.cuda.synchronize()
    size = torch.cuda.memory_allocated() - before
    del graph
    return size


class Attention(nn.Module):
    def forward(self, q):
        return F.scaled_dot_product_attention(q, q, q)


MANY_PARAMETERS = "ciresan_mlp4"  # and few activations
LAYERS = {  # a layer per entry of KERNELS["cuda"], and its input
    "dropout": (lambda: nn.Dropout(0.5), (64, 1024, 256)),
    "scaled_dot_product_attention": (Attention, (8, 8, 512, 64)),
    "lstm": (lambda: nn.LSTM(256, 512, 2), (100, 32, 256)),
    "gru": (lambda: nn.GRU(256, 512, 2), (100, 32, 256)),
    "rnn_tanh": (lambda: nn.RNN(256, 512, 2), (100, 32, 256)),
    "rnn_relu": (lambda: nn.RNN(256, 512, 2, nonlinearity="relu"), (100, 32, 256)),
}


def test_every_entry_of_the_table_has_its_check():
    assert set(LAYERS) == set(KERNELS["cuda"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_a_kernel_saves_what_the_table_says(name, dtype):
    make, shape = LAYERS[name]
    x = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)
    layer = make().to("cuda", dtype)
    layer(x)  # the library's own memory
    measured = saved_bytes(layer, x)
    memory = zoo.memory(make(), inputs=x, dtype=dtype, optimizer=None)
    whole = memory.rows[0].activations
    print(f"{name} {dtype}: predicted {whole}, measured {measured}, ratio {whole / measured:.3f}")
    assert whole == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("mode", "optimizer"), [("train", "momentum"), ("train", "adamw"), ("eval", None)]
)
@pytest.mark.parametrize("name", [each for each in NETWORKS if each != MANY_PARAMETERS])
def test_the_peak_of_a_step(name, mode, optimizer, autocast):
    batch = 32
    predicted = zoo.memory(name, batch, mode, optimizer=optimizer, autocast=autocast).peak
    torch.cuda.empty_cache()
    model = zoo.create(name, device="cuda")
    images = torch.randn(batch, *zoo.info(name).variant.image.size, device="cuda")
    workload = Workload(model, name, (images,))
    found = measure(workload, mode=mode, optimizer=optimizer, autocast=autocast)
    print(name, mode, optimizer, autocast, "predicted", predicted, found)
    assert predicted == pytest.approx(found.tensors, rel=0.01)


@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
)
def test_the_peak_with_every_optimizer(optimizer):
    """A network of many parameters and few activations: the optimizer's copies are the
    peak.
    """
    predicted = zoo.memory(MANY_PARAMETERS, 1, optimizer=optimizer).peak
    images = torch.randn(1, *zoo.info(MANY_PARAMETERS).variant.image.size, device="cuda")
    model = zoo.create(MANY_PARAMETERS, device="cuda")
    found = measure(Workload(model, MANY_PARAMETERS, (images,)), optimizer=optimizer)
    print(optimizer, "predicted", predicted, found)
    assert predicted == pytest.approx(found.tensors, rel=0.01)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"fused": True}),
        ("AdamW", {"fused": True}),
        ("AdamW", {"capturable": True}),
        ("ASGD", {}),
        ("Adafactor", {}),
        ("RMSprop", {"foreach": False}),
    ],
    ids=str,
)
def test_the_peak_with_an_optimizer_made_by_a_function(name, options):
    def make(parameters):
        return getattr(torch.optim, name)(parameters, lr=0.001, **options)

    predicted = zoo.memory(MANY_PARAMETERS, 1, optimizer=make).peak
    images = torch.randn(1, *zoo.info(MANY_PARAMETERS).variant.image.size, device="cuda")
    model = zoo.create(MANY_PARAMETERS, device="cuda")
    found = measure(Workload(model, MANY_PARAMETERS, (images,)), optimizer=make)
    print(name, options, "predicted", predicted, found)
    assert predicted == pytest.approx(found.tensors, rel=0.01)


def test_a_model_on_the_gpu_is_counted_as_it_is():
    model = zoo.create("resnet18", device="cuda")
    before = torch.cuda.memory_allocated()
    assert zoo.profile(model).macs == zoo.profile("resnet18").macs
    assert zoo.memory(model, 8).peak == zoo.memory("resnet18", 8).peak
    assert torch.cuda.memory_allocated() == before


def test_the_largest_batch_runs_and_is_nearly_the_largest():
    """In a part of the card, so that it does not take long."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    size = available_bytes("6GiB", "cuda") + LIBRARY_RESERVE  # the driver's is not torch's
    torch.cuda.set_per_process_memory_fraction(size / total)
    try:
        predicted = zoo.max_batch_size("resnet50", "6GiB")
        assert zoo.max_batch_size("resnet50", "6GiB", confirm=True) == predicted
        images = torch.randn(int(predicted / 0.95) + 1, 3, 224, 224, device="cuda")
        with pytest.raises(torch.OutOfMemoryError):
            measure(Workload(zoo.create("resnet50", device="cuda"), "resnet50", (images,)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
