"""What decode, augmentation and views cost a training epoch, on one core, beside the plain way.

    python benchmarks/delivery_cost.py FOLDER [--megapixels 9 16.5] [--json FILE]

Plain: Pillow decodes the whole picture, and applies the same kinds of steps to it; torchvision makes a float tensor of
it, resizes that for the global view and cuts the crops out of it, as the authors load. Ours: `glass_train`'s bank of
deliveries, in an epoch whose deliveries are new and in one whose deliveries are kept. Both draw from one policy, in
turn; seconds are those of the processor, with every library held to one thread.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from time import process_time

import click
import cv2
import numpy as np
import PIL
import torch
import torchvision
from glass_train.data.examples import plain_views
from glass_train.delivery.bank import Bank, BankImage, BankSettings
from glass_train.delivery.blur import Blur
from glass_train.delivery.draw import draw_delivery
from glass_train.delivery.geometry import Flip
from glass_train.delivery.jpeg import Jpeg
from glass_train.delivery.noise import Noise
from glass_train.delivery.policy import UNCHANGED, Policy
from glass_train.delivery.rescale import Rescale, Thumbnail
from glass_train.delivery.step import Step
from glass_train.delivery.webp import WebP
from PIL import Image, ImageFilter, ImageOps
from threadpoolctl import threadpool_limits
from torchvision.transforms import functional

from glass_rt.image.decode import Pixels
from glass_rt.image.encoded import load, read_image
from glass_rt.image.sampling import stratified
from glass_rt.machine.environment import cpu_name

SIZE, CROPS = 224, 10
EPOCHS = (20, 50)  # of the runs whose sums are given


def authors_views(path: Path, policy: Policy, seed: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The global view and the crops of one delivery, as float tensors."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    for step in draw_delivery(policy, seed):
        image = plain_step(image, step)
    tensor = functional.to_tensor(image)  # (3, H, W), 0..1
    view = functional.resize(tensor, [SIZE, SIZE], antialias=True)
    crops = torch.zeros(CROPS, 3, SIZE, SIZE)
    for crop, box in zip(crops, stratified(image.height, image.width, CROPS, 0, SIZE).boxes, strict=True):
        window = tensor[:, box.top : box.top + box.height, box.left : box.left + box.width]
        crop[:, : box.height, : box.width] = window
    return view, crops


def plain_step(image: Image.Image, step: Step) -> Image.Image:
    """A step on the whole picture, by Pillow; noise by PyTorch."""
    match step:
        case Flip(horizontal, vertical):
            image = ImageOps.mirror(image) if horizontal else image
            return ImageOps.flip(image) if vertical else image
        case Blur(sigma):
            return image.filter(ImageFilter.GaussianBlur(sigma))
        case Rescale(_, kernel) | Thumbnail(_, kernel):
            height, width = step.size_after((image.height, image.width))
            return image.resize((width, height), Image.Resampling[kernel.upper()])
        case Noise(sigma, _):
            pixels = torch.from_numpy(np.array(image)).float()
            noisy = (pixels + torch.randn_like(pixels) * sigma).round_().clamp_(0, 255)
            return Image.fromarray(noisy.to(torch.uint8).numpy())
        case Jpeg(subsampling, quality):
            return coded(image, "JPEG", quality=quality, subsampling=subsampling)
        case WebP(quality):
            return coded(image, "WEBP", quality=quality)
    raise AssertionError(step)


def coded(image: Image.Image, form: str, **options: object) -> Image.Image:
    """An image written and read again."""
    file = BytesIO()
    image.save(file, form, **options)
    return Image.open(file).convert("RGB")


def decoded(path: Path) -> Pixels:
    """The pixels of a file."""
    return load(path).pixels


def seconds_per_image(work: Callable[[int], object], images: int) -> float:
    """Processor seconds of `work(0)`, `work(1)`, ... divided by their number."""
    start = process_time()
    for index in range(images):
        work(index)
    return (process_time() - start) / images


class Contest:
    """The same images in one epoch after the other, the ways in turn."""

    def __init__(self, paths: Sequence[Path], policy: Policy, folder: Path) -> None:
        self.paths, self.policy = paths, policy
        images = [BankImage(path.name, partial(decoded, path)) for path in paths]
        self.bank = Bank(folder / "bank", images, BankSettings(policy))
        self.deliveries = BankSettings().deliveries

    def plain(self, epoch: int) -> float:
        """Seconds an image of an epoch of the plain way, whose deliveries are those of the bank."""

        def work(index: int) -> object:
            seed = f"0/{self.paths[index].name}/{self.bank.delivery(index, epoch)}"
            return authors_views(self.paths[index], self.policy, seed)

        return seconds_per_image(work, len(self.paths))

    def ours(self, epoch: int) -> float:
        """Seconds an image of an epoch of the bank."""
        return seconds_per_image(lambda index: self.bank.views(index, epoch, CROPS), len(self.paths))

    def decode(self, _: int) -> float:
        """Seconds an image of the decode alone."""
        return seconds_per_image(lambda index: decoded(self.paths[index]), len(self.paths))

    def bare(self, _: int) -> float:
        """Seconds an image of `glass_train`'s loader without any delivery."""
        return seconds_per_image(lambda index: plain_views(decoded(self.paths[index]), CROPS, 0), len(self.paths))

    def unaugmented(self, _: int) -> float:
        """Seconds an image of the plain way without any step."""
        return seconds_per_image(lambda index: authors_views(self.paths[index], UNCHANGED, ""), len(self.paths))


