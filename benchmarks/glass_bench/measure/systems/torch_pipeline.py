"""The plain PyTorch pipeline, as the authors' code does it: what glass-rt replaces.

Pillow decodes and converts to RGB. GLASS: the whole image becomes a float tensor in 0..1; the global view is its
antialiased bilinear resize, the crops are cut from it at boxes drawn with `torch.Generator`. Resize-only: Pillow
resizes the uint8 image. Both are normalised, and eager modules do the rest. Nothing here calls the runtime's own
views or sampling; only the default seed is the runtime's, so that both look at the same windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from pathlib import Path
from time import perf_counter

import torch
from glass_export.backbones import find_backbone
from glass_export.checkpoint import fill, read_checkpoint, tensors_sha256
from glass_export.model import Glass, ResizeOnly, build_model, checkpoint_module
from glass_export.untrained import fill_untrained
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from glass_bench.errors import BenchError
from glass_bench.measure.contenders import Contender
from glass_bench.measure.systems.base import Description, ImageResult
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.manifest import Model
from glass_rt.image.sampling import default_seed

MAX_GRID = 8


class TorchSystem:
    """The model of a bundle in PyTorch: the same weights, crops and default seed, eager or in bf16 autocast."""

    def __init__(self, contender: Contender) -> None:
        bundle = Bundle.open(contender.bundle)
        model = bundle.manifest.model
        if contender.threads:
            torch.set_num_threads(contender.threads)
        self._module = module_with_weights(model, contender)
        self._size, self._fake = model.crop_size, model.fake_index
        self._crops = contender.crops or model.trained_crops
        self._bf16 = contender.precision == "bf16"
        self.description = Description(
            architecture=model.architecture,
            backbone=model.backbone,
            backend="pytorch",
            precision="bf16 autocast" if self._bf16 else "fp32",
            device="cpu",
            crops=self._crops if model.architecture == "glass" else 0,
            batch=0,
            trained=model.weights.trained,
            weights_sha256=model.weights.sha256,
            bundle_sha256=bundle.sha256,
        )

    def judge(self, path: str, crops: int | None = None) -> ImageResult:
        """One image, with its stage times."""
        try:
            return self._judge(path, crops or self._crops)
        except (OSError, ValueError, RuntimeError, SyntaxError) as error:  # Pillow raises any of these
            return ImageResult(None, error=f"{type(error).__name__}: {error}")

    def judge_many(self, paths: Sequence[str]) -> Iterator[ImageResult]:
        """One by one: crops of different images do not share a batch in the authors' evaluation of single images."""
        for path in paths:
            yield self.judge(path)

    def check(self) -> str | None:
        """Nothing: this is what engines are compared with."""
        return None

    def close(self) -> None:
        """The memory goes with the last reference."""

    def _judge(self, path: str, crops: int) -> ImageResult:
        clock = _Clock()
        data = Path(path).read_bytes()
        seed = default_seed(hashlib.sha256(data).hexdigest())
        picture = Image.open(BytesIO(data)).convert("RGB")
        clock.stop("decode")
        with torch.inference_mode():
            if isinstance(self._module, ResizeOnly):
                resized = picture.resize((self._size, self._size), Image.Resampling.BILINEAR)
                view = self._normalised(functional.to_tensor(resized))[None]
                clock.stop("views")
                with self._autocast():
                    logits = self._module(view)
                clock.stop("engine_global")
                windows = 0
            else:
                view, local = self._views(picture, crops, seed)
                clock.stop("views")
                with self._autocast():
                    global_embedding = self._module.global_model(view)
                    clock.stop("engine_global")
                    local_embeddings = self._module.local_model(local)
                    clock.stop("engine_local")
                    logits, _ = self._module.pool(global_embedding, local_embeddings[None])
                windows = len(local)
            probability = float(torch.softmax(logits[0].float(), dim=0)[self._fake])
            clock.stop("aggregate")
        return ImageResult(probability, stages_ms=clock.stages_ms, windows=windows)

    def _views(self, picture: Image.Image, crops: int, seed: int) -> tuple[Tensor, Tensor]:
        """Normalised (1, 3, S, S) and (K, 3, S, S)."""
        image = functional.to_tensor(picture)  # (3, H, W) float32 in 0..1
        whole = functional.resize(image, [self._size, self._size], antialias=True)
        height, width = image.shape[1:]
        boxes = _stratified(height, width, crops, seed, self._size)
        cut = torch.stack([_cut(image, top, left, self._size) for top, left in boxes])
        return (
            self._normalised(whole)[None],
            self._normalised(cut),
        )

    def _normalised(self, planes: Tensor) -> Tensor:
        """(..., 3, H, W) in 0..1, normalised as the model was trained."""
        scaling = self._module.scaling
        result: Tensor = functional.normalize(planes, scaling.mean, scaling.std)
        return result

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16) if self._bf16 else nullcontext()


def module_with_weights(model: Model, contender: Contender) -> Glass | ResizeOnly:
    """The model with the bundle's weights: from the checkpoint, or by the seeded rule; raises BenchError otherwise."""
    module = build_model(find_backbone(model.backbone), model.architecture)
    if contender.checkpoint is not None:
        fill(
            checkpoint_module(module),
            read_checkpoint(Path(contender.checkpoint), model.backbone, model.architecture).tensors,
        )
    else:
        fill_untrained(checkpoint_module(module))
    if tensors_sha256(checkpoint_module(module)) != model.weights.sha256:
        given = "the checkpoint's" if contender.checkpoint else "the seeded rule's"
        raise BenchError(
            f"{given} weights are not those of {Path(contender.bundle).name} ({model.weights.source}): "
            "name its checkpoint with --weights, or leave the PyTorch contenders out with --no-pytorch"
        )
    return module.eval()


class _Clock:
    """Splits one run into stages."""

    def __init__(self) -> None:
        self.stages_ms: dict[str, float] = {}
        self._last = perf_counter()

    def stop(self, stage: str) -> None:
        now = perf_counter()
        self.stages_ms[stage], self._last = (now - self._last) * 1e3, now


def _stratified(height: int, width: int, crops: int, seed: int, size: int) -> list[tuple[int, int]]:
    """(top, left) of every window, drawn as the authors draw them. Source: arXiv 2601.00141."""
    generator = torch.Generator().manual_seed(seed)

    def below_or_at(bound: int) -> int:
        return int(torch.randint(0, max(0, bound) + 1, (1,), generator=generator))

    grid = min(min(height, width) // size, MAX_GRID)
    if grid * grid < crops:
        return [(below_or_at(height - size), below_or_at(width - size)) for _ in range(crops)]
    cell_height, cell_width = height // grid, width // grid
    corners = []
    for cell in torch.randperm(grid * grid, generator=generator)[:crops].tolist():
        top = cell // grid * cell_height + below_or_at(cell_height - size)
        left = cell % grid * cell_width + below_or_at(cell_width - size)
        corners.append((min(top, max(0, height - size)), min(left, max(0, width - size))))
    return corners


def _cut(image: Tensor, top: int, left: int, size: int) -> Tensor:
    window = image[:, top : top + size, left : left + size]
    return torch.nn.functional.pad(window, (0, size - window.shape[2], 0, size - window.shape[1]))
