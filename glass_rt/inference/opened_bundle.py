"""A bundle at work: its engines opened on this machine, and all that judging with them needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glass_rt.backends import Backend
from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import MANIFEST
from glass_rt.bundle.manifest import BundleManifest
from glass_rt.errors import BundleInvalid
from glass_rt.image.views import HostViews, ViewWriter
from glass_rt.inference.engine_memory import EngineReserve, engines_take
from glass_rt.inference.engines import batch_for, check_views, device_of, open_engines, open_views, warm_up
from glass_rt.inference.head import Head
from glass_rt.inference.pack import Packer
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
    `device`: where they run, as text. `reserve`: what the engines may still take of memory. `decoding`: what is held
    for images, by all that decode for this bundle. The engines and the views belong to this object, and `close` closes
    both.
    """

    bundle: Bundle
    engines: Mapping[str, Backend]
    head: Head
    batch: int
    views: ViewWriter = field(default_factory=HostViews)
    memory: int | None = None
    on_gpu: bool = False
    device: str = "cpu"
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
        device = device_of(bundle.manifest, run.device)
        reserve = EngineReserve(engines_take(bundle.manifest, batch, device, pinned=bundle.pinned), held_bytes())
        engines = open_engines(bundle, run)
        try:
            _check_crop_size(bundle, engines)
            warm_up(engines)
            views = open_views(bundle.manifest, run)
            reserve.note()
            return cls(bundle, engines, head, batch, views, run.memory, not on_processor(device), device, reserve)
        except BaseException:
            for engine in engines.values():
                engine.close()
            raise

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
        """Closes the engines and what writes the views; nothing may be running."""
        for engine in self.engines.values():
            engine.close()
        self.views.close()


def _check_crop_size(bundle: Bundle, engines: Mapping[str, Backend]) -> None:
    """Raises BundleInvalid where the engines take views of another size than the manifest says."""
    size = bundle.manifest.model.crop_size
    for role, engine in engines.items():
        for pixels in engine.inputs:
            if len(pixels.shape) == 4 and any(known not in (None, size) for known in pixels.shape[1:3]):
                raise BundleInvalid(
                    f"{bundle.folder / MANIFEST}: model.crop_size is {size}; the {role} engine takes {pixels}"
                )
