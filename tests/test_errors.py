"""Where a note points to."""

import warnings

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import ZooWarning, warn

LIBRARY = """
from zoo.errors import warn

def inner():
    warn("said")

def outer():
    inner()
"""


def as_part_of_zoo(source):
    """The names of a file as if it were one of the package's."""
    names = {"__name__": "zoo.part"}
    exec(compile(source, "part.py", "exec"), names)
    return names


def place(call, line):
    """That `call`, which stands on `line` of this file, has its note there."""
    with pytest.warns(ZooWarning) as notes:
        call()
    return {(note.filename, note.lineno) for note in notes} == {(__file__, line)}


def line_of(function):
    return function.__code__.co_firstlineno + 1


def test_a_note_points_to_the_caller_s_line():
    part = as_part_of_zoo(LIBRARY)

    def here():
        part["outer"]()

    assert place(here, line_of(here))


def test_through_torch_s_wrappers_and_modules():
    part = as_part_of_zoo(LIBRARY)
    decorated = torch.no_grad()(torch.inference_mode()(part["outer"]))

    def through_decorators():
        decorated()

    assert place(through_decorators, line_of(through_decorators))

    inner = as_part_of_zoo(
        LIBRARY + "\nfrom torch import nn\nclass Layer(nn.Module):\n"
        "    def forward(self, x):\n        outer()\n        return x\n"
    )["Layer"]
    model = nn.Sequential(inner(), nn.Identity())

    def through_modules():
        model(torch.zeros(1))

    assert place(through_modules, line_of(through_modules))


def test_of_public_functions():
    class Fourier(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x).abs()

    def count():
        zoo.profile(Fourier(), inputs=torch.empty(2, 4))

    assert place(count, line_of(count))

    model = zoo.create("squeezenet1_1", device="meta")

    def new_head():
        model.reset_classifier(3)

    assert place(new_head, line_of(new_head))


def test_a_function_of_the_user_s_that_zoo_calls():
    """The line nearest to what happened, not the one that started it all."""
    called = as_part_of_zoo("def call(function):\n    function()\n")["call"]
    part = as_part_of_zoo(LIBRARY)

    def mine():
        part["outer"]()

    assert place(lambda: called(mine), line_of(mine))


def test_one_note_per_line_and_text():
    """As the filter `default` has it: the caller's line is what counts."""
    part = as_part_of_zoo(LIBRARY)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("default")
        for _ in range(3):
            part["outer"]()
        part["outer"]()
    assert [note.lineno for note in notes] == [
        line_of(test_one_note_per_line_and_text) + 5,
        line_of(test_one_note_per_line_and_text) + 6,
    ]


def test_without_a_caller():
    """As in a process of its own that reads data."""
    names = {"__name__": "zoo.part", "warn": warn}
    with pytest.warns(ZooWarning, match="alone"):
        exec(compile('warn("alone")', "part.py", "exec"), names)
