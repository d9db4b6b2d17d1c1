"""zoo: the model zoo of the classic networks for PyTorch. Its names are loaded when
first used, torch with them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.api.comparing import compare as compare
    from zoo.api.counting import profile as profile
    from zoo.api.counting import second_opinion as second_opinion
    from zoo.api.counting import verify as verify
    from zoo.api.memory import max_batch_size as max_batch_size
    from zoo.api.memory import memory as memory
    from zoo.api.networks import create as create
    from zoo.api.networks import create as create_model
    from zoo.api.networks import export_state_dict as export_state_dict
    from zoo.api.networks import info as info
    from zoo.api.networks import is_model as is_model
    from zoo.api.networks import list_models as list_models
    from zoo.api.networks import list_pretrained as list_pretrained
    from zoo.api.networks import load_state_dict as load_state_dict
    from zoo.api.networks import model_entrypoint as model_entrypoint
    from zoo.api.training import finetune as finetune
    from zoo.api.training import predict as predict
    from zoo.api.training import transforms as transforms
    from zoo.count.formulas import add_formula as add_formula
    from zoo.registry import register as register

_PUBLIC = {
    "add_formula": "zoo.count.formulas",
    "compare": "zoo.api.comparing",
    "create": "zoo.api.networks",
    "export_state_dict": "zoo.api.networks",
    "finetune": "zoo.api.training",
    "info": "zoo.api.networks",
    "is_model": "zoo.api.networks",
    "list_models": "zoo.api.networks",
    "list_pretrained": "zoo.api.networks",
    "load_state_dict": "zoo.api.networks",
    "max_batch_size": "zoo.api.memory",
    "memory": "zoo.api.memory",
    "model_entrypoint": "zoo.api.networks",
    "predict": "zoo.api.training",
    "profile": "zoo.api.counting",
    "register": "zoo.registry",
    "second_opinion": "zoo.api.counting",
    "transforms": "zoo.api.training",
    "verify": "zoo.api.counting",
}

__all__ = [*_PUBLIC, "create_model", "__version__"]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get("create" if name == "create_model" else name)
    if module is None:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(import_module(module), "create" if name == "create_model" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
