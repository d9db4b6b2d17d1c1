"""The command `zoo`: one file per verb, imported when it is called. Results go to
stdout, all else to stderr.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

import zoo
from zoo import registry
from zoo.cli.option_names import in_options
from zoo.errors import UsageError, ZooError, ZooWarning, nearest
from zoo.formatting import Printable

VERBS = {
    "list": "names of the networks",
    "info": "what is known of a network: paper, claims, departures, weights",
    "profile": "parameters, MACs and FLOPs of a network, layer by layer",
    "memory": "memory of a training step, predicted; and which batch fits",
    "compare": "many networks in one table",
    "verify": "the figures that a paper prints against the computed ones",
    "train": "train a network from nothing, as its paper did",
    "check": "whether a network can be trained: before, and its gradients",
    "lr-find": "which learning rate: the range test, with its curve",
    "tune": "random search for learning rate, weight decay, …",
    "finetune": "train a network on your images, with a new head",
    "eval": "accuracy of a trained network on labelled images, or of a language model",
    "predict": "classify image files with a trained network",
    "caption": "say what is in images, by a trained captioner",
    "sample": "continue a text with a language model",
    "weights": "published weights: which there are, and the cache",
}


LATER = {  # verbs that are planned: what serves now
    "similar": "zoo.create(WHAT, num_classes=0) gives the features of an image",
    "export": "zoo.export_state_dict(WHAT, layout=…) gives the weights in Python",
    "cite": "`zoo info WHAT` shows the paper",
}


class ReaderGoneError(Exception):
    """Whoever read our output has had enough: `zoo list | head`."""


class Verbs(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # click would exit with 1
            raise ReaderGoneError from None
        except ZooError as error:
            verb = self.get_command(ctx, ctx.invoked_subcommand or "")
            message = in_options(str(error), verb) if verb else str(error)
            raise type(error)(message) from error

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]  # `list` is the module of that verb here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"zoo.cli.{cmd_name.replace('-', '_')}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs without importing them."""
        verbs = [verb for verb in VERBS if verb.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(verb, help=VERBS[verb]) for verb in verbs), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([*VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        wrong = args and args[0] not in VERBS and not args[0].startswith("-")
        if wrong and not ctx.resilient_parsing:  # which completion is
            raise UsageError(_no_verb(args[0]))
        return super().resolve_command(ctx, args)


def _no_verb(word: str) -> str:
    """What to say to a word that is no verb."""
    if word in LATER:
        return f"zoo {word} is not in this version; {LATER[word]}"
    if registry.is_registered(word):
        return f"{word} is a network and no verb: `zoo info {word}` tells of it"
    return f"there is no verb {word!r}{nearest(word, VERBS, '`zoo --help` shows all')}"


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(zoo.__version__, prog_name="zoo")
def cli() -> None:
    """The model zoo of the classic networks, LeNet-5 to DenseNet.

    \b
    zoo list 'resnet*'                        which networks are there
    zoo compare alexnet vgg16 resnet50        how large are they
    zoo memory resnet50 --batch-size 64       what a training step needs
    zoo finetune resnet18 --data photos/      train one on a folder of images
    zoo predict runs/resnet18 cat.jpg         and use it

    `zoo help VERB` tells more. For completion of verbs, names and files, put
    eval "$(_ZOO_COMPLETE=bash_source zoo)" into ~/.bashrc (zsh: zsh_source; fish:
    fish_source).
    """


def main() -> None:
    """Run the command line: an error is one line on stderr, and exit code 2 for wrong
    use or 1 for a failure.
    """
    for stream in (sys.stdout, sys.stderr):  # one that has no "≈" prints "?"
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.simplefilter("default", ZooWarning)
    shown = warnings.showwarning

    def showwarning(message, category, *rest, **options):  # type: ignore[no-untyped-def]
        if issubclass(category, ZooWarning):
            context = click.get_current_context(silent=True)
            text = in_options(str(message), context.command) if context else message
            click.echo(f"note: {text}", err=True)
            if isinstance(details := getattr(message, "details", None), Printable):
                click.echo(str(details), err=True)
        else:
            shown(message, category, *rest, **options)

    warnings.showwarning = showwarning
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.Abort as error:  # Ctrl-C; training says how to go on
        code = _fail(str(error.__cause__ or "") or "stopped", 130)
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except ZooError as error:
        code = _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except ReaderGoneError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    click.echo("zoo: error: " + " ".join(message.split()), err=True)
    return code
