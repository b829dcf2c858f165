"""A checkpoint becomes a portable model: graphs, head, reference values, manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from glass_export.backbone import Backbone, Scaling
from glass_export.backbones import find_backbone
from glass_export.checkpoint import fill, read_checkpoint, tensors_sha256
from glass_export.graphs import FusedGlass, PixelsToEmbedding
from glass_export.half.half_model import half_model
from glass_export.half.precision import HALF_DTYPES
from glass_export.model import CROP_SIZE, Glass, ResizeOnly, build_model, checkpoint_module
from glass_export.onnx_file import BFLOAT16_OPSET, OPSET, onnx_from_torch
from glass_export.reference import reference_values
from glass_export.untrained import fill_untrained
from glass_rt.bundle.bundle import HEAD, REFERENCE, PortableModel, save_tensors
from glass_rt.bundle.folder import check_target, staged, write_manifest
from glass_rt.bundle.manifest import ARCHITECTURES, FAKE, REAL, Model, PortableManifest, Weights
from glass_rt.bundle.precision_report import PrecisionReport
from glass_rt.errors import CheckpointError, ExportError, UsageError, first_line
from glass_rt.progress import Stage, silent

IMAGENET = "imagenet"
UNTRAINED = "untrained (seeded rule)"
FUSED = "glass.onnx"


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    `weights`: a checkpoint's path, `imagenet` (its library's weights under an untrained head), or None for the
    seeded rule. `backbone` and `architecture` may be None where a checkpoint tells them. `classes`: in the order of
    the checkpoint's logits. `crops`: the K that the weights were trained with (None: the authors'). `calibration`: a
    folder of images over which ranges are probed for precisions of 16 bits (None: seeded views).
    """

    backbone: str | None = None
    architecture: str | None = None
    weights: str | None = None
    classes: tuple[str, ...] = (FAKE, REAL)
    crops: int | None = None
    precisions: tuple[str, ...] = ("fp32",)
    fused: bool = False
    calibration: Path | None = None

    def __post_init__(self) -> None:
        if self.architecture not in (None, *ARCHITECTURES):
            raise UsageError(f"architecture: got {self.architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
        if sorted(self.classes) != [FAKE, REAL]:
            raise UsageError(
                f"classes: got {','.join(self.classes)}; expected `fake,real` or `real,fake`: which of the "
                "checkpoint's two logits stands for AI-generated images, whatever the folders were called"
            )
        if self.backbone is None and self.weights in (None, IMAGENET):
            raise UsageError("backbone: needed unless a checkpoint tells it; for example --backbone vit_b16")
        if self.backbone is not None:
            find_backbone(self.backbone)
        if self.crops is not None and self.crops < 1:
            raise UsageError(f"crops: got {self.crops}; at least one is needed")
        exportable = ("fp32", *HALF_DTYPES)
        if strange := [precision for precision in self.precisions if precision not in exportable]:
            raise UsageError(f"precision: got {', '.join(strange)}; graphs are exported in {', '.join(exportable)}")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its weights loaded, ready to be written as a portable model."""

    model: Model
    module: Glass | ResizeOnly
    fused: bool
    precisions: tuple[str, ...] = ("fp32",)
    calibration: Path | None = None

    def write(self, folder: Path, stage: Stage = silent) -> None:
        """Writes the files of a portable model into an existing folder. Raises ExportError, by the model's name."""
        try:
            self._write(folder, stage)
        except ExportError as error:
            raise ExportError(f"{self.model.backbone}: {error}") from error

    def _write(self, folder: Path, stage: Stage) -> None:
        if self.fused and isinstance(self.module, Glass):
            with stage("tracing the fused model"):
                _export_fused(self.module, folder / FUSED, self.model)
        with stage("computing the reference values"):
            reference = reference_values(self.module, self.model.trained_crops)
            save_tensors(folder / REFERENCE, reference)
        embedders, head = _split(self.module)
        save_tensors(folder / HEAD, head)
        graphs, reports = dict[str, dict[str, str]](), dict[str, PrecisionReport]()
        for precision in self.precisions:
            modules: Mapping[str, nn.Module] = embedders
            if precision in HALF_DTYPES:
                half = half_model(embedders, head, self.model, reference, precision, self.calibration, stage)
                modules, reports[precision] = half.graphs, half.report
            graphs[precision] = {role: f"{role}.{precision}.onnx" for role in embedders}
            for role, module in modules.items():
                with stage(f"tracing the {role} engine ({precision})"):
                    opset = BFLOAT16_OPSET if precision == "bf16" else OPSET
                    _export_embedder(module, folder / graphs[precision][role], role, self.model, opset)
        write_manifest(folder, PortableManifest(self.model, graphs, _tools(self.model.backbone), precisions=reports))


def prepare_export(options: ExportOptions, stage: Stage = silent) -> LoadedModel:
    """Loads the weights and describes their model. Raises CheckpointError, UsageError."""
    module, backbone, weights = _load(options, stage)
    glass, name = isinstance(module, Glass), backbone.name.replace(":", "_")  # a folder's name in every file system
    if options.fused and not glass:
        raise UsageError("fused: the resize-only model is one graph already")
    model = Model(
        name=name if glass else f"{name}_resize",
        architecture="glass" if glass else "resize",
        backbone=backbone.name,
        embedding_dim=backbone.embedding_dim,
        classes=(options.classes[0], options.classes[1]),
        crop_size=CROP_SIZE,
        trained_crops=(options.crops or backbone.crops) if glass else 0,
        mean=backbone.scaling.mean,
        std=backbone.scaling.std,
        weights=weights,
    )
    return LoadedModel(model, module, options.fused, options.precisions, options.calibration)


def prepare_for_build(stage: Stage, **options: Any) -> LoadedModel:
    """`prepare_export` by keywords: the engine stage finds this by its entry point and knows no class of ours."""
    return prepare_export(ExportOptions(**options), stage)


def export_portable(
    options: ExportOptions, target: Path, *, force: bool = False, stage: Stage = silent
) -> PortableModel:
    """Writes a portable model to the folder `target`, whole or not at all.

    Raises CheckpointError, ExportError, UsageError, and BundleExists where `target` exists and `force` is not given.
    """
    check_target(target, force=force)
    prepared = prepare_export(options, stage)
    with staged(target, force=force) as folder:
        prepared.write(folder, stage)
    return PortableModel.open(target)


def _load(options: ExportOptions, stage: Stage) -> tuple[Glass | ResizeOnly, Backbone, Weights]:
    if options.weights in (None, IMAGENET):
        with stage("loading the weights"):
            return _load_untrained(options)
    path = Path(str(options.weights))
    checkpoint = read_checkpoint(path, options.backbone, options.architecture, stage)
    backbone = find_backbone(checkpoint.backbone)
    module = build_model(backbone, checkpoint.architecture)
    fill(checkpoint_module(module), checkpoint.tensors)
    source = f"{path.name} ({checkpoint.taken})" if checkpoint.left else path.name
    return module, backbone, Weights(source, tensors_sha256(checkpoint_module(module)), trained=True)


def _load_untrained(options: ExportOptions) -> tuple[Glass | ResizeOnly, Backbone, Weights]:
    assert options.backbone is not None, "checked at construction"
    backbone = find_backbone(options.backbone)
    pretrained = options.weights == IMAGENET
    module = _build(backbone, options.architecture or "glass", pretrained)
    prefixes = _head_prefixes(module, backbone) if pretrained else ("",)
    fill_untrained(checkpoint_module(module), prefixes)
    source = "imagenet backbones, untrained head" if pretrained else UNTRAINED
    return module, backbone, Weights(source, tensors_sha256(checkpoint_module(module)), trained=False)


def _build(backbone: Backbone, architecture: str, pretrained: bool) -> Glass | ResizeOnly:
    try:
        return build_model(backbone, architecture, pretrained)
    except (URLError, OSError) as error:
        raise CheckpointError(
            f"{backbone.library} could not download the ImageNet weights of {backbone.name} ({first_line(error)}). "
            f"Without a network: fetch them elsewhere into {backbone.weights_cache}, or leave --weights out for "
            "untrained weights"
        ) from error


def _head_prefixes(module: Glass | ResizeOnly, backbone: Backbone) -> tuple[str, ...]:
    return ("attention.", "classifier.") if isinstance(module, Glass) else (f"{backbone.resize_head}.1.",)


def _split(module: Glass | ResizeOnly) -> tuple[dict[str, nn.Module], dict[str, NDArray[np.float32]]]:
    """Embedders by role, and the head's parameters by the names that the runtime knows."""
    if isinstance(module, Glass):
        head = {
            name: tensor.numpy()
            for name, tensor in module.state_dict().items()
            if name.startswith(("attention.", "classifier."))
        }
        return {"global": module.global_model, "local": module.local_model}, head
    embedder, linear = module.split()
    return {"global": embedder}, {f"classifier.{name}": tensor.numpy() for name, tensor in linear.state_dict().items()}


def _export_embedder(module: nn.Module, path: Path, role: str, model: Model, opset: int) -> None:
    """`module` is an embedder, or the graph made of one."""
    dtype = torch.float32 if role == "global" else torch.uint8
    example = torch.zeros((2, CROP_SIZE, CROP_SIZE, 3), dtype=dtype)
    onnx_from_torch(
        module
        if isinstance(module, PixelsToEmbedding)
        else PixelsToEmbedding(module, Scaling(model.mean, model.std)).eval(),
        path,
        {"pixels": example},
        ("embedding",),
        {"pixels": {0: "N"}},
        _metadata(model, role),
        opset,
    )


def _export_fused(module: Glass, path: Path, model: Model) -> None:
    views = torch.zeros((2, CROP_SIZE, CROP_SIZE, 3))
    crops = torch.zeros((2, 3, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8)
    onnx_from_torch(
        FusedGlass(module).eval(),
        path,
        {"global": views, "crops": crops},
        ("probabilities", "attention"),
        {"global": {0: "B"}, "crops": {0: "B", 1: "K"}},
        _metadata(model, "fused"),
    )


def _metadata(model: Model, role: str) -> Mapping[str, str]:
    return {
        "glass_rt.role": role,
        "glass_rt.architecture": model.architecture,
        "glass_rt.backbone": model.backbone,
        "glass_rt.classes": ",".join(model.classes),
        "glass_rt.weights_sha256": model.weights.sha256,
        "glass_rt.trained": str(model.weights.trained).lower(),
    }


def _tools(backbone: str) -> dict[str, str]:
    library = find_backbone(backbone).library
    return {"torch": torch.__version__, library: version(library), "onnx": onnx.__version__}
