"""zoo: the model zoo of the classic networks for PyTorch. Its names are loaded when first used, torch with them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.api import create as create
    from zoo.api import create as create_model
    from zoo.api import export_state_dict as export_state_dict
    from zoo.api import info as info
    from zoo.api import is_model as is_model
    from zoo.api import list_models as list_models
    from zoo.api import list_pretrained as list_pretrained
    from zoo.api import load_state_dict as load_state_dict
    from zoo.api import model_entrypoint as model_entrypoint
    from zoo.registry import register as register

_PUBLIC = {
    "create": "zoo.api",
    "export_state_dict": "zoo.api",
    "info": "zoo.api",
    "is_model": "zoo.api",
    "list_models": "zoo.api",
    "list_pretrained": "zoo.api",
    "load_state_dict": "zoo.api",
    "model_entrypoint": "zoo.api",
    "register": "zoo.registry",
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
