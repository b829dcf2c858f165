"""Images decoded, cut and resized on the device from file to verdict: nvImageCodec's CPU backend over a GPU in memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from glass_rt.backends.cuda.device_pixels import DevicePixels
from glass_rt.backends.cuda.device_views import DeviceViews
from glass_rt.backends.cuda.image_codec import DecodedImage, Encoded, ImageCodec
from glass_rt.detector import Detector
from glass_rt.inference.head import Head
from glass_rt.inference.opened_bundle import OpenedBundle
from glass_rt.options import DetectOptions
from glass_rt.results.verdict import Verdict
from tests import jpegs
from tests.fake_gpu import FakeGpu

if TYPE_CHECKING:
    from tests.support import Bundles


class OnFakeGpu(ImageCodec):
    """What nvImageCodec decoded lies in the memory of the GPU in memory, and is gone once it is released."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__(None)
        self._fake, self.most_held = gpu, 0
        self._held: dict[int, Any] = {}

    def decode(self, batch: Sequence[Encoded]) -> list[DecodedImage | None]:
        return [None if image is None else self._moved(image) for image in super().decode(batch)]

    def _moved(self, image: DecodedImage) -> DecodedImage:
        pixels = np.asarray(image.pixels)
        with self._fake.current():
            buffer = self._fake.allocate(pixels.nbytes)
        self._fake.bytes_at(buffer.address, buffer.nbytes)[:] = pixels.reshape(-1)
        super().release(image)
        self._held[buffer.address] = buffer
        self.most_held = max(self.most_held, len(self._held))
        return DecodedImage(DevicePixels(buffer.address, *pixels.shape[:2]), buffer.address)

    def release(self, decoded: DecodedImage) -> None:
        buffer = self._held.pop(decoded.memory)
        self._fake.bytes_at(buffer.address, buffer.nbytes)[:] = 0
        with self._fake.current():
            self._fake.free(buffer)


@pytest.mark.parametrize(
    "options", [DetectOptions(crops=3), pytest.param(DetectOptions(crops="auto", margin=1e3), marks=pytest.mark.slow)]
)
def test_verdicts_are_those_of_images_decoded_by_the_cpu(
    gpu_with_kernels: Callable[..., FakeGpu], bench: Any, bundles: Bundles, options: DetectOptions
) -> None:
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed: pip install 'glass-rt[decode]'")
    bundle = bundles("mobilenet_v3_small")
    dim = bench.expected(np.zeros((1, 224, 224, 3))).shape[1]
    model = replace(bundle.manifest.model, embedding_dim=dim)
    generator = np.random.default_rng(0)
    tensors = {
        name: generator.normal(size=[dim if n == 576 else 2 * dim if n == 1152 else n for n in value.shape]) * 0.1
        for name, value in bundle.head().items()
    }
    head = Head.for_model(model, {name: value.astype(np.float32) for name, value in tensors.items()})
    files = [jpegs.READ[name]() for name in ("4:2:0", "restart markers")] + [jpegs.REFUSED["progressive"][0]()]

    def verdicts(there: bool) -> list[Verdict]:
        gpu = gpu_with_kernels()
        gpu.close = lambda: None  # type: ignore[method-assign]  # one context is shared, as the primary one is
        engines = {role: bench.open(gpu, role=role, view=224) for role in ("global", "local")}
        codec = OnFakeGpu(gpu) if there else None
        with Detector(OpenedBundle(bundle, engines, head, 16, DeviceViews(gpu), codec=codec), 2) as detector:
            found = [detector.detect(files[0], options), *detector.detect_many(files, options)]
        gc.collect()
        assert gpu.live == {}, "what was decoded was given back"
        assert codec is None or codec.most_held > 0
        return [result for result in found if isinstance(result, Verdict)]

    by_cpu, there = verdicts(False), verdicts(True)
    assert len(by_cpu) == len(there) == 1 + len(files)
    assert len({verdict.logits for verdict in by_cpu[1:]}) == len(files), "the files differ for these engines"
    for one, other in zip(by_cpu, there, strict=True):
        assert other.logits == pytest.approx(one.logits, abs=1e-5)
        assert [(crop.left, crop.top) for crop in other.crops] == [(crop.left, crop.top) for crop in one.crops]
    assert not any("decoded by" in notice for notice in there[-1].notices)
    assert any("decoded by" in notice for notice in there[0].notices)
