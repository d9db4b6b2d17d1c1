"""benchmarks/gpu.py in its smallest sizes, and the page that is made of its files."""

import json
import sys
from importlib import import_module, metadata

import pytest
import torch

from zoo import registry
from zoo.paths import PACKAGE

ROOT = PACKAGE.parent


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    precision = torch.get_float32_matmul_precision()
    yield import_module("gpu")
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return import_module("gpu_page")


def test_a_section_writes_rows_that_become_a_page(script, pages, tmp_path, capsys):
    assert script.measure("matrix", tmp_path, tiny=True) == 0
    [file] = tmp_path.iterdir()
    found = json.loads(file.read_text(encoding="utf-8"))
    assert (file.name, found["complete"], len(found["rows"])) == ("matrix.json", True, 10)
    assert found["rows"][0]["share (%)"] == 100
    with pytest.raises(ValueError, match=r"matrix\.json: of --tiny, no measurement"):
        pages.gpu_page(tmp_path)
    found |= {"tiny": False, "complete": False, "device": "Some Chip"}
    file.write_text(json.dumps(found), encoding="utf-8")
    page = pages.gpu_page(tmp_path)
    assert "## Share of the chip's matrix rate\n\nVGG-16 against what the chip does" in page
    assert "Some Chip, torch" in page
    assert "rows are missing" in page
    assert "| bf16 | lenet5_modern forward, channels_last, batch 2 |" in page
    capsys.readouterr()
    assert script.run("matrix", tmp_path, False, {}) == 0
    assert capsys.readouterr().out == "matrix: there already\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_section_that_fails_says_why(script, pages, tmp_path):
    assert script.measure("batches", tmp_path, tiny=True) == 1
    assert script.measure("matrix", tmp_path, tiny=False) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "batches.error.txt",
        "matrix.error.txt",
    ]
    error = (tmp_path / "matrix.error.txt").read_text(encoding="utf-8")
    assert "there is no GPU" in error.splitlines()[-1]
    assert pages.gpu_page(tmp_path) == "", "no page without measurements"


def test_a_section_that_does_not_end_keeps_its_rows(script, tmp_path, monkeypatch):
    def hangs(command, **options):
        if command[2] == "speed":
            (tmp_path / "speed.part.json").write_text("{}", encoding="utf-8")
        raise script.subprocess.TimeoutExpired(command, 180)

    monkeypatch.setattr(script.subprocess, "run", hangs)
    assert script.run("speed", tmp_path, True, {}) == 0
    assert script.run("probe", tmp_path, True, {}) == 1
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["probe.error.txt", "speed.json"]
    assert (tmp_path / "probe.error.txt").read_text(encoding="utf-8") == "not through after 180 s\n"


def test_every_section_has_a_title_and_a_function(script, pages):
    sections = import_module("gpu_sections").SECTIONS
    assert list(script.NAMES) == list(sections) == list(pages.TITLES)
    assert all(each.__doc__ for each in sections.values())


def test_times_that_overlap_count_once(script):
    covered = import_module("gpu_sections").covered
    assert covered([(0, 2), (1, 3), (6, 8), (7, 7.5), (9, 10)]) == pytest.approx(0.6)


def test_the_networks_are_found_without_an_installed_package(script, tmp_path, monkeypatch):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(script.metadata, "distribution", none)
    path = script.found_by_name(tmp_path)["PYTHONPATH"]
    assert path.startswith(f"{ROOT}{':' if sys.platform != 'win32' else ';'}{tmp_path}")
    [found] = metadata.distributions(path=[str(tmp_path)])
    assert found.name == registry.OWN
    own = {name for name, entry in registry.entries().items() if entry.own}
    assert {point.name for point in found.entry_points if point.group == registry.GROUP} == own
