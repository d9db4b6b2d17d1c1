"""Names, filters, errors, and networks registered in a running process."""

import pytest
import torch
from torch import nn

import zoo
from zoo import registry
from zoo.errors import UnknownModelError, UsageError, WeightsError, ZooWarning
from zoo.formatting import natural_key
from zoo.spec import Claims, Family, Paper, TensorInput, Variant


def test_natural_order_and_filters():
    names = zoo.list_models()
    assert names.index("vgg11") < names.index("vgg13") < names.index("vgg16") < names.index("vgg19")
    assert zoo.list_models("vgg1?") == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert zoo.list_models(["vgg11*", "vgg19"], exclude_filters="*_bn") == [
        "vgg11",
        "vgg11_lrn",
        "vgg19",
    ]
    assert zoo.list_models(family="vgg") == [name for name in names if name.startswith("vgg")]
    assert zoo.list_models("no such*") == []
    assert zoo.list_models(task="classify", family="vgg") == zoo.list_models(family="vgg")
    assert zoo.list_models(task="caption", family="vgg") == []
    assert sorted(["resnet101", "resnet18", "resnet50"], key=natural_key) == [
        "resnet18",
        "resnet50",
        "resnet101",
    ]


def test_wrong_names_are_answered_with_near_ones():
    assert zoo.is_model("vgg16")
    assert not zoo.is_model("vgg_16")
    with pytest.raises(UnknownModelError, match="no network 'vgg_16': did you mean vgg16"):
        zoo.create("vgg_16")
    with pytest.raises(UnknownModelError, match="vgg16"):
        zoo.model_entrypoint("vg16")
    with pytest.raises(LookupError):
        zoo.info("")
    with pytest.raises(UsageError, match="no argument 'num_clases': did you mean num_classes"):
        zoo.create("vgg11", num_clases=3)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("VGG-16", "vgg16"),
        ("ResNet 50", "resnet50"),
        ("resnet-50", "resnet50"),
        ("ResNet-50 v1.5", "resnet50_v1_5"),
        ("InceptionV3", "inception_v3"),
        ("Inception-ResNet-v2", "inception_resnet_v2"),
        ("SqueezeNet 1.1", "squeezenet1_1"),
        ("LeNet-5", "lenet5"),
        ("DENSENET121", "densenet121"),
    ],
)
def test_names_in_any_case_with_hyphens_and_blanks(said, name):
    assert registry.meant(said) == name
    assert zoo.info(said).name == name
    assert zoo.model_entrypoint(said).args == (name,)
    assert zoo.list_models(said) == [name]


def test_names_that_fit_none_or_several(monkeypatch):
    assert zoo.info("VGG-11").name == "vgg11"
    with pytest.raises(
        WeightsError, match=r"no weights 'vgg11\.x'; there are: vgg11\.tv_in1k_v1, "
    ):
        zoo.info("VGG-11.x")
    monkeypatch.setattr(registry, "_registered", {})
    zoo.register_family(family("my_net1", "mynet_1"))
    assert zoo.info("my_net1").name == "my_net1"
    for name in ("My-Net-1", "", "-", "no such"):
        with pytest.raises(UnknownModelError, match="there is no network"):
            zoo.info(name)
    with pytest.raises(UnknownModelError, match=r"did you mean .*\? `zoo list` shows all$"):
        zoo.info("vgg_16")
    with pytest.raises(UnknownModelError, match=r"no network 'qqqq'; `zoo list` shows all$"):
        zoo.info("qqqq")


def test_a_word_lists_the_names_that_contain_it():
    vgg = [name for name in zoo.list_models() if "vgg" in name]
    assert zoo.list_models("vgg") == zoo.list_models("VGG") == zoo.list_models("VGG*") == vgg
    assert zoo.list_models("wide resnet") == ["wide_resnet50_2", "wide_resnet101_2"]
    assert zoo.list_models("vgg16") == ["vgg16"], "a name is that name alone"
    assert zoo.list_models("no such") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zoo.create("vgg16", weights="DEFAULT"),
         r"no argument 'weights', as in torchvision: pretrained=True .*checkpoint_path=FILE"),
        (lambda: zoo.create("vgg16", include_top=False), "as in Keras: num_classes=0"),
        (lambda: zoo.create("vgg16", num_clases=3), r"did you mean num_classes\? Its arguments: "),
        (lambda: zoo.profile(5), "5 is no network: expected a name, a run folder"),
        (lambda: zoo.profile(nn.Linear), "Linear is a class: pass a module"),
        (lambda: zoo.profile(["vgg16", "vgg19"]), "one at a time, or zoo.compare several"),
        (lambda: zoo.profile({"a": torch.ones(1)}), r"zoo\.load_state_dict\(model, state\) loads"),
        (lambda: zoo.profile(torch.ones(50, 50)), r"^tensor\(.*is no network: expected a name"),
    ],
)  # fmt: skip
def test_what_other_packages_would_take(call, message):
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "?;" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_verbs_whose_function_has_another_name():
    for verb, message in (("list", r"did you mean zoo\.list_models\?"), ("creat", "mean create")):
        with pytest.raises(AttributeError, match=message):
            getattr(zoo, verb)


