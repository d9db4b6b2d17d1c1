"""zoo: the model zoo of the classic networks for PyTorch. Its names are loaded when
first used, torch with them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.api.caption import caption as caption
    from zoo.api.check import check as check
    from zoo.api.check import check_gradients as check_gradients
    from zoo.api.compare import compare as compare
    from zoo.api.create import create as create
    from zoo.api.create import create as create_model
    from zoo.api.create import export_state_dict as export_state_dict
    from zoo.api.create import load_state_dict as load_state_dict
    from zoo.api.create import model_entrypoint as model_entrypoint
    from zoo.api.cross_check import cross_check as cross_check
    from zoo.api.evaluate import evaluate as evaluate
    from zoo.api.features import features as features
    from zoo.api.finetune import finetune as finetune
    from zoo.api.freeze import freeze as freeze
    from zoo.api.freeze import unfreeze as unfreeze
    from zoo.api.info import info as info
    from zoo.api.list_models import is_model as is_model
    from zoo.api.list_models import list_models as list_models
    from zoo.api.list_models import list_pretrained as list_pretrained
    from zoo.api.lr_find import lr_find as lr_find
    from zoo.api.memory import max_batch_size as max_batch_size
    from zoo.api.memory import memory as memory
    from zoo.api.param_groups import layer_groups as layer_groups
    from zoo.api.param_groups import param_groups as param_groups
    from zoo.api.predict import predict as predict
    from zoo.api.profile import profile as profile
    from zoo.api.sample import sample as sample
    from zoo.api.train import train as train
    from zoo.api.transforms import transforms as transforms
    from zoo.api.tune import tune as tune
    from zoo.api.verify import verify as verify
    from zoo.count.costs import register_formula as register_formula
    from zoo.registry import register_family as register_family
    from zoo.tasks import register_task as register_task

_PUBLIC = {
    "caption": "zoo.api.caption",
    "check": "zoo.api.check",
    "check_gradients": "zoo.api.check",
    "compare": "zoo.api.compare",
    "create": "zoo.api.create",
    "cross_check": "zoo.api.cross_check",
    "evaluate": "zoo.api.evaluate",
    "export_state_dict": "zoo.api.create",
    "features": "zoo.api.features",
    "finetune": "zoo.api.finetune",
    "freeze": "zoo.api.freeze",
    "info": "zoo.api.info",
    "is_model": "zoo.api.list_models",
    "layer_groups": "zoo.api.param_groups",
    "list_models": "zoo.api.list_models",
    "list_pretrained": "zoo.api.list_models",
    "load_state_dict": "zoo.api.create",
    "lr_find": "zoo.api.lr_find",
    "max_batch_size": "zoo.api.memory",
    "memory": "zoo.api.memory",
    "model_entrypoint": "zoo.api.create",
    "param_groups": "zoo.api.param_groups",
    "predict": "zoo.api.predict",
    "profile": "zoo.api.profile",
    "register_family": "zoo.registry",
    "register_formula": "zoo.count.costs",
    "register_task": "zoo.tasks",
    "sample": "zoo.api.sample",
    "train": "zoo.api.train",
    "transforms": "zoo.api.transforms",
    "tune": "zoo.api.tune",
    "unfreeze": "zoo.api.freeze",
    "verify": "zoo.api.verify",
}

_VERBS = {  # of the command line, whose function has another name
    "eval": "evaluate",
    "list": "list_models",
    "export": "export_state_dict",
    "weights": "list_pretrained",
}

__all__ = [*_PUBLIC, "create_model", "__version__"]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get("create" if name == "create_model" else name)
    if module is None:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}{_hint(name)}")
    value = getattr(import_module(module), "create" if name == "create_model" else name)
    globals()[name] = value
    return value


def _hint(name: str) -> str:
    from zoo.errors import nearest

    if name in _VERBS:
        return f": did you mean zoo.{_VERBS[name]}?"
    return "" if name.startswith("_") else nearest(name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
