"""What networks are for: each task says how its data open, what a batch is, what is
minimised and measured, and how predictions are made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from zoo.errors import UsageError, nearest

if TYPE_CHECKING:
    from zoo.tasks.base import Task

TASKS = {  # imported when asked for
    "classify": "zoo.tasks.classify:Classify",
    "caption": "zoo.tasks.caption:Caption",
    "language": "zoo.tasks.text:Language",
}
_registered: dict[str, type[Task]] = {}  # zoo.register_task


def find_task(name: str) -> type[Task] | None:
    """The class of a task, None for one that nobody registered."""
    if name in _registered:
        return _registered[name]
    if name not in TASKS:
        return None
    module, _, attribute = TASKS[name].partition(":")
    found: type[Task] = getattr(import_module(module), attribute)
    return found


def task_of(name: str) -> type[Task]:
    """The same; raises UsageError, naming the known ones, for a task that there is
    not.
    """
    found = find_task(name)
    if found is None:
        known = [*TASKS, *_registered]
        near = nearest(name, known) or f": there are {', '.join(known)}"
        raise UsageError(f"there is no task {name!r}{near}; zoo.register_task adds one")
    return found


def register_task(task: type[Task]) -> None:
    """Add a task, a subclass of `zoo.tasks.base.Task`, for this process, under its
    `name`; registering it again replaces it.

    Raises UsageError for the name of a built-in task.
    """
    if task.name in TASKS:
        raise UsageError(f"the task {task.name!r} is built in: choose another name")
    _registered[task.name] = task