def test_weights_that_do_not_exist():
    with pytest.raises(WeightsError, match="no weights"):
        zoo.create("vgg11_lrn", pretrained=True)
    with pytest.raises(WeightsError, match="no weights"):
        zoo.create("vgg11_lrn.some_tag")


def test_entrypoint_builds():
    with torch.device("meta"):
        assert zoo.model_entrypoint("vgg11")(num_classes=3).num_classes == 3


class Linear(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x):
        return self.layer(x)

    def init_weights(self):
        nn.init.eye_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)


def family(*names):
    row = Variant(
        model_args={"width": 5},
        claims=Claims(30, 25),
        depth=1,
        inputs=(TensorInput((5,)),),
        task="words",
    )
    return Family(Paper("T", "A", 2000, "V"), Linear, dict.fromkeys(names, row))


def test_register_in_this_process(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    zoo.register_family(family("mine"))
    assert "mine" in zoo.list_models()
    assert zoo.list_models(task="words") == ["mine"]
    assert zoo.info("mine").distribution == "this process"
    assert torch.equal(zoo.create("mine")(torch.ones(1, 5)), torch.ones(1, 5))
    zoo.register_family(family("mine"))  # running a notebook's cell again
    with pytest.raises(UsageError, match="'vgg16' is already taken by classic-zoo"):
        zoo.register_family(family("other", "vgg16"))
    assert not zoo.is_model("other"), "nothing half registered"
    with pytest.raises(UsageError, match="no image classifier"):
        zoo.create("mine", features_only=True)


def test_create_takes_a_device_and_draws_from_the_seed():
    torch.manual_seed(3)
    first = zoo.create("vgg11", num_classes=2).head.weight
    torch.manual_seed(3)
    assert torch.equal(zoo.create("vgg11", num_classes=2).head.weight, first)
    assert next(zoo.create("vgg11", device="meta").parameters()).is_meta


def test_checkpoints(tmp_path):
    """Files of both kinds; another number of classes keeps the body and says so; what
    does not fit is named.
    """
    import timm
    from safetensors.torch import save_file

    model = zoo.create("vgg11_bn", num_classes=5).eval()
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    theirs = zoo.export_state_dict(model, layout="torchvision")
    old = {
        f"module.{key}": value
        for key, value in theirs.items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save({"state_dict": old, "epoch": 3}, tmp_path / "theirs.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        files = (("own.safetensors", ""), ("theirs.pth", "torchvision"), ("theirs.pth", ""))
        for file, layout in files:
            assert torch.equal(
                zoo.create("vgg11_bn", checkpoint_path=tmp_path / file, layout=layout).eval()(x),
                model(x),
            )
    with pytest.warns(
        ZooWarning, match="own.safetensors has 5 classes, 7 are wanted: the body is kept"
    ):
        other = zoo.create("vgg11_bn", checkpoint_path=tmp_path / "own.safetensors", num_classes=7)
    assert other.pretrained_cfg["num_classes"] == other.num_classes == other.head.out_features == 7
    assert torch.equal(other.neck.fc7.weight, model.neck.fc7.weight)

    (tmp_path / "broken.pth").write_bytes(b"not a pickle")
    (tmp_path / "broken.safetensors").write_bytes(
        (tmp_path / "own.safetensors").read_bytes()[:1000]
    )
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"features.stage1.conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "one.pth")
    for file, options, message in [
        ("absent.pth", {}, "no such weights file"),
        ("broken.pth", {}, "not a readable weights file"),
        ("broken.safetensors", {}, "not a readable weights file"),
        ("list.pth", {}, "holds no state dict"),
        ("one.pth", {}, r"tensors 53 missing \(features.stage1.conv1.bias, .*layout="),
    ]:
        with pytest.raises(WeightsError, match=message) as caught:
            zoo.create("vgg11_bn", checkpoint_path=tmp_path / file, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no layout 'kaffe'; it has: torchvision"):
        zoo.create("vgg11_bn", checkpoint_path=tmp_path / "own.safetensors", layout="kaffe")
    with pytest.raises(UsageError, match=r"not made by zoo\.create"):
        zoo.export_state_dict(torch.nn.Linear(1, 1), "torchvision")
    with pytest.raises(UsageError, match=r"resnet18 was not made by zoo\.create"):
        zoo.export_state_dict(timm.create_model("resnet18"), "torchvision")


@pytest.mark.parametrize(("theirs", "ours"), [("a.{0,1}", "b.{0,1,2}"), ("a.{0,1}.{0,1,2}", "b")])
def test_a_wrong_layout_table_is_named(theirs, ours):
    from zoo.weights.convert import to_ours

    with pytest.raises(WeightsError, match="layout entry"):
        to_ours({"a.0.w": 1}, {theirs: ours})


def test_layouts_there_and_back():
    from zoo.weights.convert import to_ours, to_theirs

    table = {"f.{0,3}": "s.{one,two}.c", "f.3.x": "deep", "fc": "head"}
    state = {
        "f.0.weight": 1,
        "f.3.weight": 2,
        "f.3.x.bias": 3,
        "fc.bias": 4,
        "other": 5,
        "f.30.w": 6,
    }
    ours = to_ours(state, table)
    assert ours == {
        "s.one.c.weight": 1,
        "s.two.c.weight": 2,
        "deep.bias": 3,
        "head.bias": 4,
        "other": 5,
        "f.30.w": 6,
    }
    assert to_theirs(ours, table) == state
