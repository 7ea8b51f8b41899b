"""Snapshots of a method under way: model, optimizers, teachers and tensors, without pickle."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.lab.artifacts import load_json, load_tensors, save_json, save_tensors

MODEL = "model.safetensors"
STATE = "state.safetensors"
STATE_JSON = "state.json"
FILES = (MODEL, STATE, STATE_JSON)
LIVE = "live.safetensors"  # the model under way, where another one was handed out
OPTIMIZERS = {cls.__name__: cls for cls in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)}


def pack(
    folder: Path,
    model: nn.Module,
    state: Mapping[str, Any],
    counters: dict[str, Any],
    handed_out: nn.Module | None = None,
) -> None:
    """Write a model and what a method keeps beside it. Raises TypeError for what cannot be kept."""
    save_tensors(folder, MODEL, (handed_out or model).state_dict())
    if handed_out is not None:
        save_tensors(folder, LIVE, model.state_dict())
    tensors: dict[str, Tensor] = {}
    parts: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            tensors[name] = value
            parts[name] = {"kind": "tensor"}
        elif isinstance(value, nn.Module):
            tensors |= {f"{name}/{key}": t for key, t in value.state_dict().items()}
            parts[name] = {"kind": "module", "training": value.training}
        elif isinstance(value, torch.optim.Optimizer):
            parts[name] = _pack_optimizer(name, value, model, tensors)
        else:
            raise _cannot_keep(name, value)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    resting = [name for name, module in model.named_modules() if not module.training]
    told = {"counters": counters, "parts": parts, "frozen": frozen, "resting": resting}
    told["live"] = LIVE if handed_out is not None else MODEL
    save_tensors(folder, STATE, tensors)
    save_json(folder, STATE_JSON, told)


def unpack(
    folder: Path, model: nn.Module, state: MutableMapping[str, Any], device: str
) -> dict[str, Any]:
    """Undo `pack` into `model` and `state`; returns the counters."""
    told = load_json(folder / STATE_JSON)
    model.load_state_dict(load_tensors(folder / told["live"], device))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in told["frozen"])
    for name, module in model.named_modules():
        module.training = name not in told["resting"]
    tensors = load_tensors(folder / STATE, device)
    for name, part in told["parts"].items():
        if part["kind"] == "tensor":
            state[name] = tensors[name]
        elif part["kind"] == "module":
            module = copy.deepcopy(model).requires_grad_(False)
            module.load_state_dict(_below(name, tensors))
            state[name] = module.train(part["training"])
        else:
            state[name] = _unpack_optimizer(name, part, model, tensors)
    return dict(told["counters"])


def _cannot_keep(name: str, value: object) -> TypeError:
    return TypeError(
        f"state[{name!r}] is a {type(value).__name__}; only tensors, modules shaped like the model, "
        "and SGD, Adam or AdamW over its parameters can be kept"
    )


def _pack_optimizer(
    name: str, optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    mine = all(id(p) in names for group in optimizer.param_groups for p in group["params"])
    if type(optimizer).__name__ not in OPTIMIZERS or not mine:
        raise _cannot_keep(name, optimizer)
    groups = []
    for group in optimizer.param_groups:
        keys = [names[id(parameter)] for parameter in group["params"]]
        groups.append({k: v for k, v in group.items() if k != "params"} | {"params": keys})
        for key, parameter in zip(keys, group["params"], strict=True):
            for slot, value in optimizer.state[parameter].items():
                if isinstance(value, Tensor):
                    tensors[f"{name}/{slot}/{key}"] = value
    return {"kind": "optimizer", "class": type(optimizer).__name__, "groups": groups}


def _unpack_optimizer(
    name: str, part: dict[str, Any], model: nn.Module, tensors: dict[str, Tensor]
) -> torch.optim.Optimizer:
    parameters = dict(model.named_parameters())
    groups = [
        group | {"params": [parameters[key] for key in group["params"]]} for group in part["groups"]
    ]
    optimizer = OPTIMIZERS[part["class"]](groups, lr=groups[0]["lr"])
    plain = {
        key: not (group.get("fused") or group.get("capturable"))
        for group in part["groups"]
        for key in group["params"]
    }
    for path, tensor in _below(name, tensors).items():
        slot, key = path.split("/", 1)
        parameter = parameters[key]
        if tensor.shape == parameter.shape:
            # In the parameter's own memory format: fused kernels pair elements by their place.
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        elif slot == "step" and plain[key]:
            tensor = tensor.cpu()  # where unfused optimizers count
        optimizer.state[parameter][slot] = tensor
    return optimizer


def _below(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
