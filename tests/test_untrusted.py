"""Weights files that were made to do harm: refused in one line, without running what is
in them, without a hang and without more memory than the file has.
"""

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import WeightsError
from zoo.files import read_state
from zoo.weights.remote import RemoteFile

EXTRA = 1 << 30  # bytes of address space that reading may take
SECONDS = 60

# reads each file in a process with a limit on its memory and on its time
READER = f"""
import json, resource, signal, sys
import torch
from safetensors.torch import load_file
from zoo.errors import WeightsError
from zoo.files import read_state
torch.set_num_threads(1)
for line in open("/proc/self/status"):
    if line.startswith("VmSize"):
        limit = int(line.split()[1]) * 1024 + {EXTRA}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm({SECONDS})
    try:
        said = f"read {{len(read_state(path))}}"
    except WeightsError as error:
        said = str(error)
    signal.alarm(0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([path, said, grown // 1024]), flush=True)
"""


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def torch_zip(path, content=b"", change=lambda names: names, compression=zipfile.ZIP_STORED):
    """A torch.save file whose pickle or members are others."""
    torch.save({"w": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    members[name] = content or members[name]
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, each in change(members).items():
            packed.writestr(name, each)


def huge_storage(members):
    """The pickle says that a storage has 2^40 numbers, and the tensor too."""
    name = next(name for name in members if name.endswith("data.pkl"))
    many = b"\x8a\x08" + struct.pack("<q", 2**40)
    kept = members[name]
    kept = kept.replace(b"cpuq\x06K\x04t", b"cpuq\x06" + many + b"t")
    kept = kept.replace(b"K\x00K\x04\x85", b"K\x00" + many + b"\x85")
    assert kept.count(many) == 2
    return {**members, name: kept}


def compressed(members):
    return {**members, "archive/data/0": bytes(1 << 26)}


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


DEEP = 500_000
DOUBLED = b"".join(b"q%c0(h%ch%ct" % (i, i, i) for i in range(60))
PICKLES = {
    "lists in lists": b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * DEEP + b"a" * (DEEP - 1) + b"s.",
    "dicts in dicts": b"\x80\x02" + b"}X\x05\x00\x00\x00state" * DEEP + b"K\x01" + b"s" * DEEP + b".",
    "a tuple so deep that hashing it overflows the stack": b"\x80\x02})" + b"\x85" * DEEP + b"K\x01s.",
    "a tuple whose hash takes 2^60 steps": b"\x80\x02})" + DOUBLED + b"K\x01s.",
    "a number of 2^31 bytes": b"\x80\x02}X\x01\x00\x00\x00a\x8b\xff\xff\xff\x7fs.",
    "a name of 2^31 bytes": b"\x80\x02}X\xff\xff\xff\x7f",
    "an empty stack": b"\x80\x02}0000.",
    "a bytearray of 2^40 bytes": b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85Rs.",
}  # fmt: skip
SAFETENSORS = {
    "a header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
    "a header of 2^47 bytes": struct.pack("<Q", 2**47) + b"{}",
    "a tensor of 2^42 bytes": safetensors({"w": entry([2**40], 0, 2**42)}),
    "a size that overflows": safetensors({"w": entry([2**33, 2**33], 0, 16)}, bytes(16)),
    "two tensors in the same bytes": safetensors(
        {"a": entry([4], 0, 16), "b": entry([4], 0, 16)}, bytes(16)
    ),
    "a hole": safetensors({"a": entry([2], 0, 8), "b": entry([2], 16, 24)}, bytes(24)),
    "a name twice": safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
    ),
    "a shape that is no number": safetensors(
        b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)
    ),
    "a negative shape": safetensors({"a": entry([-1], 0, 4)}, bytes(4)),
    "a shape of a fraction": safetensors({"a": entry([1.5], 0, 6)}, bytes(6)),
    "offsets backwards": safetensors({"a": entry([1], 4, 0)}, bytes(4)),
    "brackets": safetensors(b'{"a":' + b"[" * 100_000, bytes(4)),
    "an unknown type": safetensors({"a": entry([1], 0, 4, "X9")}, bytes(4)),
}


def hostile(folder):
    for title, content in PICKLES.items():
        torch_zip(folder / f"zip, {title}", content)
        head = b"".join(
            pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        )  # fmt: skip
        (folder / f"old, {title}").write_bytes(head + content + pickle.dumps([], 2))
    for title, content in SAFETENSORS.items():
        (folder / f"safetensors, {title}").write_bytes(content)
    torch_zip(folder / "zip, a storage of 2^40 numbers", change=huge_storage)
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, folder / "zip, one number 2^40 times")
    torch_zip(folder / "zip, compressed", change=compressed, compression=zipfile.ZIP_DEFLATED)
    return sorted(folder.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_nothing_is_read_and_little_memory_taken(tmp_path):
    paths = hostile(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READER, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=10 * SECONDS,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    reached = [path for path, _, _ in lines]
    assert reached == [*map(str, paths)], (paths[len(reached)], done.returncode, done.stderr)
    for path, said, grown in lines:
        assert said.startswith(path), (path, said)
        assert "\n" not in said
        assert grown < 200, f"{path}: {grown} MiB"  # the deepest pickles are objects of Python


@pytest.mark.parametrize("old", [False, True])
def test_code_in_a_pickle_is_not_run(tmp_path, old):
    """In a torch.save file of either format, in a plain pickle, and in a zip of one."""
    trap = tmp_path / "trap"
    path = tmp_path / "file.pth"
    content = {"state_dict": {"w": torch.zeros(2)}, "config": Harm(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    for read in (
        read_state,
        lambda path: zoo.create("lenet5", checkpoint_path=path),
        lambda path: zoo.finetune("lenet5", "digits", checkpoint_path=path, progress=False),
    ):
        with pytest.raises(
            WeightsError, match=r"holds a pickled (posix|nt)\.mkdir, which could run"
        ):
            read(path)
        assert not trap.exists()
    path.write_bytes(pickle.dumps(Harm(trap)))
    with pytest.raises(WeightsError):
        read_state(path)
    assert not trap.exists()
    pickle.loads(path.read_bytes())  # the trap does work
    assert trap.exists()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "..", ".x", "a/b", "a\\b", "", "x\n", "C:x", "~x", "x\0y"]
)
def test_a_name_does_not_leave_the_cache(name):
    """In a third party's manifest: of the file, of an alias, of a file beside it."""
    for record in (
        {"file": name, "urls": []},
        {"file": "x", "urls": [], "aliases": [name]},
    ):
        with pytest.raises(WeightsError, match="is no file name"):
            RemoteFile.from_record(record)


def test_memory_is_measured_in_this_way():
    """A file that takes much is seen to: the limit holds."""
    code = READER.split("for path in")[0] + "\ntry:\n    torch.ones(1 << 29)\n"
    code += "except RuntimeError:\n    print('refused')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr
