"""Many networks in one table and in pictures: columns, order, protocols, and
what is answered without building anything.
"""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.errors import InputError, PluginError, UnknownModelError, UsageError, ZooError, ZooWarning
from zoo.spec import Claims, Result
from zoo.tables.evaluation_protocols import accuracy, by_protocol, choose, covering, protocol
from zoo.tables.label_placement import place
from zoo.tables.rows import Layer, layers, reported
from zoo.tables.ticks import linear_ticks, log_ticks, short

NAMES = ["alexnet", "vgg16", "googlenet", "resnet50", "resnet152", "densenet121", "lenet5"]


def run(*args):
    return CliRunner().invoke(cli, args)


def names(comparison):
    return [row.name for row in comparison.rows]


@pytest.fixture
def invented(monkeypatch):
    """A function that registers LeNet-5 under another name, with other claims and
    results.
    """
    monkeypatch.setattr(registry, "_registered", {})
    family = registry.family("lenet5")

    def register(name, **changes):
        zoo.register_family(
            replace(family, variants={name: replace(family.variants["lenet5"], **changes)})
        )
        return name

    return register


# ------------------------------------------------------------------------------ columns


def test_names_patterns_and_modules_in_the_given_order():
    module = zoo.create("lenet5", device="meta")
    comparison = zoo.compare(["resnet18", "lenet5*", "resnet18", module])
    assert names(comparison) == ["resnet18", *zoo.list_models("lenet5*"), "lenet5"]
    ours, from_module = comparison.rows[1], comparison.rows[-1]
    assert (ours.year, ours.input, ours.params, ours.macs, ours.flops) == (
        1998,
        (1, 32, 32),
        60_000,
        325_680,
        651_360,
    )
    assert (ours.weights, from_module.weights) == (245_344, 240_000), (
        "the shipped file's size, and the parameters' of a module"
    )
    assert (ours.depth, from_module.depth) == (7, 4), (
        "the paper's count of a name, the counted one of a module"
    )
    assert (ours.paper, ours.doc) == (zoo.info("lenet5").paper, zoo.info("lenet5").doc)
    of_the_paper = {
        "paper": None,
        "note": "",
        "doc": "",
        "picture": "",
        "results": (),
        "result": None,
    }
    assert from_module == replace(ours, year=None, depth=4, weights=240_000, **of_the_paper)


def test_the_claims_are_the_counts():
    chosen = ["lenet5", "squeezenet1_1", "highway_fc"]
    assert zoo.compare(chosen) == zoo.compare(chosen, recount=True)


def test_names_are_answered_without_building_anything():
    code = """
import sys, torch
from torch import nn
before = set(sys.modules)
def refuse(*args, **kwargs):
    raise AssertionError("a network was built")
nn.Module.__init__ = refuse
from zoo.cli import cli
code = cli.main(["compare", "*", "--sort", "macs", "--csv"], standalone_mode=False)
late = set(sys.modules) - before
kernels = {"torch._meta_registrations", "torch._refs", "torch._decomp"}  # of the meta device
assert not late & kernels
assert not late & {"matplotlib", "torchvision", "zoo.count.profile", "zoo.count.tracker"}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["name"] for row in rows} == set(zoo.list_models())
    macs = [int(row["macs"]) for row in rows]
    assert macs == sorted(macs)


def test_another_size_and_a_foreign_module_are_counted():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
    comparison = zoo.compare([linear, "vgg11"], input_size=64)
    assert [row.input for row in comparison.rows] == [(3, 64, 64)] * 2
    assert (comparison.rows[0].name, comparison.rows[0].macs, comparison.rows[0].depth) == (
        "Sequential",
        2 * 3 * 64 * 64,
        1,
    )
    assert (comparison.rows[1].year, comparison.rows[1].depth) == (2015, 11)
    assert (
        comparison.rows[1].macs
        == zoo.profile("vgg11", 64).macs
        != zoo.info("vgg11").variant.claims.macs
    )
    assert zoo.compare(linear, input_size=64).rows == comparison.rows[:1]


@pytest.mark.parametrize("claims", [Claims(60_001, 325_680), Claims(60_000, 325_681)])
def test_a_count_that_contradicts_the_claims(invented, claims):
    invented("wrong", claims=claims)
    assert zoo.compare("wrong").rows[0].params == claims.params
    message = (
        "^wrong: counted 60,000 parameters and 325,680 MACs, "
        f"but its model file claims {claims.params:,} and {claims.macs:,}"
    )
    with pytest.raises(ZooError, match=message):
        zoo.compare(["lenet5", "wrong"], recount=True)


def test_weights_are_those_of_the_recorded_file():
    """Of the default ones, or of the tag; where their size is not published, the
    parameters'.
    """
    rows = zoo.compare(["resnet18", "resnet18.pqf29x_in1k", "resnet18.a1_in1k"]).rows
    assert [row.weights for row in rows[:2]] == [46_830_571, 1_707_918]
    assert rows[2].weights == 4 * 11_689_512


def test_memory_at_a_batch_size():
    comparison = zoo.compare(["lenet5", "squeezenet1_1"], memory_batch_size=8)
    assert list(comparison.titles)[-3:] == ["training", "inference", "reported"]
    assert comparison.titles["training"] == "training at 8, MiB"
    for row in comparison.rows:
        assert (row.training, row.inference) == tuple(
            zoo.memory(row.name, 8, mode).peak for mode in ("train", "eval")
        )
        assert row.training > row.inference > row.weights
    assert comparison.cells()[0][8] == f"{comparison.rows[0].training / 2**20:,.2f}"


def test_measured_time():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5), nn.BatchNorm2d(8))
    state = torch.random.get_rng_state()
    comparison = zoo.compare(["vgg11", module], input_size=(3, 32, 32), latency_batch_size=4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert module.training
    assert module[2].num_batches_tracked == 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert comparison.titles["ms"] == f"ms/image ({device}, 4 at a time)"
    assert all(0 < row.ms_min <= row.ms < 1000 for row in comparison.rows)
    with pytest.raises(UsageError, match="no numbers to measure with"):
        zoo.compare(zoo.create("lenet5", device="meta"), latency_batch_size=1)


def test_more_images_take_longer():
    one, many = (
        zoo.compare("squeezenet1_1", latency_batch_size=batch).rows[0].ms_min * batch
        for batch in (1, 16)
    )
    assert many > 2 * one


def test_progress_wraps_the_list_where_networks_are_built():
    seen = []

    def progress(items):
        seen.extend(items)
        return items

    zoo.compare("lenet5*", progress=progress)
    assert seen == []
    zoo.compare("lenet5*", recount=True, progress=progress)
    assert seen == zoo.list_models("lenet5*")


def test_layers_of_a_network():
    rows = zoo.compare("resnet20_cifar10", layers=True).rows[0].layers
    profile = zoo.profile("resnet20_cifar10")
    assert len(rows) <= 100
    assert sum(each.macs * each.times for each in rows if each.level == 1) == profile.macs
    blocks = [
        (each.times, each.macs) for each in rows if re.fullmatch(r"features\.stage1\.\d", each.path)
    ]
    assert blocks == [(3, 4_718_592)], "the three blocks of the stage are alike"
    assert all(
        each.output == (16, 32, 32) for each in rows if each.path.startswith("features.stage1.")
    )


def test_only_equal_neighbours_are_merged():
    def conv(*channels):
        return nn.Sequential(nn.Conv2d(*channels, 1), nn.ReLU())

    profile = zoo.profile(
        nn.Sequential(conv(3, 4), conv(4, 4), conv(4, 4), conv(4, 5), conv(5, 4), conv(4, 4)),
        input_size=(3, 8, 8),
    )
    assert [(each.path, each.times) for each in layers(profile) if each.level == 1] == [
        ("0", 1),
        ("1", 2),
        ("3", 1),
        ("4", 1),
        ("5", 1),
    ]
    assert layers(profile)[:3] == (
        Layer("0", "Sequential", 1, (4, 8, 8), 16, 768),
        Layer("0.0", "Conv2d", 2, (4, 8, 8), 16, 768),
        Layer("0.1", "ReLU", 2, (4, 8, 8), 0, 0),
    )
    assert len(layers(profile, most=5)) == 5
    assert len(layers(profile, most=1)) == 5, "at least the first level"


# -------------------------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("column", "descending", "order"),
    [
        (
            "name",
            False,
            ["alexnet", "densenet121", "googlenet", "lenet5", "resnet50", "resnet152", "vgg16"],
        ),
        (
            "year",
            False,
            ["lenet5", "alexnet", "vgg16", "googlenet", "resnet50", "resnet152", "densenet121"],
        ),
        (
            "depth",
            True,
            ["resnet152", "densenet121", "resnet50", "googlenet", "vgg16", "alexnet", "lenet5"],
        ),
        (
            "input",
            True,
            ["alexnet", "vgg16", "googlenet", "resnet50", "resnet152", "densenet121", "lenet5"],
        ),
        (
            "params",
            True,
            ["vgg16", "alexnet", "resnet152", "resnet50", "densenet121", "googlenet", "lenet5"],
        ),
        (
            "macs",
            False,
            ["lenet5", "alexnet", "googlenet", "densenet121", "resnet50", "resnet152", "vgg16"],
        ),
        (
            "flops",
            False,
            ["lenet5", "alexnet", "googlenet", "densenet121", "resnet50", "resnet152", "vgg16"],
        ),
        (
            "weights",
            False,
            ["lenet5", "googlenet", "densenet121", "resnet50", "resnet152", "alexnet", "vgg16"],
        ),
    ],
)
def test_order_by_a_column(column, descending, order):
    assert names(zoo.compare(NAMES, sort=column, descending=descending)) == order
    assert names(zoo.compare(NAMES).sort(column, descending)) == order


def test_order_by_memory_and_by_time(monkeypatch):
    comparison = zoo.compare(["squeezenet1_1", "lenet5"], memory_batch_size=2, sort="training")
    assert names(comparison) == ["lenet5", "squeezenet1_1"]
    assert names(comparison.sort("inference", descending=True)) == ["squeezenet1_1", "lenet5"]
    monkeypatch.setattr(
        "zoo.api.compare._latency",
        lambda source, size, batch: {"lenet5": (2.0, 1.5), "vgg11": (1.0, 1.0)}[source.name],
    )
    assert names(zoo.compare(["lenet5", "vgg11"], latency_batch_size=1, sort="ms")) == [
        "vgg11",
        "lenet5",
    ]


def test_rows_without_a_value_come_last_in_both_directions():
    chosen = ["caffenet", "resnet50", "vgg16"]
    for descending in (False, True):
        assert names(zoo.compare(chosen, sort="reported", descending=descending))[-1] == "caffenet"
    module = zoo.create("lenet5", device="meta")
    assert [
        row.year
        for row in zoo.compare([module, "vgg11", "lenet5"], sort="year", descending=True).rows
    ] == [2015, 1998, None]


def test_results_of_a_protocol_stay_together_in_the_order():
    shown = [row.result for row in zoo.compare("*", sort="reported").rows if row.result]
    keys = [(result.metric, result.data, result.protocol) for result in shown]
    assert len(
        [key for key, before in zip(keys, [None, *keys], strict=False) if key != before]
    ) == len(set(keys))


@pytest.mark.parametrize("column", ["ms", "training", "MACs", "results"])
def test_an_order_that_the_table_does_not_have(column):
    with pytest.raises(InputError, match=f"this table: sort='{column}': expected 'name', 'year'"):
        zoo.compare("lenet5", sort=column)


# -------------------------------------------------------------------- results and forms

ERRORS = (
    Result("top-1 error %", 24.4, "ILSVRC-2012 val", "ten crops", "Table 3"),
    Result("top-5 error %", 7.0, "ILSVRC-2012 val", "dense", "Table 3"),
    Result("top-5 error %", 6.7, "ILSVRC-2012 val", "ensemble of 7", "Table 3"),
)


def test_an_error_is_reported_with_its_data_and_protocol():
    assert reported(ERRORS) == "7.0 top-5 error % (ILSVRC-2012 val; dense)"
    assert reported(ERRORS[:1]) == "24.4 top-1 error % (ILSVRC-2012 val; ten crops)"
    assert reported(()) == ""


def test_results_of_one_protocol_only():
    with pytest.warns(
        ZooWarning, match=r"left out, .* no top-1 \(.* single crop\): alexnet, vgg16,"
    ):
        comparison = zoo.compare(NAMES, protocol="top-1 single crop")
    assert [(row.name, row.result.value) for row in comparison.rows] == [("densenet121", 25.02)]
    with pytest.warns(ZooWarning, match=r"10 crops\): vgg16, lenet5$"):
        ten = zoo.compare(NAMES, protocol="Top-5 10 crops")
    assert names(ten) == ["alexnet", "googlenet", "resnet50", "resnet152", "densenet121"]
    assert {row.result.protocol for row in ten.rows} == {"single network, 10 crops"}
    assert {row.result.data for row in ten.rows} == {"ILSVRC-2012 val"}
    with pytest.raises(
        UsageError,
        match=r"has all the words 'top-7'; of their \d+ protocols the most shared: top-\d \(",
    ):
        zoo.compare(NAMES, protocol="top-7")
    with pytest.raises(UsageError, match="no error or accuracy is reported"):
        zoo.compare("caffenet", protocol="top-1")


def test_protocols_are_kept_apart_and_errors_become_accuracies():
    here = Result("top-1 accuracy %", 70.0, "a", "b", "")
    results = {
        "x": [here],
        "y": [replace(here, metric="top-1 error %", value=28.9)],
        "z": [replace(here, metric="BLEU-4", value=20)],
    }
    for name, field in (("p", "data"), ("q", "protocol")):
        results[name] = [replace(here, **{field: "other"})]
    results["r"] = [replace(here, metric="top-5 accuracy %")]
    found = by_protocol(results)
    assert list(map(set, found.values())) == [{"x", "y"}, {"p"}, {"q"}, {"r"}]
    assert [accuracy(result) for result in next(iter(found.values())).values()] == [70.0, 71.1]
    assert protocol(results["z"][0]) is None
    assert protocol(replace(here, metric="test error %")) == protocol(here)
    which, chosen = choose(results, "other")
    assert (which.data, set(chosen)) == ("other", {"p"})


def test_the_model_files_say_the_same_protocol_in_the_same_words():
    """Texts that differ only in their order, number words or punctuation are one
    protocol.
    """
    found = by_protocol({name: zoo.info(name).variant.results for name in zoo.list_models()})
    seen = {}
    for which in found:
        words = re.sub(
            r"\b(1 network|one network|average of)\b", "single network", which.words.lower()
        ).replace("1 crop", "single crop")
        key = (which.kind, which.data, frozenset(re.findall(r"[\w.=:\[]+", words)))
        assert seen.setdefault(key, which) == which
    assert (
        len(choose({name: zoo.info(name).variant.results for name in zoo.list_models()})[1]) >= 13
    )


def test_formats_hold_the_same_figures():
    comparison = zoo.compare("vgg1[13]")
    markdown, table = comparison.to_markdown().splitlines(), str(comparison).splitlines()
    assert (
        markdown[0] == "| name | year | depth | input | parameters | MACs | FLOPs | weights, MiB "
        "| reported by the paper |"
    )
    assert (
        "| vgg11 | 2015 | 11 | 3x224x224 | 132,863,336 | 7,609,090,048 | 15,218,180,096 | 506.83 "
        "| 10.4 top-5 error %" in markdown[2]
    )
    assert table[2].split()[:8] == [
        "vgg11",
        "2015",
        "11",
        "3x224x224",
        "132,863,336",
        "7,609,090,048",
        "15,218,180,096",
        "506.83",
    ]
    records = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert [record["macs"] for record in records] == ["7609090048", "11308466176"]
    assert [(record["name"], record["weights"], record["input"]) for record in records][1] == (
        "vgg13",
        "532191392",
        "3x224x224",
    )
    row = comparison.to_dict()["rows"][1]
    assert (row["params"], row["weights"], row["reported"]) == (
        133_047_848,
        532_191_392,
        comparison.rows[1].reported,
    )
    assert [result["value"] for result in row["results"]] == [
        result.value for result in zoo.info("vgg13").variant.results
    ]


def test_names_one_by_one_or_in_a_list():
    assert zoo.compare("vgg16", "resnet50") == zoo.compare(["vgg16", "resnet50"])
    assert names(zoo.compare("VGG-16", ["lenet5*"])) == ["vgg16", *zoo.list_models("lenet5*")]


def test_what_cannot_be_compared():
    with pytest.raises(UsageError, match=r"no network matches 'vvg\*'"):
        zoo.compare(["vgg11", "vvg*"])
    with pytest.raises(UnknownModelError, match="did you mean vgg19"):
        zoo.compare("vgg15")
    with pytest.raises(UsageError, match="nothing to compare"):
        zoo.compare([])
    with pytest.raises(UsageError, match="give input_size"):
        zoo.compare(nn.Linear(3, 3))
    for option in ("memory_batch_size", "latency_batch_size"):
        with pytest.raises(UsageError, match=f"{option}=0: needs a batch"):
            zoo.compare("lenet5", **{option: 0})


def test_a_broken_plug_in_is_left_out_of_a_pattern(monkeypatch):
    family = registry.family("lenet5")
    point = registry.EntryPoint("lenet5_broken", "nowhere_to_be_found:FAMILY", registry.GROUP)
    known = {
        **registry.entries(),
        "lenet5_broken": registry.Entry("lenet5_broken", point, "other 1.0"),
    }
    monkeypatch.setattr(registry, "entries", lambda: known)
    with pytest.warns(ZooWarning, match="left out: 'lenet5_broken' comes from other 1.0"):
        comparison = zoo.compare("lenet5*")
    assert names(comparison) == [name for name in known if name in family.variants]
    with pytest.raises(PluginError, match=r"other 1\.0"):
        zoo.compare("lenet5_broken")


# ----------------------------------------------------------------------------- pictures


def drawn(comparison, target, *args):
    """The texts of a picture, and its caption."""
    caption = comparison.plot(target, *args)
    svg = target.read_text(encoding="utf-8")
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg), caption


@pytest.mark.parametrize("kind", ["operations", "accuracy"])
def test_a_picture_has_a_panel_per_protocol(tmp_path, kind):
    target = tmp_path / "picture.svg"
    with pytest.warns(ZooWarning, match="left out, as their papers report no accuracy: caffenet;"):
        texts, caption = drawn(zoo.compare([*NAMES, "caffenet"]), target, kind)
    assert sorted(set(texts) & set(NAMES)) == sorted(NAMES)
    assert caption == (
        "7 networks, accuracy as their papers report it: a panel per way of testing, as figures "
        "of different ones do not compare; left out: 1 without a reported accuracy"
    )
    assert " ".join(texts).count("left out: 1") == 1
    panels = [text for text in texts if text.startswith("single network, ")]
    assert panels == [
        "single network, 10 crops",
        "single network, dense, S=256, Q=256",
        "single network, 20 passes",
    ]
    assert {"ILSVRC-2012 val", "MNIST test", "top-5 accuracy, %", "top-1 accuracy, %"} <= set(texts)
    assert {"1998", "2012", "2015", "2016", "2017"} <= set(texts), "the years"
    if kind == "accuracy":
        assert {"81.8", "90.85", "93.29", "94.29", "93.34", "99.05"} <= set(texts)
    else:
        assert {"Accuracy against operations", "100 M", "parameters"} <= set(texts)
    assert list(tmp_path.iterdir()) == [target]
    before = target.read_bytes()
    zoo.compare(NAMES).plot(target, kind)
    again = target.read_bytes()
    zoo.compare(NAMES).plot(target, kind)
    assert target.read_bytes() == again != before


def test_two_networks_of_different_protocols_are_both_drawn(tmp_path):
    texts, caption = drawn(zoo.compare(["vgg16", "resnet50"]), tmp_path / "two.svg")
    assert {"vgg16", "resnet50", "Top-5 accuracy on ILSVRC-2012 val against operations"} <= {*texts}
    assert {"single network, dense, S=256, Q=256", "single network, 10 crops"} <= set(texts)
    assert caption.startswith("2 networks, top-5 accuracy on ILSVRC-2012 val")


def test_the_picture_of_all_networks_has_the_classic_ones():
    """No panel has two protocols, and no network that reports anything is in none."""
    found = covering({row.name: row.results for row in zoo.compare("*").rows if row.results})
    shown = set().union(*found.values())
    rows = [row for row in zoo.compare("*").rows if row.result]
    errors = [row for row in rows if "error" in row.result.metric or "accur" in row.result.metric]
    assert shown == {row.name for row in errors}
    others = {row.name for row in rows} - shown
    assert {zoo.info(name).variant.task for name in others} == {"caption"}
    assert [len(networks) for networks in found.values()][:3] == [13, 6, 6]
    measures = [which.measure for which in found]
    assert measures[0] == "top-5 accuracy on ILSVRC-2012 val"
    assert sorted(set(measures), key=measures.index) == [
        measure
        for measure, before in zip(measures, ["", *measures], strict=False)
        if measure != before
    ]
    classic = {"alexnet", "vgg16", "vgg19", "googlenet", "squeezenet1_0", "inception_v3"}
    classic |= {"inception_v4", "resnet152", "resnext101_32x4d", "densenet201", "preresnet200"}
    assert classic <= {
        name
        for which, networks in found.items()
        for name in networks
        if which.measure == measures[0]
    }


def test_parameters_against_operations_shows_all(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
    chosen = zoo.compare(["vgg11_bn", "resnet18", module], input_size=64)
    texts, caption = drawn(chosen, tmp_path / "a.svg", "parameters")
    assert {"vgg11_bn", "resnet18", "Sequential", "Parameters against operations"} <= set(texts)
    assert {"2015", "2016", "no paper"} <= set(texts)
    assert caption == "3 networks, each with one example of its own size"
    with pytest.raises(UsageError, match="none of these networks has parameters and operations"):
        zoo.compare(nn.ReLU(), input_size=8).plot(tmp_path / "b.svg", "parameters")


def test_of_many_networks_names_without_room_are_left_out_and_counted(tmp_path):
    rows = zoo.compare("*")
    _, caption = drawn(rows, tmp_path / "a.svg", "parameters")
    assert re.fullmatch(
        rf"{len(rows.rows)} networks, .*; no room for \d\d names \(give fewer networks\)", caption
    )


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (6e9, 36e9, ["7 G", "10 G", "15 G", "20 G", "30 G"]),
        (0.9e9, 40e9, ["1 G", "3 G", "10 G", "30 G"]),
        (3e5, 4e10, ["1 M", "10 M", "100 M", "1 G", "10 G"]),
        (6.1e5, 6.9e5, ["620 k", "640 k", "660 k", "680 k"]),
        (2e-4, 0.3, ["0.001", "0.01", "0.1"]),
    ],
)
def test_a_logarithmic_axis_has_ticks_at_any_range(low, high, ticks):
    assert [short(tick) for tick in log_ticks(low, high, 6)] == ticks


def test_a_linear_axis_has_ticks_at_any_range():
    assert linear_ticks(77.8, 98.9, 6) == [80, 85, 90, 95]
    assert linear_ticks(90.8, 91.6, 6) == [90.8, 91, 91.2, 91.4, 91.6]
    assert linear_ticks(0, 1, 3) == [0, 0.5, 1]


def test_the_protocol_of_a_picture_can_be_chosen(tmp_path):
    with pytest.warns(ZooWarning, match=r"left out, as their papers report no top-1 \(.*: vgg11, "):
        caption = zoo.compare("vgg*").plot(tmp_path / "vgg.svg", protocol="top-1 S=384")
    assert caption.endswith("; left out: 7 without a result of this protocol")
    assert caption.startswith(
        "3 networks, top-1 accuracy on ILSVRC-2012 val as their papers report it "
        "(single network, dense, S=384, Q=384)"
    )
    with pytest.raises(UsageError, match="no result of these networks has all the words"):
        zoo.compare("vgg*").plot(tmp_path / "none.svg", protocol="multicrop")
    assert not (tmp_path / "none.svg").exists()


def test_a_picture_of_one_network_of_unknown_fame(tmp_path, invented):
    invented("$odd & <name>", results=[Result("test accuracy %", 12.5, "mine", "once", "")])
    for kind in ("operations", "accuracy"):
        zoo.compare("$odd & <name>").plot(tmp_path / f"{kind}.svg", kind)
        assert "$odd &amp; &lt;name&gt;" in (tmp_path / f"{kind}.svg").read_text(encoding="utf-8")


def test_png(tmp_path):
    from PIL import Image

    zoo.compare("resnet[2345]*cifar10").plot(tmp_path / "picture.PNG")
    with Image.open(tmp_path / "picture.PNG") as image:
        assert image.format == "PNG"
        assert min(image.size) > 600
        assert len(image.convert("RGB").getcolors(10_000_000)) > 20


def test_what_cannot_be_drawn(tmp_path):
    comparison = zoo.compare(["resnet50", "caffenet"])
    with pytest.raises(UsageError, match=r"a\.jpg: a picture is a \.png or a \.svg file"):
        comparison.plot(tmp_path / "a.jpg")
    with pytest.raises(
        InputError, match=r"Comparison\.plot: kind='pie': expected 'operations', 'accuracy'"
    ):
        comparison.plot(tmp_path / "a.png", "pie")
    with pytest.raises(UsageError, match=r"is reported .*: the kind 'parameters' needs none"):
        zoo.compare("caffenet").plot(tmp_path / "a.png")
    with pytest.raises(ZooError, match=r"none/a\.png cannot be written: No such file or directory"):
        comparison.plot(tmp_path / "none" / "a.png", "parameters")
    assert list(tmp_path.iterdir()) == []


def test_names_do_not_cover_each_other():
    def box(centre, size):
        return (
            centre[0] - size[0] / 2,
            centre[1] - size[1] / 2,
            centre[0] + size[0] / 2,
            centre[1] + size[1] / 2,
        )

    bubbles = [(100 + 9 * i, 100 + 4 * (i % 3), 4 + i) for i in range(12)]
    sizes, frame = [(70, 12)] * 12, (0, 0, 400, 300)
    boxes = [
        box(centre, size) for centre, size in zip(place(bubbles, sizes, frame), sizes, strict=True)
    ]
    for i, a in enumerate(boxes):
        assert a[0] >= 0
        assert a[1] >= 0
        assert a[2] <= 400
        assert a[3] <= 300
        for b in boxes[:i]:
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert min(width, height) < 1, "hardly a pixel in common"


# --------------------------------------------------------------------------------- verb


def test_zoo_compare():
    done = run("compare", "lenet5*", "resnet18")
    assert done.exit_code == 0
    assert done.stdout.rstrip("\n") == str(zoo.compare(["lenet5*", "resnet18"]))
    comparison = zoo.compare("lenet5")
    assert run("compare", "lenet5", "--csv").stdout == comparison.to_csv()
    assert run("compare", "lenet5", "--markdown").stdout == comparison.to_markdown() + "\n"
    assert json.loads(run("compare", "lenet5", "--json").stdout) == json.loads(
        json.dumps(comparison.to_dict())
    )


def test_options_of_zoo_compare(tmp_path):
    done = run(
        "compare",
        "lenet5",
        "vgg11",
        "resnet50",
        "--sort",
        "depth",
        "--descending",
        "--csv",
        "--memory-batch-size",
        "4",
        "--recount",
    )
    records = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [record["name"] for record in records] == ["resnet50", "vgg11", "lenet5"]
    assert int(records[2]["training"]) == zoo.memory("lenet5", 4).peak
    assert (
        run("compare", "vgg11", "--input-size", "64", "--csv").stdout
        == zoo.compare("vgg11", input_size=64).to_csv()
    )
    measured = run("compare", "lenet5", "--latency-batch-size", "2", "--json")
    assert json.loads(measured.stdout)["titles"]["ms"].endswith("2 at a time)")
    with pytest.warns(ZooWarning, match="left out, as their papers report no top-1"):
        narrow = run("compare", "densenet121", "vgg16", "--protocol", "top-1 single crop", "--csv")
    assert [line.split(",")[0] for line in narrow.stdout.splitlines()] == ["name", "densenet121"]
    assert "25.02 top-1 error %" in narrow.stdout
    target = tmp_path / "a.svg"
    chosen = ("vgg16", "vgg19")
    drawn = run(
        "compare", *chosen, "--plot", str(target), "--kind", "accuracy", "--protocol", "top-5 S=384"
    )
    caption = zoo.compare(chosen).plot(target, "accuracy", "top-5 S=384")
    assert drawn.stdout == f"{target}: {caption}\n"
    drawn = run("compare", *chosen, "--plot", str(target), "--kind", "parameters")
    assert drawn.stdout == f"{target}: 2 networks, each with one example of its own size\n"
    assert isinstance(run("compare", "vgg11", "--sort", "size").exception, InputError)
