"""zoo finetune"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.options import NETWORK, PRETRAINED, forms
from zoo.cli.recipe_options import given, recipe_options, run_options

if TYPE_CHECKING:
    from zoo.training.run import Run


@click.command("finetune", short_help="train a network on your images, with a new head")
@click.argument("what", type=NETWORK, required=False)
@click.option(
    "--data",
    metavar="digits|FOLDER",
    help="Handwritten digits, or a folder of images.",
)
@click.option(
    "--checkpoint",
    type=click.Path(),
    metavar="FILE",
    help="Start from the weights in this file.",
)
@click.option(
    "--layout", default="", metavar="PEER", help="How that file names its keys, e.g. torchvision."
)
@PRETRAINED
@click.option(
    "--resume",
    type=click.Path(),
    metavar="RUN",
    help="Go on with a run that was stopped, in place of WHAT and --data.",
)
@recipe_options()
@run_options
@forms("json")
def command(
    what: str | None,
    data: str | None,
    checkpoint: str | None,
    layout: str,
    pretrained: bool | None,
    recipe: str,
    seed: int,
    out: str | None,
    resume: str | None,
    progress: bool,
    form: str | None,
    **options: Any,
) -> None:
    """Train the network WHAT, a name or a run folder, on the images of FOLDER, with a
    new head for their classes. A name starts from its published weights (NAME.TAG: from
    those), where there are some; else from random ones.

    FOLDER has train/ and val/ (Training, seg_train, valid, …) with a folder of images
    per class in each, or the class folders, of which a part is for validation. The run
    folder then has the weights, the recipe, the numbers of each epoch and the curves as
    a picture.

    Example: zoo finetune resnet18 --data photos/ --epochs 50
    """
    from zoo.cli.console import passive_threads

    if resume is None and (what is None or data is None):
        raise click.UsageError("needs WHAT and --data, or --resume RUN")
    passive_threads()
    run = zoo.finetune(
        what,
        data,
        pretrained=pretrained,
        checkpoint_path=checkpoint,
        layout=layout,
        recipe=recipe,
        seed=seed,
        out=out,
        resume=resume,
        progress=progress,
        **given(options),
    )
    emit_run(run, form)


def emit_run(run: Run, form: str | None) -> None:
    """A finished run as JSON, or as the lines that say how it went; of the processes of
    a launcher the first one says it.
    """
    from zoo.cli.console import emit

    if os.environ.get("RANK", "0") != "0":
        return
    emit(_result(run), form, lambda _: _show(run))


def _show(run: Run) -> None:
    from zoo.cli.console import show_sections
    from zoo.training.run_text import outcome

    use = run.config.get("use", "").format(run=shlex.quote(str(run.path)))
    show_sections([{**outcome(run), **({"next": use} if use else {})}])


def _counts(run: Run) -> dict[str, Any]:
    data = run.config["data"]
    return {name: data[name] for name in data if name.startswith(("train_", "val_"))}


def _result(run: Run) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "network": run.config["begun"]["what"],
        "initial_weights": run.config["initial_weights"],
        "classes": list(run.classes),
        run.metric: run.score,
        "best_epoch": run.best["epoch"],
        "epochs": len(run.history),
        **_counts(run),
        "skipped": run.config["data"]["skipped"],
        "seconds": sum(record["seconds"] for record in run.history),
    }
