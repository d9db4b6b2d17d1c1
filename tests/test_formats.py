"""The readers of published formats: on a mirror's real files, on files written byte by
byte, and on damaged ones.
"""

import hashlib
import io
import os
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from zoo.errors import WeightsError
from zoo.weights.formats import READERS, read

MIRROR = Path(os.environ.get("ZOO_MIRROR", "/nonexistent"))


def published(name):
    path = MIRROR / name
    if not path.exists():
        pytest.skip(f"{name} is not here: ZOO_MIRROR names a folder with published files")
    return path


def total(state):
    return sum(tensor.numel() for tensor in state.values())


# ------------------------------------------------------------------- the mirror's files


def test_deep_compression():
    state = read(published("compressed_SqueezeNet.net"), "deep_compression")
    assert total(state) == 1_248_424
    assert state["conv10.weight"].shape == (1000, 512, 1, 1)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    pruned = sum(int((tensor == 0).sum()) for tensor in state.values())
    assert 0.6 < pruned / 1_248_424 < 0.7


@pytest.mark.parametrize(
    ("name", "count", "params"),
    [
        ("bvlc_googlenet_caffejs.tar", 116, 6_998_552),
        ("squeezenet_v1.1_caffejs.tar", 52, 1_235_496),
    ],
)
def test_raw_float32(name, count, params):
    state = read(published(name), "raw_float32")
    assert len(state) == count
    assert total(state) == params


@pytest.mark.parametrize(
    ("name", "key", "shape"),
    [
        ("pqf_resnet18.pth", "layer4.1.conv2.weight", (512, 512 * 9)),
        ("pqf_resnet50_large.pth", "layer4.2.conv3.weight", (2048, 512)),
    ],
)
def test_codebooks(name, key, shape):
    state = read(published(name), "codebooks")
    assert state[key].shape == shape
    assert state[key].dtype == torch.float32
    assert not [each for each in state if "code" in each]


def by_layer():
    """A convolution of 3 outputs, 2 blocks each, a batch norm, a classifier's bias."""
    return {
        "conv": {
            "centroids": torch.arange(20.0).reshape(5, 4).half(),
            "assignments": torch.tensor([0, 1, 2, 3, 4, 0], dtype=torch.uint8),
            "n_blocks": 2,
            "is_conv": True,
            "k": 2,
        },
        "bn": {"weight": torch.ones(3).half(), "bias": torch.zeros(3).half()},
        "fc_bias": {"bias": torch.ones(5)},
    }


def test_codebooks_by_layer(tmp_path):
    """All outputs' first blocks stand before their second ones."""
    torch.save(by_layer(), tmp_path / "net.pth")
    state = read(tmp_path / "net.pth", "codebooks")
    assert list(state) == ["conv.weight", "bn.weight", "bn.bias", "fc_bias.bias"]
    assert state["conv.weight"].tolist() == [
        [0, 1, 2, 3, 12, 13, 14, 15],
        [4, 5, 6, 7, 16, 17, 18, 19],
        [8, 9, 10, 11, 0, 1, 2, 3],
    ]
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    damaged(tmp_path / "damaged", (tmp_path / "net.pth").read_bytes(), "codebooks", range(0), 100)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("n_blocks", 4, "has 6 codes in 4 blocks"),
        ("n_blocks", 0, "without their assignments"),
        ("assignments", [0, 1], "without their assignments"),
        ("assignments", torch.tensor([5] * 6), "a code of conv is 5 of 5"),
        ("centroids", 1.0, "conv.codebook is no tensor"),
        ("centroids", torch.zeros(5), "no table of whole numbers"),
        ("centroids", torch.zeros(1, 1).expand(5, 1 << 24), "more numbers than such a file"),
    ],
)
def test_codebooks_by_layer_with_a_fault(tmp_path, part, value, words):
    content = by_layer()
    content["conv"][part] = value
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=words):
        read(tmp_path / "net.pth", "codebooks")


def checkpoint(tmp_path):
    folder = published("charrnn")
    with tarfile.open(tmp_path / "charrnn.tar", "w") as tar:
        for path in sorted(folder.glob("model-85340.*"), reverse=True):
            tar.add(path, path.name)
    return tmp_path / "charrnn.tar"


def test_tf_checkpoint(tmp_path):
    state = read(checkpoint(tmp_path), "tf_checkpoint")
    cells = "rnn/multi_rnn_cell/cell_{}/basic_lstm_cell/{}"
    weights = {key: tensor for key, tensor in state.items() if tensor.is_floating_point()}
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items() if tensor.ndim}
    assert shapes == {
        cells.format(0, "kernel"): (65 + 128, 512),
        cells.format(0, "bias"): (512,),
        cells.format(1, "kernel"): (256, 512),
        cells.format(1, "bias"): (512,),
        "softmax/softmax_w": (128, 65),
        "softmax/softmax_b": (65,),
    }
    assert sum(map(torch.Tensor.numel, (weights[key] for key in shapes))) == 239_297


