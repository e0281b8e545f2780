"""mlx-lm's classes are found without running mlx-lm's __init__, and that can still run later."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_a_class_costs_no_transformers() -> None:
    code = (
        "import sys; from training.engine.models import mlx_models as m; "
        "print(m.architecture({'model_type': 'mistral'})[0].__module__, 'transformers' in sys.modules)"
    )
    assert run(code) == "mlx_lm.models.llama False"


def test_stock_names_still_work_afterwards() -> None:
    code = (
        "from training.engine.models import mlx_models as m; ours = m.architecture({'model_type': 'qwen3'})[0]; "
        "import mlx_lm; mlx_lm.load; from mlx_lm.utils import _get_classes; "
        "print(_get_classes({'model_type': 'qwen3'})[0] is ours)"
    )
    assert run(code) == "True"


def test_an_imported_package_is_taken_as_it_is() -> None:
    code = "import mlx_lm; from training.engine.models import mlx_models as m; print(m.package() is mlx_lm)"
    assert run(code) == "True"


def test_the_types_that_share_code_are_those_of_mlx_lm() -> None:
    code = (
        "from training.engine.models.mlx_models import SAME_CODE; from mlx_lm.utils import MODEL_REMAPPING; "
        "print(SAME_CODE == MODEL_REMAPPING)"
    )
    assert run(code) == "True"
