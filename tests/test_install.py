"""The package as others get it: as a wheel, as an editable install, and with third
parties' distributions beside it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path

import pytest

from zoo.paths import PACKAGE

ROOT = PACKAGE.parent
NET = """
    from torch import nn
    from zoo.layers import init
    from zoo.interfaces.classifier import Classifier
    from zoo.spec import Claims, Family, ImageInput, Paper, Variant

    class Tiny(Classifier):
        def __init__(self, width, num_classes=4, in_chans=3):
            super().__init__(num_classes, in_chans)
            self.add_stage("conv1", nn.Conv2d(in_chans, width, 3, stride=2, padding=1), width, 2)
            self.neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head_hidden_size = width
            self.head = self.make_head(num_classes)
            self.init_weights()

        def init_module(self, name, module):
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                init.he_normal_(module.weight)
                init.constant_(module.bias, 0)

    FAMILY = Family(
        paper=Paper("A tiny network", "N. N.", 2026, "nowhere"),
        build=Tiny,
        variants={"tiny8": Variant(model_args={"width": 8}, claims=Claims(260, 55_328), depth=2, inputs=(ImageInput((3, 32, 32)),))},
        WEIGHTS
    )
"""

TINY_WEIGHTS = """
    [defaults]
    tiny8 = "first"

    [weights."tiny8.first"]
    licence = "MIT"
    [[weights."tiny8.first".sources]]
    file = "tiny8.first.pt"
    urls = ["https://example.org/tiny8.pt"]
    format = "torch"
    layout = "old"

    [layouts.old]
    "net.stem" = "features.conv1"
"""


def run(python, *args, check=True, cwd="/"):
    env = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")
    }
    done = subprocess.run([python, *args], capture_output=True, text=True, cwd=cwd, env=env)
    assert not check or done.returncode == 0, done.stderr
    return done


def environment(folder):
    """A new virtual environment that sees this one's other packages (torch is large),
    but installs beside them.
    """
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def install(python, *what):
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    done = subprocess.run([*pip, *map(str, what)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, free to edit."""
    copy = tmp_path_factory.mktemp("source") / "zoo-checkout"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "runs", "dist", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=ignore)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run(build, check=True, capture_output=True)
    return next(out.glob("classic_zoo-*.whl"))


def tiny(folder, name, entries, module, weights=""):
    """A third party's distribution, in sources."""
    package = folder / name / name.replace("-", "_")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    given = "weights=__file__.replace('nets.py', 'w.toml')," if weights else ""
    (package / "nets.py").write_text(textwrap.dedent(module).replace("WEIGHTS", given))
    if weights:
        (package / "w.toml").write_text(weights)
    lines = "\n".join(f'{entry} = "{name.replace("-", "_")}.nets:FAMILY"' for entry in entries)
    (folder / name / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "0.3"\n[project.entry-points."zoo.models"]\n{lines}\n'
    )
    return folder / name


def add_record(toml):
    record = """
        [[weights."vgg16.mine".sources]]
        file = "vgg16.mine.safetensors"
        format = "safetensors"
    """
    toml.write_text(toml.read_text() + record)


def test_wheel(wheel, source, tmp_path):
    """The wheel carries its weights data; the sources it came from are not looked at
    any more.
    """
    python = environment(tmp_path / "env")
    install(python, wheel)
    where = run(
        python, "-c", "import zoo, zoo.paths; print(zoo.__version__, zoo.paths.weights_folder())"
    ).stdout.split()
    data = Path(where[1])
    assert data.is_relative_to(tmp_path)
    assert {path.name for path in data.glob("*.toml")} == {
        path.name for path in (source / "weights").glob("*.toml")
    }
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "vgg.toml").write_text(
        '[weights."vgg16.cwd"]'
    )  # never the working directory
    listed = "import zoo; print(zoo.list_pretrained('vgg16*'))"
    before = run(python, "-c", listed, cwd=tmp_path).stdout
    assert "vgg16.cwd" not in before
    add_record(data / "vgg.toml")
    assert "vgg16.mine" in run(python, "-c", listed, cwd=tmp_path).stdout
    version = where[0]
    assert run(tmp_path / "env" / "bin" / "zoo", "--version").stdout == f"zoo, version {version}\n"
    assert "vgg16" in run(tmp_path / "env" / "bin" / "zoo", "list").stdout.split()
    page = run(
        python, "-c", "import zoo; print(zoo.compare('vgg16').to_html())", cwd=tmp_path
    ).stdout
    assert '"name":"vgg16"' in page
    assert "3x3 conv, 512" in page  # its picture


def test_editable_install(source, tmp_path):
    """An editable install reads the repository's weights folder, and sees an edit at
    once.
    """
    python = environment(tmp_path / "env")
    install(python, "-e", source)
    listed = (
        "import zoo, zoo.paths; print(zoo.list_pretrained('vgg16*'), zoo.paths.weights_folder())"
    )
    before = run(python, "-c", listed).stdout
    assert str(source / "weights") in before
    assert "vgg16.mine" not in before
    original = (source / "weights" / "vgg.toml").read_text()
    add_record(source / "weights" / "vgg.toml")
    assert "vgg16.mine" in run(python, "-c", listed).stdout
    (source / "weights" / "vgg.toml").write_text("[weights\n")
    broken = run(python, "-m", "zoo", "list", "--pretrained", check=False)
    assert broken.returncode == 1
    assert "vgg.toml: not a readable TOML file" in broken.stderr
    assert len(broken.stderr.splitlines()) == 1
    (source / "weights" / "vgg.toml").write_text(original)


