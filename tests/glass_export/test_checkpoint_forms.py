"""Checkpoints as trainers and their libraries write them: wherever the state_dict lies, the same model is read."""

from __future__ import annotations

import argparse
import json
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from glass_export.checkpoint import expected_shapes, read_checkpoint
from glass_export.portable import ExportOptions, prepare_export
from glass_export.untrained import untrained_tensor
from safetensors.torch import save_file

from glass_rt.errors import CheckpointError

Tensors = dict[str, torch.Tensor]
SHAPES = expected_shapes("mobilenet_v3_small", "resize")
RAW = {name: untrained_tensor(name, shape) for name, shape in SHAPES.items()}
AVERAGE = {name: tensor + 1 for name, tensor in RAW.items()}
PARAMETERS = {name: tensor for name, tensor in RAW.items() if "running_" not in name and "num_batches" not in name}
COUNTED = {"n_averaged": torch.tensor(7)}


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def inside(wrapper: str, tensors: Tensors) -> Tensors:
    """With a wrapper after the first part of a name."""
    return {name.replace(".", f".{wrapper}.", 1): tensor for name, tensor in tensors.items()}


def nested(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls them a prototype
        return torch.nested.nested_tensor([tensor])


ARGUMENTS = {"args": argparse.Namespace(lr=0.1), "epoch": 3, "best_acc": np.float64(0.5), "optimizer": {"state": {}}}
FORMS: dict[str, tuple[Any, str]] = {  # what is saved, and where in it the model lies
    "plain": (RAW, "the top level"),
    "with a history and a generator's state": (
        {"model": RAW, "history": np.zeros((2, 3)), "rng": np.random.RandomState(1).get_state()},
        "model",
    ),
    "with an epoch beside": ({**RAW, "epoch": 3}, "the top level"),
    "compiled": (under("_orig_mod.", RAW), "the top level"),
    "parallel, compiled": (under("module._orig_mod.", RAW), "the top level"),
    "model.": (under("model.", RAW), "model"),
    "net.": (under("net.", RAW), "net"),
    "backbone.": (under("backbone.", RAW), "backbone"),
    "an attribute of any name": (under("detector.", RAW), "detector"),
    "an attribute that is called as a part is": (under("features.", RAW), "features"),
    "many wrappers": (under("_forward_module.model._orig_mod.module.net.", RAW), "model.net"),
    "FSDP's wrappers": (inside("_fsdp_wrapped_module", RAW), "the top level"),
    "activation checkpoints": (inside("_checkpoint_wrapped_module", RAW), "the top level"),
    "wrappers inside": (inside("model", RAW), "the top level"),
    "state_dict": ({"state_dict": RAW}, "state_dict"),
    "model_state_dict": ({"model_state_dict": RAW, **ARGUMENTS}, "model_state_dict"),
    "torchvision's scripts": ({"model": under("module.", RAW), **ARGUMENTS}, "model"),
    "torchvision's scripts with an average": (
        {"model": RAW, "model_ema": {**COUNTED, **under("module.", AVERAGE)}, **ARGUMENTS},
        "model_ema",
    ),
    "timm": ({"state_dict": RAW, "state_dict_ema": AVERAGE, "arch": "x", **ARGUMENTS}, "state_dict_ema"),
    "ema in a dict": ({"model": RAW, "ema": {"module": AVERAGE, "decay": 0.99}}, "ema.module"),
    "Lightning": ({"state_dict": under("model.", RAW), "global_step": 9, "callbacks": {}}, "state_dict.model"),
    "Lightning with a loss and a metric": (
        {"state_dict": {**under("model.", RAW), "loss.weight": torch.ones(2), "f1.tp": torch.tensor([3])}},
        "state_dict.model",
    ),
    "a loss beside the plain names": ({**RAW, "criterion.weight": torch.ones(2)}, "the top level"),
    "Lightning's averages": (
        {"state_dict": AVERAGE, "current_model_state": RAW, "averaging_state": COUNTED},
        "state_dict",
    ),
    "Lightning with an averaged attribute": (
        {"state_dict": {**under("model.", RAW), **under("ema.module.", AVERAGE), "ema.n_averaged": torch.tensor(7)}},
        "state_dict.ema",
    ),
    "AveragedModel": ({**COUNTED, **under("module.", AVERAGE)}, "the top level"),
    "ema-pytorch": (
        {
            **under("ema_model.", AVERAGE),
            **under("online_model.", RAW),
            "initted": torch.tensor(True),
            "step": torch.tensor(9),
        },
        "ema_model",
    ),
    "averages without points": (
        {
            **under("model.", RAW),
            **{"model_ema." + name.replace(".", ""): tensor for name, tensor in AVERAGE.items()},
            "model_ema.decay": torch.tensor(0.9),
        },
        "model_ema",
    ),
    "averages of parameters alone": ({**under("model.", RAW), **under("model_ema.", PARAMETERS)}, "model"),
    "DeepSpeed": ({"module": OrderedDict(RAW), "ds_version": "0.16", "dp_world_size": 1}, "module"),
    "deep": ({"state": {"model": {"state_dict": under("net.", RAW)}}}, "state.model.state_dict.net"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_model_is_found_wherever_a_trainer_puts_it(form: str, tmp_path: Path) -> None:
    value, where = FORMS[form]
    torch.save(value, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    averaged = "ema" in where or form in ("AveragedModel", "Lightning's averages")
    wanted = AVERAGE if averaged else RAW
    assert found.taken == where
    assert (found.backbone, found.architecture) == ("mobilenet_v3_small", "resize")
    assert found.tensors.keys() == SHAPES.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in wanted.items())


def test_glass_may_have_its_branches_wrapped(tmp_path: Path) -> None:
    shapes = expected_shapes("mobilenet_v3_small", "glass")
    tensors = {name: untrained_tensor(name, shape) for name, shape in shapes.items()}
    wrapped = {
        "model." + name.replace("_model.", "_model.backbone.module.", 1).replace("attention.", "attention.net."): tensor
        for name, tensor in tensors.items()
    }
    torch.save({"state_dict": wrapped}, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    assert (found.architecture, found.taken) == ("glass", "state_dict.model")
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())


def test_averages_of_parameters_alone_are_not_taken_and_the_reader_is_told(tmp_path: Path) -> None:
    torch.save({**under("model.", RAW), **under("model_ema.", PARAMETERS)}, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    assert (found.taken, found.left) == ("model", ("model_ema (not whole)",))


def test_safetensors_are_known_whatever_the_length_of_their_header(tmp_path: Path) -> None:
    """Its bytes may be those with which JSON, pages and archives begin."""
    path = tmp_path / "x.safetensors"
    save_file(RAW, path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    for longer in (0x7B20, 0x120308):  # " {" and ONNX's first bytes
        header = data[8 : 8 + length].ljust(longer)
        path.write_bytes(longer.to_bytes(8, "little") + header + data[8 + length :])
        assert read_checkpoint(path).architecture == "resize"


REFUSED: dict[str, tuple[Any, str]] = {
    "another layer beside the model": (
        {**under("model.", RAW), "fusion.weight": torch.ones(2, 8)},
        "1 unexpected: fusion.weight",
    ),
    "two models of unknown names": ({"first": RAW, "second": AVERAGE}, "holds 2 models that fit: first, second"),
    "two averages": ({"ema_a": RAW, "ema_b": AVERAGE}, "holds 2 models that fit: ema_a, ema_b"),
    "one name twice": ({**RAW, **under("module.", AVERAGE)}, "unexpected: module.features"),
    "averages without names": ({"shadow_params": list(RAW.values()), "decay": 0.9}, "shadow_params have no names"),
    "quantised": ({**RAW, "features.0.0.zero_point": torch.tensor(1)}, r"is quantised \(features.0.0.zero_point\)"),
    "adapters": ({"base.lora_A.weight": torch.ones(2, 2)}, "holds adapters"),
    "pruned": ({name.replace("weight", "weight_orig"): t for name, t in RAW.items()}, "is pruned"),
    "FSDP's shards": ({"_flat_param": torch.ones(9)}, "FSDP's flattened shards"),
    "DeepSpeed's placeholders": ({"module": {name: torch.empty(0) for name in RAW}}, "zero_to_fp32.py"),
    "tensors without values": (
        {name: tensor.to("meta") for name, tensor in RAW.items()},
        r"is of type float32, without values \(meta\)",
    ),
    "a nested tensor": (
        {name: nested(tensor) if tensor.dim() == 4 else tensor for name, tensor in RAW.items()},
        "is a nested tensor",
    ),
    "a branch of another GLASS": (under("global_model.", RAW), "missing: "),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_one_whole_model_is_refused_by_name(form: str, tmp_path: Path) -> None:
    value, says = REFUSED[form]
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(tmp_path / "x.pt")


def test_the_stages_say_which_of_several_models_is_taken(tmp_path: Path) -> None:
    stages: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            stages.append(name)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    torch.save({"model": RAW, "model_ema": AVERAGE}, tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt", stage=Named)
    assert found.left == ("model",)
    assert "checking the weights of model_ema; left out: model" in stages


def test_the_manifest_says_which_of_several_models_was_taken(tmp_path: Path) -> None:
    torch.save({"model": RAW, "model_ema": AVERAGE}, tmp_path / "several.pt")
    torch.save({"model": RAW}, tmp_path / "one.pt")
    sources = [
        prepare_export(ExportOptions(weights=str(tmp_path / name))).model.weights.source
        for name in ("several.pt", "one.pt")
    ]
    assert sources == ["several.pt (model_ema)", "one.pt"]


def sharded(folder: Path, suffix: str, save: Callable[[Tensors, Path], object]) -> Path:
    """A checkpoint in two shards with its index."""
    names, where = sorted(RAW), dict[str, str]()
    for number, some in enumerate((names[:50], names[50:]), start=1):
        file = f"model-{number:05}-of-00002{suffix}"
        save({name: RAW[name].contiguous() for name in some}, folder / file)
        where |= dict.fromkeys(some, file)
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}, indent=2))
    return index


@pytest.mark.parametrize(("suffix", "save"), [(".safetensors", save_file), (".bin", torch.save)])
def test_shards_are_read_through_their_index(suffix: str, save: Any, tmp_path: Path) -> None:
    found = read_checkpoint(sharded(tmp_path, suffix, save))
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in RAW.items())
    with pytest.raises(CheckpointError, match=rf"This is shard 2 of 2: name model{suffix}\.index\.json"):
        read_checkpoint(tmp_path / f"model-00002-of-00002{suffix}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda index, _: index.with_name("model-00002-of-00002.safetensors").unlink(), "1 are not beside it: model-"),
        (lambda index, text: index.write_text(text.replace("model-00002", "../model-00002")), "outside the index's"),
        (lambda index, text: index.write_text(text.replace("model-00002", "/model-00002")), "outside the index's"),
        (lambda index, text: index.write_text(text.replace("model-00002", "model-00001")), "lacks .* tensors of its"),
        (lambda index, text: index.write_text(text.replace("weight_map", "map")), "is JSON .* not the index of one"),
        (lambda index, text: index.write_text(text[:90]), "begins like JSON"),
        (lambda index, text: index.write_text('{"weight_map": {"a": 3}}'), "is JSON"),
        (
            lambda index, _: index.with_name("model-00002-of-00002.safetensors").write_text("version https://git-lfs"),
            "the shard .* is a Git LFS pointer",
        ),
    ],
)
def test_a_set_of_shards_that_is_not_whole_is_refused_by_name(
    change: Callable[[Path, str], object], says: str, tmp_path: Path
) -> None:
    index = sharded(tmp_path, ".safetensors", save_file)
    change(index, index.read_text().replace("00002-of-00002", "00002-of-00002"))
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(index)


@pytest.mark.parametrize(
    ("name", "save"),
    [("x.pt", save_file), ("x.bin", save_file), ("x", save_file), ("x.safetensors", torch.save), ("x", torch.save)],
)
def test_a_checkpoint_is_read_by_its_content_whatever_its_name(name: str, save: Any, tmp_path: Path) -> None:
    save(RAW, tmp_path / name)
    assert read_checkpoint(tmp_path / name).architecture == "resize"