def run_rounds(contest: Contest) -> list[dict[str, float]]:
    """A round an epoch, until every delivery was met twice: the second time its views are kept."""
    rounds = []
    for epoch in range(contest.deliveries):
        new, plain = contest.ours(epoch), contest.plain(epoch)
        rounds.append({"plain_s": plain, "new_s": new})
        print(f"epoch {epoch + 1}: plain {plain:.3f} s, ours with new deliveries {new:.3f} s an image")
    for epoch, times in enumerate(rounds):
        kept, plain = contest.ours(contest.deliveries + epoch), contest.plain(epoch)
        more = {"kept_s": kept, "plain_again_s": plain, "decode_s": contest.decode(epoch)}
        times.update(more, unaugmented_s=contest.unaugmented(epoch), bare_s=contest.bare(epoch), ratio=plain / kept)
        print(f"epoch {contest.deliveries + epoch + 1}: plain {plain:.3f} s, ours with kept ones {kept:.3f} s an image")
    return rounds


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over all deliveries; ratios of rounds that ran in turn."""
    mean = {key: statistics.fmean(times[key] for times in rounds) for key in rounds[0]}
    plain = (mean["plain_s"] + mean["plain_again_s"]) / 2
    ratios = [times["ratio"] for times in rounds]
    figures = {
        "plain_images_per_s": 1 / plain,
        "plain_unaugmented_images_per_s": 1 / mean["unaugmented_s"],
        "bare_images_per_s": 1 / mean["bare_s"],
        "decode_images_per_s": 1 / mean["decode_s"],
        "new_images_per_s": 1 / mean["new_s"],
        "kept_images_per_s": 1 / mean["kept_s"],
        "new_times_plain": mean["plain_s"] / mean["new_s"],
        "kept_times_plain": mean["plain_again_s"] / mean["kept_s"],
        "kept_times_plain_least": min(ratios),
        "kept_times_plain_most": max(ratios),
    }
    for epochs in EPOCHS:
        ours = len(rounds) * mean["new_s"] + (epochs - len(rounds)) * mean["kept_s"]
        figures[f"whole_run_of_{epochs}_epochs_times_plain"] = epochs * plain / ours
    return figures


def webp_cost(paths: Sequence[Path], folder: Path) -> dict[str, float]:
    """What a policy whose rounds are all WebP costs where its deliveries are kept: the whole picture, each time."""
    contest = Contest(paths, replace(Policy(), webp=1.0), folder)
    for epoch in range(contest.deliveries):
        contest.ours(epoch)
    kept = statistics.fmean(contest.ours(contest.deliveries + epoch) for epoch in range(contest.deliveries))
    return {"kept_images_per_s": 1 / kept}


def photographs(folder: Path, least: float, most: float) -> list[Path]:
    """The JPEGs of a folder within a range of megapixels."""
    paths = sorted(path for path in folder.rglob("*.jp*g") if path.is_file())
    megapixels = {path: (header := read_image(path).header).width * header.height / 1e6 for path in paths}  # type: ignore[union-attr]
    chosen = [path for path in paths if least <= megapixels[path] <= most]
    if not chosen:
        raise click.ClickException(f"{folder} holds no JPEG of {least:g} to {most:g} megapixels")
    print(f"{len(chosen)} photographs of {statistics.fmean(megapixels[path] for path in chosen):.1f} MP on average")
    return chosen


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--megapixels", nargs=2, type=float, default=(11.0, 14.0), show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(folder: Path, megapixels: tuple[float, float], json_path: Path | None) -> None:
    """Measure with the JPEGs under FOLDER."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    paths = photographs(folder, *megapixels)
    with threadpool_limits(1), tempfile.TemporaryDirectory() as temporary:
        rounds = run_rounds(Contest(paths, Policy(), Path(temporary)))
        webp = webp_cost(paths, Path(temporary) / "webp")
    figures = summary(rounds)
    for name, figure in figures.items():
        print(f"{name:40} {figure:6.2f}")
    print(f"{'with WebP alone: kept_images_per_s':40} {webp['kept_images_per_s']:6.2f}")
    if json_path is not None:
        versions = {"opencv": cv2.__version__, "pillow": PIL.__version__, "numpy": np.__version__}
        versions |= {"torch": torch.__version__, "torchvision": torchvision.__version__}
        record = {"cpu": cpu_name(), **versions, "images": len(paths), "megapixels": megapixels, "crops": CROPS}
        record |= {"policy": asdict(Policy()), "figures": figures, "webp": webp, "rounds": rounds}
        json_path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