# ---------------------------------------------------------- files written byte by byte


def varint(number):
    out = b""
    while True:
        out += bytes([number & 0x7F | (0x80 if number > 0x7F else 0)])
        number >>= 7
        if not number:
            return out


def field(number, value):
    """A field of a message: a whole number, text, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else bytes(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def floats(tensor):
    return tensor.numpy().astype("<f4").tobytes()


def onnx_tensor(name, tensor, raw=True, packed_dims=True):
    dims = b"".join(varint(size) for size in tensor.shape)
    shape = field(1, dims) if packed_dims else b"".join(field(1, size) for size in tensor.shape)
    data = field(9, floats(tensor)) if raw else field(4, floats(tensor))
    return shape + field(2, 1) + field(8, name) + data


def onnx_file(*tensors):
    graph = field(1, b"a node, which is not looked at") + field(2, "graph")
    graph += b"".join(field(5, tensor) for tensor in tensors)
    return field(1, 7) + field(2, "a producer") + field(7, graph) + field(8, field(2, 9))


def test_onnx(tmp_path):
    one, two = torch.randn(4, 3, 2, 2), torch.randn(5)
    path = tmp_path / "net.onnx"
    for raw in (True, False):
        for packed in (True, False):
            path.write_bytes(
                onnx_file(onnx_tensor("one_w", one, raw, packed), onnx_tensor("two", two, raw))
            )
            state = read(path, "onnx")
            assert list(state) == ["one_w", "two"]
            assert torch.equal(state["one_w"], one)
            assert torch.equal(state["two"], two)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (field(1, 2**60) + field(2, 1) + field(8, "w") + field(9, bytes(8)), "2 numbers for the"),
        (field(1, 2) + field(2, 99) + field(8, "w") + field(9, bytes(8)), "type 99"),
        (field(1, 2) + field(2, 1) + field(8, "w") + field(9, bytes(7)), "no numbers of 4"),
        (field(1, 2) + field(2, 1) + field(8, "w") + field(14, 1), "kept in another file"),
        (field(1, 2) + field(2, 1) + field(8, b"\xff") + field(9, bytes(8)), "is no text"),
    ],
)
def test_onnx_with_a_fault(tmp_path, tensor, words):
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_file(tensor))
    with pytest.raises(WeightsError, match=words):
        read(path, "onnx")


def caffe_blob(tensor, old=False, doubles=False):
    if old:
        shape = b"".join(field(i + 1, size) for i, size in enumerate(tensor.shape))
    else:
        shape = field(7, field(1, b"".join(varint(size) for size in tensor.shape)))
    if doubles:
        return shape + field(8, tensor.numpy().astype("<f8").tobytes())
    return shape + field(5, floats(tensor))


def caffe_layer(name, *blobs):
    """As written since 2014, and before."""
    new = field(100, field(1, name) + field(2, "Kind") + b"".join(field(7, b) for b in blobs))
    old = field(2, b"".join(field(6, b) for b in blobs) + field(4, name) + field(5, 4))
    return new, old


@pytest.mark.parametrize("old", [False, True])
def test_caffemodel(tmp_path, old):
    weight, bias = torch.randn(4, 3, 2, 2), torch.randn(1, 1, 1, 4)
    layer = caffe_layer("conv/1", caffe_blob(weight, old), caffe_blob(bias, old))[old]
    empty = caffe_layer("relu")[old]
    doubled = caffe_layer("fc", caffe_blob(weight.double(), old, doubles=True))[old]
    path = tmp_path / "net.caffemodel"
    path.write_bytes(field(1, "a net") + layer + empty + doubled)
    state = read(path, "caffemodel")
    assert list(state) == ["conv/1.0", "conv/1.1", "fc.0"]
    assert torch.equal(state["conv/1.0"], weight)
    assert torch.equal(state["conv/1.1"], bias)
    assert torch.equal(state["fc.0"], weight)


def test_zipped_torch(tmp_path):
    plain = io.BytesIO()
    torch.save({"w": torch.ones(3)}, plain)
    sha1 = hashlib.sha1(plain.getvalue()).hexdigest()
    path = tmp_path / "net.pth.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(f"net-1234-{sha1[:8]}.pth", plain.getvalue())
    assert torch.equal(read(path, "zipped_torch")["w"], torch.ones(3))
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("net-1234-00000000.pth", plain.getvalue())
    with pytest.raises(WeightsError, match="another SHA-1 than its name says"):
        read(path, "zipped_torch")
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../../a.pth", b"")
        packed.writestr("b.pth", b"")
    with pytest.raises(WeightsError, match="not a zip of one weights file"):
        read(path, "zipped_torch")
    assert [each.name for each in tmp_path.iterdir()] == ["net.pth.zip"]


def test_an_unknown_format(tmp_path):
    with pytest.raises(WeightsError, match="the format 'npz' is not known: safetensors, torch"):
        read(tmp_path / "x", "npz")


# ----------------------------------------------------------------------------- damage


def samples(tmp_path):
    """A small whole file of each format."""
    state = {"w": torch.randn(8, 4), "b": torch.randn(8)}
    from safetensors.torch import save_file

    save_file(state, tmp_path / "safetensors")
    torch.save(state, tmp_path / "torch")
    content = (tmp_path / "torch").read_bytes()
    with zipfile.ZipFile(tmp_path / "zipped_torch", "w") as packed:
        packed.writestr(f"n-{hashlib.sha1(content).hexdigest()[:8]}.pth", content)
    (tmp_path / "onnx").write_bytes(onnx_file(*(onnx_tensor(k, v) for k, v in state.items())))
    (tmp_path / "caffemodel").write_bytes(caffe_layer("l", caffe_blob(state["w"]))[0])
    with tarfile.open(tmp_path / "raw_float32", "w") as tar:
        entry = tarfile.TarInfo("net/weights/w.bin")
        entry.size = 128
        tar.addfile(entry, io.BytesIO(floats(state["w"])))
    torch.save(
        {"l.codes_matrix": torch.randint(0, 4, (6, 5)).byte(), "l.codebook": torch.randn(4, 2)},
        tmp_path / "codebooks",
    )
    return tmp_path


@pytest.mark.parametrize("kind", sorted(set(READERS) - {"deep_compression", "tf_checkpoint"}))
def test_damaged_files_end_in_one_error(tmp_path, kind):
    """Cut anywhere, or with bytes flipped: the same keys and shapes, or one line; no
    crash, and no number of bytes that the file does not have.
    """
    whole = (samples(tmp_path) / kind).read_bytes()
    damaged(
        tmp_path / f"damaged.{kind}",
        whole,
        kind,
        cuts=range(0, len(whole), max(1, len(whole) // 150)),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("compressed_SqueezeNet.net", "deep_compression"),
        ("squeezenet_v1.1_caffejs.tar", "raw_float32"),
        ("pqf_resnet18.pth", "codebooks"),
        ("resnet20-12fca82f.th", "torch"),
    ],
)
def test_real_files_damaged(tmp_path, name, kind):
    whole = published(name).read_bytes()
    damaged(tmp_path / "damaged", whole, kind, range(0, len(whole), 8 * 997), flips=30)


def test_a_damaged_checkpoint(tmp_path):
    """Its index, behind the data in this tar, is what says where everything is."""
    whole = checkpoint(tmp_path).read_bytes()
    index = whole.index(b"model-85340.index")
    damaged(tmp_path / "damaged", whole, "tf_checkpoint", range(0, len(whole), 100 * 997), 0)
    choose = random.Random(0)
    for _ in range(200):
        content = bytearray(whole)
        content[choose.randrange(index + 512, index + 512 + 1042)] ^= choose.randrange(1, 256)
        (tmp_path / "damaged").write_bytes(content)
        try:
            read(tmp_path / "damaged", "tf_checkpoint")
        except WeightsError as error:
            message = str(error)
            assert "\n" not in message


def damaged(path, whole, kind, cuts, flips=150):
    path.write_bytes(whole)
    known = read(path, kind)

    def attempt(content):
        path.write_bytes(content)
        try:
            return read(path, kind)
        except WeightsError as error:
            message = str(error)
        assert "\n" not in message
        return None

    for cut in cuts:
        state = attempt(whole[:cut])  # a tar may lose some of the zeros behind its end
        assert state is None or all(torch.equal(state[key], known[key]) for key in known)
    choose = random.Random(0)
    size = sum(map(torch.Tensor.numel, known.values()))
    for _ in range(flips):
        content = bytearray(whole)
        for _ in range(choose.choice((1, 4))):
            place = choose.randrange(min(len(content), choose.choice((200, 1 << 40))))
            content[place] ^= choose.randrange(1, 256)
        if state := attempt(content):
            assert sum(map(torch.Tensor.numel, state.values())) <= 2 * size


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("safetensors", struct.pack("<Q", 2**60) + b"{}"),
        ("safetensors", struct.pack("<Q", 80) + b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}  '),
        ("onnx", varint(7 << 3 | 2) + varint(2**60) + b"x"),
        ("caffemodel", varint(100 << 3 | 2) + varint(2**60)),
        ("deep_compression", b"\xff\xff\xff\x7f" * 26),
        ("onnx", b"\xff" * 40),
        ("tf_checkpoint", b"\0" * 600),
    ],
)  # fmt: skip
def test_claims_beyond_the_file(tmp_path, kind, content):
    path = tmp_path / "claims.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        read(path, kind)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", READERS)
def test_nothing_there(tmp_path, kind):
    for path in (tmp_path / "absent", tmp_path / "empty"):
        if path.name == "empty":
            path.touch()
        with pytest.raises(WeightsError):
            read(path, kind)