@pytest.fixture(scope="module")
def crowded(wheel, tmp_path_factory):
    """An environment with the wheel, one good third party and three broken ones."""
    folder = tmp_path_factory.mktemp("third-parties")
    python = environment(folder / "env")
    distributions = [
        tiny(
            folder,
            "tiny-nets",
            ["tiny8"],
            NET,
            weights=TINY_WEIGHTS,
        ),
        tiny(folder, "raising-nets", ["bang"], "raise RuntimeError('no licence found')"),
        tiny(folder, "colliding-nets", ["vgg16"], NET.replace("tiny8", "vgg16")),
        tiny(folder, "rowless-nets", ["absent"], NET),
        tiny(folder, "typeless-nets", ["odd"], "FAMILY = 3"),
        tiny(folder, "twin-nets", ["tiny8b"], NET.replace("tiny8", "tiny8b")),
        tiny(folder, "twins-nets", ["tiny8b"], NET.replace("tiny8", "tiny8b")),
    ]
    install(python, wheel, *distributions)
    return python


@pytest.mark.slow
def test_the_page_of_a_plugin_holds_when_followed_literally(wheel, tmp_path):
    page = (ROOT / "docs" / "plugin.md").read_text(encoding="utf-8")
    for path, text in re.findall(r"^`([\w./-]+)`\n\n```\w+\n(.*?)^```", page, re.M | re.S):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (commands,) = re.findall(r"^```sh\npip install (.*?)^```", page, re.M | re.S)
    package, *lines = commands.splitlines()
    python = environment(tmp_path / "env")
    install(python, wheel, tmp_path / package)
    printed = ""
    for line in lines:
        verb, *arguments = shlex.split(line)
        printed += run(python.parent / verb, *arguments, cwd=tmp_path).stdout
    assert "small_cnn" in printed
    assert "DIFFERS" not in printed
    config = json.loads((tmp_path / "runs" / "small" / "config.json").read_text())
    assert config["architecture"] == "small_cnn"
    assert config["preprocessing"]["input_size"] == [3, 32, 32]  # its own size, not a guess
    assert config["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


def say(python, code):
    """What a program prints as JSON."""
    return json.loads(
        run(python, "-c", f"import json, zoo, torch, warnings; {code}").stdout.splitlines()[-1]
    )


@pytest.mark.slow
def test_a_third_partys_weights(crowded, tmp_path, monkeypatch):
    """By name, from its own manifest, in its own key names."""
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "tiny8.first.pt"
    make = f"""
m = zoo.create('tiny8')
torch.save(zoo.export_state_dict(m, 'old'), {str(file)!r})
again = zoo.create('tiny8', pretrained=True)
same = all(torch.equal(a, b) for a, b in zip(m.state_dict().values(), again.state_dict().values()))
print(json.dumps([same, again.origin.tag, again.pretrained_cfg['license']]))
"""
    assert say(crowded, make) == [True, "first", "MIT"]
    file.unlink()
    assert say(crowded, make) == [False, "first", "MIT"]  # those in the cache


def test_a_third_partys_network(crowded):
    code = """
m = zoo.create('tiny8', num_classes=6)
shape = list(m(torch.zeros(2, 3, 32, 32)).shape)
print(json.dumps([shape, zoo.info('tiny8').distribution, zoo.list_pretrained('tiny*'), list(zoo.export_state_dict(m, 'old'))]))
"""
    shape, distribution, pretrained, keys = say(crowded, code)
    assert shape == [2, 6]
    assert distribution == "tiny-nets 0.3"
    assert pretrained == ["tiny8.first"]
    assert keys == ["net.stem.weight", "net.stem.bias", "head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "bang",
            [
                "raising-nets 0.3",
                "raising_nets.nets:FAMILY",
                "cannot be imported",
                "RuntimeError: no licence found",
            ],
        ),
        ("absent", ["rowless-nets 0.3", "has no row 'absent'", "tiny8"]),
        ("odd", ["typeless-nets 0.3", "is a int and not a zoo.spec.Family"]),
        ("tiny8b", ["claimed by twin-nets 0.3, twins-nets 0.3", "uninstall"]),
    ],
)
def test_a_broken_plugin_breaks_only_its_own_name(crowded, name, words):
    done = run(crowded, "-m", "zoo", "info", name, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert {name, "vgg16", "tiny8"} <= set(run(crowded, "-m", "zoo", "list").stdout.split())


def test_a_collision_leaves_the_built_in_network(crowded):
    done = run(crowded, "-m", "zoo", "info", "vgg16")
    assert "138,357,544" in done.stdout
    assert (
        done.stderr
        == "note: 'vgg16' is the built-in network; colliding-nets 0.3 claims the name too and is ignored: rename it there\n"
    )


def test_the_task_filter_leaves_broken_ones_out(crowded):
    code = "warnings.simplefilter('ignore'); print(json.dumps(zoo.list_models(task='classify')))"
    names = set(say(crowded, code))
    assert {"tiny8", "vgg16"} <= names
    assert not {"bang", "absent", "odd"} & names
