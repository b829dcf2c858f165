"""A checkpoint that does not fit is refused, and the reader learns which names are to blame."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from glass_export.checkpoint import expected_shapes, read_checkpoint
from glass_export.untrained import untrained_tensor
from safetensors.torch import save_file

from glass_rt.errors import CheckpointError, UsageError

Tensors = dict[str, torch.Tensor]


def made(backbone: str = "mobilenet_v3_small", architecture: str = "glass") -> Tensors:
    return {name: untrained_tensor(name, shape) for name, shape in expected_shapes(backbone, architecture).items()}


def saved(folder: Path, tensors: object) -> Path:
    path = folder / "checkpoint.pt"
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "resnet18", "resnet50", "convnext_tiny", "vit_b16"])
@pytest.mark.parametrize("architecture", ["glass", "resize"])
def test_names_and_shapes_tell_backbone_and_architecture(backbone: str, architecture: str, tmp_path: Path) -> None:
    shapes = expected_shapes(backbone, architecture)
    tensors = {name: torch.zeros((), dtype=torch.float32).expand(shape) for name, shape in shapes.items()}
    found = read_checkpoint(saved(tmp_path, tensors))
    assert (found.backbone, found.architecture) == (backbone, architecture)


def test_the_resize_only_heads_are_those_of_the_authors() -> None:
    for backbone, name in (
        ("vit_b16", "heads.head.1.weight"),
        ("resnet50", "fc.1.weight"),
        ("convnext_tiny", "classifier.2.1.weight"),
    ):
        assert expected_shapes(backbone, "resize")[name][0] == 2
    assert "classifier.0.weight" in expected_shapes("convnext_tiny", "resize")  # it keeps its LayerNorm


def test_half_precision_and_missing_batch_counters_are_accepted(tmp_path: Path) -> None:
    tensors = {name: t.half() for name, t in made().items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / "half.safetensors"
    save_file(tensors, path)
    assert read_checkpoint(path).backbone == "mobilenet_v3_small"


def test_missing_unexpected_and_misshapen_names_are_listed(tmp_path: Path) -> None:
    tensors = made()
    tensors["classifier.2.bias"] = torch.zeros(3)
    tensors["stranger"] = torch.zeros(1)
    del tensors["attention.0.weight"]
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(saved(tmp_path, tensors))
    message = str(caught.value)
    assert "1 missing: attention.0.weight" in message
    assert "1 unexpected: stranger" in message
    assert "1 misshapen: classifier.2.bias (3,) instead of (2,)" in message


def test_a_checkpoint_of_another_backbone_says_whose_it_is(tmp_path: Path) -> None:
    path = saved(tmp_path, made("resnet18"))
    with pytest.raises(
        CheckpointError, match=r"does not fit resnet50 \(glass\); it is a checkpoint of resnet18 \(glass\)"
    ):
        read_checkpoint(path, "resnet50", "glass")
    with pytest.raises(CheckpointError, match=r"it is a checkpoint of resnet18 \(glass\)"):
        read_checkpoint(path, "resnet18", "resize")


def test_nan_in_a_weight_is_refused(tmp_path: Path) -> None:
    tensors = made()
    tensors["attention.0.bias"][7] = float("nan")
    with pytest.raises(CheckpointError, match=r"attention\.0\.bias holds NaN"):
        read_checkpoint(saved(tmp_path, tensors))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weight: weight.to(torch.int64), "is of type int64"),
        (lambda weight: weight.to(torch.uint8), "is of type uint8"),
        (lambda weight: weight > 0, "is of type bool"),
        (lambda weight: weight.to(torch.complex64), "is of type complex64"),
        (lambda weight: weight.to(torch.float8_e4m3fn), "is of type float8_e4m3fn"),
        (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "is of type qint8"),
        (lambda weight: weight.to_sparse(), "is of type float32, sparse"),
        (lambda weight: weight.double() + 1e300, "holds NaN or infinity in float32"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch, about types that it will drop
def test_values_that_are_no_weights_are_refused_by_name(
    change: Callable[[torch.Tensor], torch.Tensor], says: str, tmp_path: Path
) -> None:
    tensors = made()
    tensors["attention.0.weight"] = change(tensors["attention.0.weight"])
    with pytest.raises(CheckpointError, match=rf"attention\.0\.weight {says}"):
        read_checkpoint(saved(tmp_path, tensors))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_floating_point_weights_of_16_bits_and_more_are_accepted(kind: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in made().items()}
    assert read_checkpoint(saved(tmp_path, tensors)).backbone == "mobilenet_v3_small"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, ("never",))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"weights": Evil()}, protocol=2))
    with pytest.raises(CheckpointError, match="never run"):
        read_checkpoint(path)
    assert not Path("never").exists()
    with pytest.raises(CheckpointError):
        read_checkpoint(saved(tmp_path, {"model": Evil()}))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "holds a list"),
        ({}, "holds a dict; expected a state_dict"),
        ({"epoch": 3, "lr": 0.1}, "no tensors: epoch, lr"),
    ],
)
def test_what_is_no_state_dict_is_refused(value: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(saved(tmp_path, value))


@pytest.mark.parametrize("name", ["garbage.pt", "garbage.pth", "garbage.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04broken"])
def test_damaged_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_a_missing_file_and_an_unknown_backbone_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(UsageError, match="expected one of vit_b16"):
        read_checkpoint(saved(tmp_path, made()), backbone="vgg16")
