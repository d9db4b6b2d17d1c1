"""The generated pages and pictures: they follow the networks and their texts, and no
model file is without.
"""

import importlib.util
import json
import re
import shutil
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
import torch
from PIL import ImageFont
from torch import nn

from zoo import registry
from zoo.data.digits import export_digits
from zoo.paths import PACKAGE

DOCS = Path(__file__).resolve().parent.parent / "docs"
sys.path.insert(0, str(DOCS))  # what docs/build.py finds beside it

from diagram import block_svg  # noqa: E402
from graph_layout import layout  # noqa: E402

MODEL_FILES = sorted(
    path.stem for path in (PACKAGE / "models").glob("*.py") if path.stem != "__init__"
)
SMALL = ("lenet", "ciresan")
FILES = {"README.md", "lenet.md", "ciresan.md", "images/lenet.svg", "images/ciresan.svg"}


def load(path):
    spec = importlib.util.spec_from_file_location("build", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load(DOCS / "build.py")
TEXTS = BUILD.texts()
DRAWN = [name for name in MODEL_FILES if TEXTS[name].get("picture", True)]


@pytest.fixture
def build(tmp_path, monkeypatch):
    """The generator on a copy of the docs, with the pages of two small families just
    written.
    """
    for name in ("build.py", "families.toml"):
        shutil.copy(DOCS / name, tmp_path)
    module = load(tmp_path / "build.py")
    families, texts = module.families(), module.texts
    monkeypatch.setattr(module, "families", lambda: {family: families[family] for family in SMALL})
    monkeypatch.setattr(
        module,
        "texts",
        lambda: {
            family: text
            for family, text in texts().items()
            if family not in MODEL_FILES or family in SMALL
        },
    )
    assert module.main([]) == 0
    return module


def stale(build, capsys, *families):
    """What `--check` finds stale."""
    capsys.readouterr()
    code = build.main(["--check", *families])
    lines = capsys.readouterr().out.splitlines()
    if code == 0:
        assert lines == ["the pages are up to date"]
        return set()
    assert all(line.startswith("stale: docs/models/") for line in lines)
    return {line.removeprefix("stale: docs/models/") for line in lines}


def test_pages_are_written_once_and_then_up_to_date(build, capsys):
    assert {
        path.relative_to(build.HERE / "models").as_posix()
        for path in (build.HERE / "models").rglob("*.*")
    } == FILES
    assert stale(build, capsys) == set()
    assert build.main([]) == 0
    assert (
        capsys.readouterr().out == "0 of 5 pages and pictures written to docs/models, 0 removed\n"
    )


def test_a_changed_text_makes_its_page_stale(build, capsys):
    texts = build.HERE / "families.toml"
    texts.write_text(
        texts.read_text(encoding="utf-8").replace("read cheques in banks", "read letters"),
        encoding="utf-8",
    )
    assert stale(build, capsys) == {"lenet.md"}
    assert stale(build, capsys, "ciresan") == set()
    assert build.main(["lenet"]) == 0
    assert "and read letters" in (build.HERE / "models" / "lenet.md").read_text(encoding="utf-8")
    assert stale(build, capsys) == set()


def test_a_changed_claim_makes_its_page_stale(build, capsys, monkeypatch):
    family = registry.family("lenet5")
    variant = family.variants["lenet5"]

    def claiming(**changes):
        changed = replace(variant, claims=replace(variant.claims, **changes))
        altered = replace(family, variants={**family.variants, "lenet5": changed})
        known = registry.family
        monkeypatch.setattr(
            registry, "family", lambda name: altered if name in altered.variants else known(name)
        )

    first, *others = variant.claims.printed
    claiming(printed=(replace(first, source="section 7"), *others))
    assert stale(build, capsys) == {"lenet.md"}
    claiming(params=60_001)
    assert stale(build, capsys) == {"lenet.md", "README.md"}
    assert build.main([]) == 0
    assert "; these do not hold: lenet5 (" in (build.HERE / "models" / "lenet.md").read_text(
        encoding="utf-8"
    )


def test_what_was_changed_by_hand_is_stale(build, capsys):
    models = build.HERE / "models"
    page = models / "ciresan.md"
    page.write_text(page.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    (models / "images" / "lenet.svg").unlink()
    (models / "retired.md").write_text("of a family that is gone", encoding="utf-8")
    assert stale(build, capsys) == {"ciresan.md", "images/lenet.svg", "retired.md"}
    assert stale(build, capsys, "lenet") == {"images/lenet.svg"}
    assert build.main([]) == 0
    assert (
        capsys.readouterr().out == "2 of 5 pages and pictures written to docs/models, 1 removed\n"
    )
    assert not (models / "retired.md").exists()
    assert stale(build, capsys) == set()


def test_measurements_on_a_gpu_make_a_page(build, capsys):
    page, data = build.HERE / "gpu.md", build.HERE / "data" / "gpu"
    assert not page.exists()
    data.mkdir(parents=True)
    rows = [{"network": "vgg16", "images/s": 1234.5}]
    measured = {"section": "speed", "number": 1, "about": "What.", "device": "A Chip", "rows": rows}
    measured |= {"torch": "2.11", "tiny": False, "complete": True, "seconds": 5}
    (data / "speed.json").write_text(json.dumps(measured), encoding="utf-8")
    capsys.readouterr()
    assert build.main(["--check", "lenet"]) == 1
    assert capsys.readouterr().out.endswith("/gpu.md\n")
    assert build.main(["lenet"]) == 0
    assert "| vgg16 | 1,234.5 |" in page.read_text(encoding="utf-8")
    assert build.main(["--check", "lenet"]) == 0
    (data / "speed.json").unlink()
    assert build.main(["lenet"]) == 0
    assert not page.exists()


def test_names_and_texts_without_a_model_file(build, capsys):
    assert build.main(["lenet", "lenets"]) == 2
    assert (
        capsys.readouterr().err
        == "lenets: no networks of such a model file are registered, or docs/families.toml "
        "lacks its text\n"
    )
    with (build.HERE / "families.toml").open("a", encoding="utf-8") as texts:
        texts.write('\n[capsnet]\ntitle = "CapsNet"\n')
    assert build.main(["--check"]) == 2
    assert "capsnet: no networks" in capsys.readouterr().err


def test_key_names_of_peers_are_listed():
    text = BUILD.layouts(["resnet18", "resnet50", "resnet50_v1_5", "resnet20_cifar10"])
    assert "`torchvision` for `resnet18`, `resnet50_v1_5`; torchvision's resnet50 is" in text
    assert "`resnet50_v1_5`." in text
    assert "`akamaster` for `resnet20_cifar10` (the peer's networks have `shortcut_pad=" in text
    assert BUILD.layouts(["lenet5"]) == ""


def test_a_page_holds_what_it_should(build):
    page = (build.HERE / "models" / "lenet.md").read_text(encoding="utf-8")
    headings = [
        "Networks",
        "Layers of `lenet5`",
        "Printed and computed",
        "Sources, readings and departures",
    ]
    assert re.findall("^## (.*)$", page, re.MULTILINE) == [
        *headings,
        "Results that the paper reports",
        "Recipe of the paper",
    ]
    for line in (
        "[doi:10.1109/5.726791](https://doi.org/10.1109/5.726791)",
        "![lenet5](images/lenet.svg)",
        "`lenet5`, drawn from the module as it runs in evaluation.",
        "| `lenet5` | the network of 1998 | 1998 | 7 | 1x32x32 | 60,000 | 325,680 | 651,360 |",
        "| `features.c3.conv` | TableConv2d | 16x10x10 | 1,516 | 150,000 |",
        "| `lenet5` | connections | II.B | 340,908 | 340,908 | agrees |",
        "| `lenet5` | output of 6 modules | Fig. 2 | 6 shapes | the same | agrees |",
        "| `lenet5` | test error % | 0.95 | MNIST test | single network, 20 passes | III |",
        "| epochs | 20 |",
    ):
        assert line in page
    index = (build.HERE / "models" / "README.md").read_text(encoding="utf-8")
    assert (
        "| [`lenet5`](lenet.md) | 1998 | 7 | 60,000 | 325,680 | 0.95 test error % (MNIST "
        "test; single network, 20 passes) |" in index
    )
    assert index.startswith(f"{build.GENERATED}\n\n# All networks\n\n7 networks of 2 papers")


def test_every_model_file_has_its_text():
    assert sorted(BUILD.families()) == sorted(TEXTS) == MODEL_FILES
    for family, text in TEXTS.items():
        assert text.keys() <= {
            "title",
            "new",
            "block",
            "layers",
            "fold",
            "labels",
            "picture",
            "recipe",
        }, family
        assert text["title"], family
        assert 1 <= len(re.findall(r"\.(?=\s|$)", text["new"])) <= 3, family
        assert all(isinstance(how, str) and how for how in text["recipe"].values()), family


# -------------------------------------------------------------------- pages with Python


@pytest.mark.parametrize("page", ["coming_from_timm.md", "coming_from_torchvision.md", "guide.md"])
@pytest.mark.filterwarnings("ignore::zoo.errors.ZooWarning")
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """All its blocks, in one namespace; they assert what they promise."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text(encoding="utf-8")
    namespace = {"__name__": page}
    if page == "guide.md":
        namespace["images"] = str(export_digits(tmp_path / "images", 2)[0])
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 4
    for block in blocks:
        before = text.count("\n", 0, block.start(1))  # so that an error names the page's line
        exec(compile("\n" * before + block[1], str(DOCS / page), "exec"), namespace)


# ----------------------------------------------------------------------------- pictures


def drawn(svg):
    """The boxes (left, top, right, bottom), the texts (x, y, size, text) and the points
    of the lines of a picture, and its size.
    """
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(svg)
    boxes = []
    for rect in root.iter(f"{space}rect"):
        if "x" in rect.attrib:
            x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
            boxes.append((x, y, x + width, y + height))
    texts = [
        (float(text.get("x")), float(text.get("y")), int(text.get("font-size")), text.text)
        for text in root.iter(f"{space}text")
        if "text-anchor" not in text.attrib  # beside an arrow
    ]
    lines = [points(path.get("d")) for path in root.findall(f"{space}path")]
    return boxes, texts, lines, (float(root.get("width")), float(root.get("height")))


def points(path):
    """Points along a path of the commands M, V, H and C."""
    found = []
    for command, numbers in re.findall("([MVHC])([-0-9., ]+)", path):
        values = [float(number) for number in re.split("[, ]", numbers)]
        if command == "M":
            found.append((values[0], values[1]))
        elif command == "H":
            x, y = found[-1]
            found += [(x + (values[0] - x) * i / 20, y) for i in range(1, 21)]
        elif command == "V":
            x, y = found[-1]
            found += [(x, y + (values[0] - y) * i / 20) for i in range(1, 21)]
        else:
            control = [found[-1], *zip(values[::2], values[1::2], strict=True)]
            for i in range(1, 21):
                t = i / 20
                weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
                found.append(
                    tuple(
                        sum(w * point[axis] for w, point in zip(weights, control, strict=True))
                        for axis in (0, 1)
                    )
                )
    return found


def inside(point, box, by=1.5):
    return box[0] + by < point[0] < box[2] - by and box[1] + by < point[1] < box[3] - by


def check_legible(svg):
    """No box lies on another, no line passes through one, and each text is in one and
    has room there in the widest usual font.
    """
    boxes, texts, lines, (width, height) = drawn(svg)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for a, b in combinations(boxes, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], (a, b)
    assert all(
        min(left, top) > 0 and right < width and bottom < height
        for left, top, right, bottom in boxes
    )
    assert all(0 < x < width and 0 < y < height for line in lines for x, y in line)
    assert not [
        (point, box) for line in lines for point in line for box in boxes if inside(point, box)
    ]
    for x, y, size, text in texts:
        half = ImageFont.truetype(str(fonts), size).getlength(text) / 2
        assert any(
            inside((x - half, y), box) and inside((x + half, y - size), box, by=0) for box in boxes
        ), text
    return boxes, texts, lines


def block_of(family):
    """The SVG of a family's block; "" where the network is its only picture."""
    _, svg = BUILD.pictures(family, TEXTS[family]).get(f"{family}_block.svg", ("", ""))
    return svg


@pytest.mark.parametrize("family", [name for name in DRAWN if TEXTS[name]["block"][1]])
def test_the_picture_of_a_block_is_legible(family):
    boxes, texts, lines = check_legible(block_of(family))
    assert len(lines) >= len(boxes) - 1 >= 3
    assert (
        [text[3] for text in texts].count("input")
        == [text[3] for text in texts].count("output")
        == 1
    )
    middles = [round((top + bottom) / 2) for _, top, _, bottom in boxes]
    assert max(map(middles.count, middles)) <= 6


def beside_arrows(svg):
    """What stands beside the arrows, from the input to the output: (left, top, right,
    bottom) and the text.
    """
    space = "{http://www.w3.org/2000/svg}"
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    found = []
    for text in ElementTree.fromstring(svg).iter(f"{space}text"):
        if text.get("text-anchor") == "start":
            x, y, size = (float(text.get(key)) for key in ("x", "y", "font-size"))
            width = ImageFont.truetype(str(fonts), int(size)).getlength(text.text)
            found.append(((x, y - size, x + width, y), text.text))
    return found


def network_of(family):
    return BUILD.pictures(family, {**TEXTS[family], "block": [TEXTS[family]["block"][0], ""]})[
        f"{family}.svg"
    ][1]


@pytest.mark.parametrize("family", DRAWN)
def test_the_diagram_of_a_network(family):
    """One way from the input to the output, in columns that a page has room for, with
    the shape on each arrow, which touches nothing.
    """
    svg = network_of(family)
    boxes, texts, lines = check_legible(svg)
    shapes = beside_arrows(svg)
    assert len(lines) == len(boxes) - 1 == len(shapes)
    width, height = drawn(svg)[3]
    assert width < 800
    assert height < 720
    for (left, top, right, bottom), _ in shapes:
        assert right < width
        assert not any(left < x < right and top < y < bottom for line in lines for x, y in line)
        assert not any(
            left < box[2] and box[0] < right and top < box[3] and box[1] < bottom for box in boxes
        )
    assert (texts[0][3], texts[-1][3]) == ("input", "output")
    name = TEXTS[family]["block"][0]
    assert shapes[0][1] == "x".join(map(str, BUILD.zoo.info(name).variant.image.size))


def test_the_diagrams_say_what_the_papers_tables_say():
    vgg = network_of("vgg")
    assert [text for text in words(vgg) if "conv" in text or "linear" in text] == [
        *("2 × (3x3 conv, 64)", "2 × (3x3 conv, 128)", "3 × (3x3 conv, 256)"),
        *("3 × (3x3 conv, 512)", "3 × (3x3 conv, 512)", "2 × (linear, 4096)", "linear, 1000"),
    ]
    assert [text for _, text in beside_arrows(vgg)][:4] == [
        *("3x224x224", "64x224x224", "64x112x112", "128x112x112"),
    ]
    alexnet = drawn(network_of("alexnet"))
    assert len({round((left + right) / 2) for left, _, right, _ in alexnet[0]}) == 2  # columns
    assert [text[0] for text in words(network_of("resnet")) if "bottleneck" in text] == list("3463")
    inception = [text for text in words(network_of("inception_v4")) if " × " in text]
    assert inception == ["4 × (inception a)", "7 × (inception b)", "3 × (inception c)"]
    assert "global average pool" in words(network_of("nin"))  # a function, not a module


class Halves(nn.Module):
    """Everything that a picture has a word for, and a name of its own with a sign that
    XML must not see.
    """

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(4, 4, (1, 3), stride=(1, 2), padding=(0, 1), groups=2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
        )
        self.idle = nn.Sequential(nn.Dropout(0.0), nn.Identity(), nn.AdaptiveAvgPool2d((8, 8)))
        self.pool = nn.AvgPool2d(3, (1, 2), 1)
        self.drop = nn.Dropout(0.25)

    def forward(self, x, twice: bool = False):
        left = self.conv(self.idle(x))
        right = self.drop(self.pool(x))
        scaled = left.add(right, alpha=0.5) * 0.1
        return (1 - scaled).tanh() if twice else 1 - scaled


def words(svg):
    return [text[3] for text in drawn(svg)[1]]


def test_what_a_picture_says():
    block, example = Halves(), torch.zeros(1, 4, 8, 8)
    svg = block_svg(block, example, 'a < b & "c"')
    check_legible(svg)
    assert block.training  # drawn as it is in evaluation, and left as it was
    folded = ["1x3 conv, 4, 2 groups, /1x2", "batch norm, ReLU"]
    others = ["3x3 average pool, /1x2", "dropout 0.25", "× 0.5", "+", "× 0.1", "1 −"]
    assert sorted(words(svg)) == sorted(["input", "4x8x8", *folded, *others, "output", "4x8x4"])
    assert (
        ElementTree.fromstring(svg).find("{http://www.w3.org/2000/svg}title").text == 'a < b & "c"'
    )
    apart = block_svg(block, example, "apart", fold=False)
    check_legible(apart)
    assert {"batch norm", "ReLU"} <= set(words(apart))


def test_own_layers_have_their_own_words():
    class PolarGate(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x  # what torch.fx cannot look into

    block = nn.Sequential(nn.Conv2d(1, 1, 1), PolarGate())
    assert "polar gate" in words(block_svg(block, torch.ones(1, 1, 2, 2), "own"))
    assert "gate <b>" in words(
        block_svg(block, torch.ones(1, 1, 2, 2), "own", labels={"PolarGate": "gate <b>"})
    )


def test_columns_are_straight_and_lines_go_round():
    chain = {"in": [], "a": ["in"], "b": ["a"], "c": ["b"], "out": ["c", "in"]}
    plan = layout(chain, dict.fromkeys(chain, 100), 20)
    assert plan.x["a"] == plan.x["b"] == plan.x["c"]
    around = [place for place in plan.x if place not in chain]
    assert len(around) == 3
    assert {plan.x[place] for place in around} == {plan.x["a"] + 70} or {
        plan.x[place] for place in around
    } == {plan.x["a"] - 70}
    assert plan.x["in"] == pytest.approx(plan.x["out"])
    diamond = {"in": [], "l": ["in"], "r": ["in"], "out": ["l", "r"]}
    plan = layout(diamond, dict.fromkeys(diamond, 100), 20)
    assert plan.x["r"] - plan.x["l"] == pytest.approx(120)
    assert plan.x["in"] == pytest.approx((plan.x["l"] + plan.x["r"]) / 2)
