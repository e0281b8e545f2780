"""Writes ``tests/golden/adapters.json``: what PEFT makes of adapters on two small linear layers.

python -m tests.parity.make_adapters        with PyTorch and PEFT installed
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file

FILE = Path(__file__).resolve().parents[1] / "golden" / "adapters.json"
NAMES = ("q_proj", "v_proj")
CASES: dict[str, dict[str, Any]] = {
    "lora": {"r": 3, "lora_alpha": 7},
    "rslora": {"r": 3, "lora_alpha": 7, "use_rslora": True},
    "dora": {"r": 3, "lora_alpha": 7, "use_dora": True},
    "patterns": {
        "r": 3, "lora_alpha": 7, "use_rslora": True, "rank_pattern": {"q_proj": 5}, "alpha_pattern": {"v_proj": 4},
    },
    "dora patterns": {
        "r": 2, "lora_alpha": 6, "use_dora": True, "rank_pattern": {"self_attn.v_proj": 4},
        "alpha_pattern": {"self_attn.v_proj": 10},
    },
}  # fmt: skip


class Attention(torch.nn.Module):
    """Two linear layers, 8 → 6, one after the other by a fixed 6 → 8."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = torch.nn.Linear(8, 6, bias=True)
        self.v_proj = torch.nn.Linear(6, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.v_proj(torch.tanh(self.q_proj(x)))


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.self_attn(x)


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Block()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[0](x)


class Model(torch.nn.Module):
    """Named as a language model of transformers is."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Inner()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def made(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One case: base, input, adapter as PEFT stores it, output, gradients, merged weights."""
    torch.manual_seed(11)
    base = Model()
    weights = {key: value.clone() for key, value in base.state_dict().items()}
    x = torch.randn(4, 8)
    model = peft.get_peft_model(base, peft.LoraConfig(target_modules=list(NAMES), **settings))
    for key, value in model.named_parameters():
        if "lora_" in key:
            value.data += 0.4 * torch.randn_like(value) if "magnitude" not in key else 0.1 * torch.rand_like(value)
    output = model(x)
    output.square().sum().backward()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        stored = load_file(f"{folder}/adapter_model.safetensors")
        config = json.loads(Path(folder, "adapter_config.json").read_text())
    gradients = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    merged = model.merge_and_unload().state_dict()
    return {
        "name": name,
        "config": config,
        "base": plain(weights),
        "x": digits(x),
        "adapter": plain(stored),
        "output": digits(output),
        "gradients": plain({key.replace(".default", ""): value for key, value in gradients.items()}),
        "merged": plain(merged),
    }


def plain(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {key: digits(value) for key, value in sorted(tensors.items())}


def digits(tensor: torch.Tensor) -> Any:
    """Nine digits make a float32 again."""
    flat = [float(f"{number:.9g}") for number in tensor.detach().flatten().tolist()]
    return {"shape": list(tensor.shape), "values": flat}


if __name__ == "__main__":
    rows = [json.dumps(made(name, settings), separators=(",", ":")) for name, settings in CASES.items()]
    FILE.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
