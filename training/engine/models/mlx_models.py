"""mlx-lm's model classes without mlx-lm's weight.

``import mlx_lm`` runs its ``__init__``, which pulls in transformers, its generator and its server
side: about 2 s and 150 MB for the one class that a training needs. The model files themselves
(``mlx_lm/models/*.py``) import only mlx and each other, relatively. So the parent package is
registered here as what Python calls a package that is not yet initialised: its real spec and its
real search path, with ``__init__`` not run. Sub-modules are then found and loaded by the normal
machinery under their normal names, so classes are identical to stock mlx-lm's in this process.

Whoever asks the package for a name of its own later (``mlx_lm.load`` in a test that compares with
stock mlx-lm, say) gets it: the postponed ``__init__`` runs then, in that very module.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from training.engine.errors import ModelError

# Model types that share the code of another one (mlx_lm.utils.MODEL_REMAPPING, which lies behind the __init__).
SAME_CODE = {
    "mistral": "llama",
    "llava": "mistral3",
    "phi-msft": "phixtral",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_vl",
    "minimax_m2": "minimax",
    "iquestcoder": "llama",
    "xverse": "llama",
    "gemma4_unified": "gemma4",
    "deepseek_v41_text": "deepseek_v41",
}


def package(name: str = "mlx_lm") -> ModuleType:
    """The package ``name``, its ``__init__`` not run unless somebody imported it before."""
    present = sys.modules.get(name)
    if present is not None:
        return present
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModelError("model.no_mlx_lm", "mlx-lm is not installed.", "Install the requirements again.")
    module = importlib.util.module_from_spec(spec)
    run = spec.loader.exec_module

    def attribute(attr: str) -> Any:
        # Dunder names are asked for by the import machinery itself, and must not start the whole package.
        if (attr.startswith("__") and attr.endswith("__")) or "__getattr__" not in vars(module):
            raise AttributeError(attr)
        del vars(module)["__getattr__"]
        run(module)
        return getattr(module, attr)

    vars(module)["__getattr__"] = attribute
    sys.modules[name] = module
    return module


def submodule(name: str) -> ModuleType:
    """``mlx_lm.<name>``, for instance ``models.cache``. Raises ImportError when there is none."""
    package()
    if name.startswith("tuner."):
        package("mlx_lm.tuner")  # its __init__ brings the stock trainer and transformers
    return importlib.import_module(f"mlx_lm.{name}")


def architecture(config: dict[str, Any]) -> tuple[type[Any], type[Any]]:
    """The classes ``(Model, ModelArgs)`` for a model's ``config.json``.

    Raises ModelError ``model.remote_code`` when the folder wants to run its own Python file and
    ``model.unknown_type`` when mlx-lm has no such architecture.
    """
    if config.get("model_file"):
        raise ModelError(
            "model.remote_code",
            f"The model wants to run its own program file {str(config['model_file'])[:80]!r}.",
            "Code from a model folder is never run here: choose a model of a known architecture.",
        )
    model_type = str(config.get("model_type", ""))
    name = SAME_CODE.get(model_type, model_type)
    unknown = ModelError(
        "model.unknown_type",
        f"mlx-lm knows no architecture '{model_type[:80]}'.",
        "Choose a model of the Llama, Qwen, Gemma, Phi or another family that mlx-lm has.",
    )
    if not name.isidentifier():
        raise unknown
    try:
        module = submodule(f"models.{name}")
    except ModuleNotFoundError as error:
        if error.name == f"mlx_lm.models.{name}":
            raise unknown from None
        raise
    if not (hasattr(module, "Model") and hasattr(module, "ModelArgs")):
        raise unknown
    return module.Model, module.ModelArgs
