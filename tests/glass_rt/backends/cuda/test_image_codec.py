"""nvImageCodec on its CPU backend: the class that decodes on the GPU, with nothing in it replaced."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glass_rt.backends.cuda import image_codec, open_gpu
from glass_rt.backends.cuda.codec_library import load_codec_library
from glass_rt.backends.cuda.device_pixels import DevicePixels
from glass_rt.backends.cuda.gpu import GpuDriver
from glass_rt.backends.cuda.image_codec import MOST_IMAGES, DecodedImage, Encoded, ImageCodec
from glass_rt.errors import BackendError, ImageError, MissingDependency
from glass_rt.image.encoded import EncodedImage, load, read_image
from glass_rt.image.header.jpeg_stream import NotForTheDevice, baseline_stream
from tests import jpegs
from tests.fake_gpu import FakeGpu


@pytest.fixture(scope="module")
def codec() -> Iterator[ImageCodec]:
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed: pip install 'glass-rt[decode]'")
    opened = ImageCodec(None)
    yield opened
    opened.close()


def encoded(data: bytes) -> Encoded:
    image = read_image(data)
    assert isinstance(image, EncodedImage)
    return Encoded(baseline_stream(data, image.header), image.header.height, image.header.width)


def broken(data: bytes) -> Encoded:
    """What no caller gives: a stream that ends too early."""
    whole = encoded(data)
    return Encoded(whole.stream[: len(whole.stream) // 2], whole.height, whole.width)


def pixels_of(codec: ImageCodec, batch: list[Encoded]) -> list[Any]:
    """Copies of the pixels, since their memory is given back."""
    found = codec.decode(batch)
    copies = [None if image is None else np.array(image.pixels) for image in found]
    for image in found:
        if image is not None:
            codec.release(image)
    return copies


@pytest.mark.parametrize("name", jpegs.READ)
def test_pixels_are_those_of_the_cpu_bit_for_bit(codec: ImageCodec, name: str) -> None:
    data = jpegs.READ[name]()
    (found,) = pixels_of(codec, [encoded(data)])
    np.testing.assert_array_equal(found, load(data).pixels)


def test_headers_changed_at_random_give_the_pixels_of_the_cpu_or_none_there_and_here(codec: ImageCodec) -> None:
    generator = np.random.default_rng(0)
    decoded = 0
    for index in range(80):
        data = bytearray((jpegs.plain, jpegs.restarted, jpegs.READ["grey"])[index % 3]())
        for place in generator.integers(2, 640, generator.integers(1, 4)):
            data[place] = int(generator.integers(256))
        try:
            batch = [encoded(bytes(data))]
        except (NotForTheDevice, ImageError):
            continue
        (found,) = pixels_of(codec, batch)
        try:
            expected = load(bytes(data)).pixels
        except ImageError:
            assert found is None
            continue
        decoded += 1
        np.testing.assert_array_equal(found, expected)
    assert decoded > 20


def test_a_batch_of_many_kinds_keeps_its_order_and_the_refused_are_none(codec: ImageCodec) -> None:
    files = [jpegs.READ[name]() for name in ("4:2:0", "grey", "4:4:4", "restart markers")]
    other = jpegs.by_opencv(size=(1200, 900))
    wrong_size = Encoded(encoded(files[0]).stream, jpegs.HEIGHT, jpegs.WIDTH + 1)
    batch = [encoded(files[0]), broken(files[0]), *map(encoded, files[1:]), wrong_size, encoded(other)]
    for _ in range(3):  # with the memory of the batch before
        found = pixels_of(codec, batch)
        assert [image is None for image in found] == [False, True, False, False, False, True, False]
        for image, data in zip((found[0], *found[2:5], found[6]), (*files, other), strict=True):
            np.testing.assert_array_equal(image, load(data).pixels)


def test_memory_of_released_images_is_used_again_and_no_other(codec: ImageCodec) -> None:
    batch = [encoded(jpegs.plain())] * 2
    first = codec.decode(batch)
    second = codec.decode(batch)
    assert len({address(image) for image in (*first, *second)}) == 4, "none was released"
    for image in first:
        assert image is not None
        codec.release(image)
    third = codec.decode([encoded(jpegs.READ["grey"]())] * 2)
    assert {address(image) for image in third} == {address(image) for image in first}
    expected = load(jpegs.plain()).pixels
    for image in second:
        assert image is not None
        np.testing.assert_array_equal(image.pixels, expected)


def address(image: DecodedImage | None) -> int:
    assert image is not None
    return int(np.asarray(image.pixels).ctypes.data)


def test_memory_of_very_large_images_is_not_kept(codec: ImageCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    codec._idle.clear()
    monkeypatch.setattr(image_codec, "LARGEST_KEPT", 3 * jpegs.HEIGHT * jpegs.WIDTH - 1)
    pixels_of(codec, [encoded(jpegs.plain())])
    assert codec._idle == []


def test_images_are_kept_up_to_the_memory_of_two_batches(codec: ImageCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    codec._idle.clear()
    pixels_of(codec, [encoded(jpegs.plain())])
    monkeypatch.setattr(codec, "_most_bytes", codec._idle.pop().capacity * 3 // 2)  # of an image and a half
    pixels_of(codec, [encoded(jpegs.plain())] * 5)
    assert len(codec._idle) == 3
    codec._idle.clear()


class CopyingHere(FakeGpu):
    """A GPU whose driver is asked where an image is copied to memory."""

    def is_current(self) -> bool:
        return bool(getattr(self._local, "depth", 0))


def test_an_image_of_a_gpu_is_copied_while_that_gpu_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a second GPU the library would ask the first for the copy."""
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    library, gpu = load_codec_library(), CopyingHere()
    copies: list[bool] = []

    class There:
        """An image of a GPU: it is read through `cpu()` alone."""

        def __init__(self, image: Any) -> None:
            self._image = image
            self.shape, self.dtype, self.capacity = image.shape, image.dtype, image.capacity

        def cpu(self) -> Any:
            copies.append(gpu.is_current())
            return self._image

    class Decoder:
        def __init__(self, **_: Any) -> None:
            backends = [library.Backend(library.CPU_ONLY)]
            self._decoder = library.Decoder(device_id=library.NVIMGCODEC_DEVICE_CPU_ONLY, backends=backends)

        def decode(self, streams: Any, **arguments: Any) -> list[Any]:
            arguments |= {"images": None, "cuda_stream": 0}
            return [There(image) for image in self._decoder.decode(streams, **arguments)]

    class Library:
        def __getattr__(self, name: str) -> Any:
            return Decoder if name == "Decoder" else getattr(library, name)

    monkeypatch.setattr(image_codec, "load_codec_library", Library)
    there = ImageCodec(gpu, 1)
    (found,) = pixels_of(there, [encoded(jpegs.plain())])
    np.testing.assert_array_equal(found, load(jpegs.plain()).pixels)
    there.close()
    assert copies == [True, True], "the probe's and the image's"
    assert gpu.live == {}


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([10], 1),
        ([10] * 40, MOST_IMAGES),
        ([100, 100, 100, 100], 3),
        ([1000, 10], 1),  # an image alone may be larger; `fits` has its own bound
        ([100, 250, 10], 1),
    ],
)
def test_a_batch_is_bounded_in_images_and_in_bytes(
    codec: ImageCodec, monkeypatch: pytest.MonkeyPatch, sizes: list[int], count: int
) -> None:
    monkeypatch.setattr(codec, "_most_bytes", 3 * 300)
    assert codec.batch_of(sizes) == count
    assert codec.fits(300)
    assert not codec.fits(301)


