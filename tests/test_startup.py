"""What a verb waits for before it answers. Each takes a process of its own, in which
nothing is loaded yet: benchmarks/startup.py says how long they take.
"""

import subprocess
import sys

import pytest
import torch

import zoo
from zoo.data.digits import export_digits
from zoo.errors import ZooError
from zoo.files import write_state

RUN = """
import sys
from contextlib import redirect_stderr
from io import StringIO
from zoo.cli import main

def run(*args):
    sys.argv, said = ["zoo", *args], StringIO()
    try:
        with redirect_stderr(said):
            main()
    except SystemExit as stop:
        return stop.code or 0, said.getvalue()

def loaded(*names):
    return [name for name in names if name in sys.modules]
"""


def process(code, *args, folder):
    done = subprocess.run(
        [sys.executable, "-c", RUN + code, *args], capture_output=True, text=True, cwd=folder
    )
    assert not done.returncode, done.stderr
    return done.stdout


VERBS = """
for line in sys.argv[1].splitlines():
    args = line.split()
    code, said = run(*args)
    assert bool(code) == (args[0] == "finetune"), said
    slow = loaded("torch._dynamo", "sympy", "torchvision", "accelerate", "sklearn", "matplotlib")
    assert not slow, (line, slow)
"""


@pytest.mark.skipif(
    torch.__version__ < "2.15", reason="an older torch asks for more, which loads it"
)
def test_what_torch_and_torchvision_load_late_is_not_waited_for(tmp_path):
    model = zoo.create("lenet5_modern")
    about = {
        "architecture": "lenet5_modern",
        "num_classes": 10,
        "classes": list("0123456789"),
        "preprocessing": model.preprocessing.to_dict(),
    }
    write_state(tmp_path / "net.safetensors", model.state_dict(), about)
    export_digits(tmp_path / "png", 2)
    verbs = """\
profile lenet5 --json
profile lenet5 --mode train --json
memory lenet5 --optimizer adamw
memory lenet5 --fit 1GiB --device cpu
verify lenet5
predict net.safetensors png
finetune lenet5 --data nowhere
finetune lenet5 --data png --batch-size auto"""
    process(VERBS, verbs, folder=tmp_path)


REFUSED = """
for line in sys.argv[1].splitlines():
    args, _, expected = line.partition(" | ")
    code, said = run(*args.split())
    assert code and expected in said, (line, said)
    assert not loaded("torch", "numpy"), line
"""


def test_paths_and_options_are_checked_before_torch_is_imported(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    refused = """\
finetune lenet5 --data ./nowhere | there is no folder './nowhere' with data
finetune lenet5 --data digits --epochs 0 | --epochs 0: needs a whole number from 1 on
finetune lenet5 --data digits --lr -1 | --lr
finetune lenet5 --data digits --recipe none | there is no recipe 'none'
finetune lenet5 --data digits --seed -1 | --seed -1: needs a whole number
finetune lenet5 --data digits --out full | full exists and is not empty
finetune lenet5 --data digits --checkpoint none.pth | none.pth: no such weights file
finetune lenet5 --data digits --layout timm | --layout timm says how a file's keys are named
finetune lenet --data digits | did you mean
predict runs/none cat.jpg | runs/none is no run folder
profile lenet | did you mean"""
    process(REFUSED, refused, folder=tmp_path)


@pytest.mark.parametrize("data", [".", "./x.txt"])
def test_a_path_that_is_there_is_not_refused_early(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(ZooError, match=r"has no class folders|is a file"):
        zoo.finetune("lenet5_modern", data, progress=False)
