"""A bundle at work: its engines opened on this machine, and all that judging with them needs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from glass_rt.backends import Backend
from glass_rt.backends.cuda.image_codec import ImageCodec
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import MANIFEST
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import BundleInvalid
from glass_rt.image.views import HostViews, ViewWriter
from glass_rt.inference.decode_gate import check_not_refused
from glass_rt.inference.engine_memory import EngineReserve, engines_take, runs_take
from glass_rt.inference.engines import batch_for, device_of, open_engines, warm_up
from glass_rt.inference.head import Head
from glass_rt.inference.pack import Packer
from glass_rt.inference.placement import (
    check_codec_installed,
    check_decode,
    check_views,
    open_codec,
    open_views,
    place_of_views,
)
from glass_rt.machine.device import on_processor
from glass_rt.machine.limits.byte_budget import ByteBudget
from glass_rt.machine.limits.memory import held_bytes
from glass_rt.options import RunOptions

RUNS_PER_PACK = 6  # of the local engine; with K = 10, 6 or 4 and a batch of 4 all of them are full


@dataclass(frozen=True, eq=False)
class OpenedBundle:
    """Opened engines by role (`global`, and `local` for the GLASS architecture), the head behind them, and how to run.

    `batch`: most views in one run of an engine. `views`: what writes the views that the engines read. `memory`: bytes
    that the user lets this process hold. `on_gpu`: whether the engines leave the processor to the decoders.
    `device`: where they run, as text. `codec`: what decodes JPEGs on the GPU, where that was asked for. `reserve`: what
    the engines may still take of memory. `decoding`: what is held for images, by all that decode for this bundle. The
    engines, the views and the codec belong to this object, and `close` closes them.
    """

    bundle: Bundle
    engines: Mapping[str, Backend]
    head: Head
    batch: int
    views: ViewWriter = field(default_factory=HostViews)
    memory: int | None = None
    on_gpu: bool = False
    device: str = "cpu"
    codec: ImageCodec | None = None
    reserve: EngineReserve = field(default_factory=lambda: EngineReserve(0))
    decoding: ByteBudget = field(default_factory=ByteBudget)

    @classmethod
    def open(cls, bundle: Bundle, run: RunOptions) -> OpenedBundle:
        """Opens the engines of a bundle, past their requirements and a parity that is pending.

        Raises BundleUnfit, BundleInvalid, ParityError, BackendError, MissingDependency, OutOfMemory, UsageError.
        """
        batch = batch_for(bundle.manifest, run.batch, run.memory, run.device)
        head = Head.for_model(bundle.manifest.model, bundle.head())
        check_views(bundle.manifest, run.views)
        check_decode(bundle.manifest, run)
        if run.decode == "device":
            check_codec_installed()
            check_not_refused(bundle, device_of(bundle.manifest, run.device))
        device = device_of(bundle.manifest, run.device)
        reserve = EngineReserve(engines_take(bundle.manifest, batch, device, pinned=bundle.pinned), held_bytes())
        with ExitStack() as undo:
            engines = open_engines(bundle, run)
            for engine in engines.values():
                undo.callback(engine.close)
            _check_crop_size(bundle, engines)
            warm_up(engines)
            place = place_of_views(bundle.manifest, run)
            views = open_views(bundle.manifest, replace(run, views=place))
            undo.callback(views.close)
            codec = open_codec(run, in_memory=place == "host") if run.decode == "device" else None
            undo.pop_all()
            reserve.opened(runs_take(bundle.manifest, batch, device))
            on_gpu = not on_processor(device)
            return cls(bundle, engines, head, batch, views, run.memory, on_gpu, device, codec, reserve)

    @property
    def manifest(self) -> BundleManifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def images_per_pack(self) -> int:
        """Images that fill a pack, of as many crops as the model is trained with."""
        return max(1, RUNS_PER_PACK * self.batch // max(1, self.manifest.model.trained_crops))

    def new_packer(self) -> Packer:
        """A packer whose packs have room for a few runs of the engine."""
        return Packer(self.manifest.model.crop_size, RUNS_PER_PACK * self.batch, self.batch, self.views)

    def close(self) -> None:
        """Closes the engines, what writes the views and what decodes; nothing may be running."""
        with ExitStack() as closing:  # what fails to close keeps nothing else open
            closing.callback(self.views.close)
            for engine in self.engines.values():
                closing.callback(engine.close)
            if self.codec is not None:
                closing.callback(self.codec.close)


def _check_crop_size(bundle: Bundle, engines: Mapping[str, Backend]) -> None:
    """Raises BundleInvalid where the engines take views of another size than the manifest says."""
    size = bundle.manifest.model.crop_size
    for role, engine in engines.items():
        for pixels in engine.inputs:
            if len(pixels.shape) == 4 and any(known not in (None, size) for known in pixels.shape[1:3]):
                raise BundleInvalid(
                    f"{bundle.folder / MANIFEST}: model.crop_size is {size}; the {role} engine takes {pixels}"
                )