def test_a_codec_that_fails_as_a_whole_raises_our_error(codec: ImageCodec) -> None:
    class Failing:
        def decode(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("Internal error\nCode: 3")

    working, codec._decoder = codec._decoder, Failing()
    try:
        with pytest.raises(BackendError, match=r"nvImageCodec: Internal error"):
            codec.decode([encoded(jpegs.plain())])
    finally:
        codec._decoder = working
    assert len(pixels_of(codec, [encoded(jpegs.plain())])) == 1


def test_a_codec_with_other_pixels_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """As red and blue exchanged by a later version would be."""
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    library = load_codec_library()

    class Swapped:
        shape, dtype, capacity = (240, 328, 3), np.uint8, 0

        def __init__(self, image: Any) -> None:
            self._image = image

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            return np.asarray(self._image)[..., ::-1]

    class Decoder:
        def __init__(self, **arguments: Any) -> None:
            self._decoder = library.Decoder(**arguments)

        def decode(self, streams: Any, **arguments: Any) -> list[Any]:
            return [Swapped(image) for image in self._decoder.decode(streams, **arguments)]

    class Library:
        def __getattr__(self, name: str) -> Any:
            return Decoder if name == "Decoder" else getattr(library, name)

    monkeypatch.setattr(image_codec, "load_codec_library", Library)
    with pytest.raises(BackendError, match=r"differ from OpenCV's by \d+ levels"):
        ImageCodec(None)


def test_without_a_gpu_its_backends_are_refused_with_the_remedy(capfd: pytest.CaptureFixture[str]) -> None:
    """The library itself says so, of a device that is not there."""
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    from glass_rt.machine.cuda_driver import cuda_devices

    if cuda_devices():
        pytest.skip("this machine has a GPU")
    gpu = FakeGpu()
    with pytest.raises(
        BackendError, match=r"decodes no JPEGs on this device \(HW_GPU_ONLY: .*HYBRID.*glass-rt\[decode\]"
    ):
        ImageCodec(gpu)
    assert gpu.live == {}
    assert gpu.closed
    assert capfd.readouterr().err == "", "what the library writes is the log's"


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(MissingDependency, match=r"glass-rt\[decode\]"):
        ImageCodec(None)


def test_the_library_is_quiet_and_imported_by_opening_alone() -> None:
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    code = (
        "import sys; from glass_rt.backends.cuda.image_codec import ImageCodec\n"
        "print('nvidia' in sys.modules); ImageCodec(None); print('nvidia.nvimgcodec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert done.stderr == ""


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_gpu_gives_nearly_the_pixels_of_the_cpu(in_memory: bool) -> None:
    """Where there is one: on an H100 they differed by 1 level at most, by the kernels without its engine by 3."""
    pytest.importorskip("nvidia.nvimgcodec", reason="nvImageCodec is not installed")
    from glass_rt.machine.cuda_driver import cuda_devices

    if not cuda_devices():
        pytest.skip("there is no NVIDIA GPU here")
    gpu = open_gpu(0)
    there = ImageCodec(gpu, 0, in_memory=in_memory)
    files = [jpegs.READ[name]() for name in jpegs.READ]
    for image, data in zip(there.decode([encoded(data) for data in files]), files, strict=True):
        assert image is not None
        expected = load(data).pixels.astype(int)
        pixels = image.pixels
        if isinstance(pixels, DevicePixels):
            pixels = copied(gpu, pixels)
        assert np.abs(pixels.astype(int) - expected).max() <= 6  # as NVIDIA's own tests allow
        there.release(image)
    there.close()


def copied(gpu: GpuDriver, pixels: DevicePixels) -> NDArray[np.uint8]:
    height, width, channels = pixels.shape
    with gpu.current():
        stream, pinned = gpu.create_stream(), gpu.allocate_pinned(height * width * channels)
        gpu.copy_out(pinned.array, pixels.address, stream)
        gpu.synchronize(stream)
        found = np.array(pinned.array).reshape(height, width, channels)
        gpu.free(pinned)
        gpu.destroy_stream(stream)
    return found
