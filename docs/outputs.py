"""The pages whose commands are run: writes what they print below them.

    python docs/outputs.py [PAGE]...          runs and writes (default: PAGES)
    python docs/outputs.py --check [PAGE]...  says which are stale (exit 1)

A command is a line `$ …` in a fence `console` (`zoo …`, which may go on with `| grep
…`) or one with `>>>` in a fence `pycon`; a page's Python has one namespace. Everything
runs in this process, as starting one a command would take seconds each.
"""

import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from zoo.cli import cli

HERE = Path(__file__).resolve().parent
PAGES = tuple(HERE / name for name in ("counting.md", "course.md"))
FENCE = re.compile(r"^```(console|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shell(command: str) -> str:
    """What `zoo …`, perhaps with a pipe behind it, prints to stdout."""
    verb, _, pipe = command.partition(" | ")
    name, *arguments = shlex.split(verb)
    if name != "zoo":
        raise ValueError(f"{command!r} is no zoo command")
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    if done.exit_code:
        raise RuntimeError(f"{command!r} ends with {done.exit_code}: {done.stderr}")
    return (
        subprocess.run(
            ["sh", "-c", pipe], input=done.stdout, capture_output=True, text=True, check=True
        ).stdout
        if pipe
        else done.stdout
    )


def python(source: str, namespace: dict[str, Any]) -> str:
    """What a statement prints; the value of an expression, too."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(source, "<page>", "single"), namespace)
    return out.getvalue()


def transcript(kind: str, block: str, namespace: dict[str, Any]) -> Iterator[str]:
    """The text of a fence, with what its commands print now."""
    if kind == "console":
        for line in block.splitlines():
            if line.startswith("$ "):
                yield f"{line}\n{shell(line[2:])}"
        return
    for example in doctest.DocTestParser().get_examples(block):
        first, *others = example.source.splitlines(keepends=True)
        yield f">>> {first}" + "".join(
            f"... {line}" if line.strip() else "...\n" for line in others
        )
        yield python(example.source, namespace)


def updated(text: str) -> str:
    """A page with the outputs that its commands have now."""
    namespace: dict[str, Any] = {}
    return FENCE.sub(
        lambda found: (
            f"```{found[1]}\n{''.join(transcript(found[1], found[2], namespace)).rstrip()}\n```"
        ),
        text,
    )


def main(arguments: list[str]) -> int:
    chosen = [Path(argument) for argument in arguments if argument != "--check"] or PAGES
    stale = []
    for path in chosen:
        text = path.read_text(encoding="utf-8")
        now = updated(text)
        if now != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(now, encoding="utf-8")
    if "--check" in arguments:
        print("\n".join(f"stale: docs/{name}" for name in stale) or "the outputs are up to date")
        return int(bool(stale))
    print(f"{len(stale)} of {len(chosen)} pages written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
