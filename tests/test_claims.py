"""Every registered network against its claims, on the meta device: exact counts, depth,
and the figures that its paper prints.
"""

from dataclasses import replace

import pytest

import zoo
from zoo import registry
from zoo.spec import PrintedFigure

NAMES = zoo.list_models()


@pytest.mark.parametrize("name", NAMES)
def test_exact_counts_and_depth(name):
    variant = zoo.info(name).variant
    profile = zoo.profile(name)
    assert profile.params == variant.claims.params
    assert profile.macs == variant.claims.macs
    assert not profile.uncounted
    if variant.task == "classify":
        differing = [
            claim.value
            for claim in variant.claims.printed
            if claim.quantity == "depth" and claim.reason
        ]
        assert differing == [variant.depth] if differing else profile.depth == variant.depth


@pytest.mark.parametrize("name", NAMES)
def test_printed_figures_agree_or_carry_their_reason(name):
    verification = zoo.verify(name)
    assert verification.ok, str(verification)


def changed(monkeypatch, **changes):
    """vgg11 under another name, with other claims."""
    monkeypatch.setattr(registry, "_registered", {})
    family = registry.family("vgg11")
    row = family.variants["vgg11"]
    zoo.register_family(
        replace(family, variants={"mine": replace(row, claims=replace(row.claims, **changes))})
    )
    return zoo.verify("mine")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"params": 132_863_335}, "params"),
        ({"macs": 7_609_090_049}, "macs"),
        ({"printed": (PrintedFigure("params", 134e6, "Table 2", resolution=1e6),)}, "params"),
        (
            {
                "printed": (
                    PrintedFigure(
                        "params", 133e6, "Table 2", resolution=1e6, reason="none is needed"
                    ),
                )
            },
            "params",
        ),
        ({"printed": (PrintedFigure("macs", 7e9, "-", resolution=1e8),)}, "macs"),
        ({"printed": (PrintedFigure("flops", 7.6e9, "-", resolution=1e8),)}, "flops"),
        ({"printed": (PrintedFigure("depth", 12, "Table 1"),)}, "depth"),
        ({"printed": (PrintedFigure("bytes", 132_863_336, "-"),)}, "bytes"),
        (
            {
                "printed": (
                    PrintedFigure("output", (512, 7, 8), "Table 1", module="features.stage5"),
                )
            },
            "output of features.stage5",
        ),
        (
            {
                "printed": (
                    PrintedFigure("classes", 1001, "-", compute=lambda model: model.num_classes),
                )
            },
            "classes",
        ),
    ],
)
def test_a_wrong_claim_is_seen(monkeypatch, changes, what):
    verification = changed(monkeypatch, **changes)
    assert not verification.ok
    assert [check.quantity for check in verification.failed] == [what]
    assert "DO NOT HOLD" in verification.summary()


def test_right_claims_of_every_kind_hold(monkeypatch):
    claims = (
        PrintedFigure("flops", 15e9, "-", resolution=1e9),
        PrintedFigure("bytes", 507 * 2**20, "-", resolution=2**20),
        PrintedFigure("params", 1792, "-", module="features.stage1.conv1"),
        PrintedFigure("macs", 86_704_128, "-", module="features.stage1.conv1"),
        PrintedFigure("output", (1000,), "-"),
        PrintedFigure(
            "classes",
            1001,
            "-",
            compute=lambda model: model.num_classes,
            reason="with a background class",
        ),
    )
    verification = changed(monkeypatch, printed=claims)
    assert verification.ok
    assert len(verification.checks) == 2 + len(claims)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            PrintedFigure("params", 1, "Table 9", module="features.stage6"),
            r"mine: .*'params of features.stage6' \(Table 9\).*no module",
        ),
        (
            PrintedFigure("classes", 1, "§3", compute=lambda model: model.nothing),
            r"mine: .*'classes' \(§3\).*no attribute 'nothing'",
        ),
        (
            PrintedFigure("neurons", 1, "§3"),
            r"mine: .*'neurons' \(§3\).*give the claim a function `compute`",
        ),
        (
            PrintedFigure("classes", 1, "§3", compute=lambda model: "many"),
            r"mine: .*'classes' \(§3\).*cannot be computed",
        ),
    ],
)
def test_a_claim_that_cannot_be_computed_is_an_error(monkeypatch, claim, message):
    with pytest.raises(zoo.errors.ZooError, match=message):
        changed(monkeypatch, printed=(claim,))
