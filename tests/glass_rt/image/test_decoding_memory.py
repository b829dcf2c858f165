"""What decoders hold at most is counted before they start, and the budget of all decoding threads relies on it."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from glass_bench.sample import landscape

from glass_rt.image.encoded import read_image
from glass_rt.image.header import read_header

pytestmark = pytest.mark.slow

SIZE = 3000  # 9 megapixels: 27 MB of pixels
BESIDE = 4 << 20  # bytes: code of the decoder that is loaded when it is used first, and what depends on no size
MEASURE = """
import sys
from pathlib import Path
import numpy as np
from glass_rt.image.encoded import load
from glass_rt.machine.malloc import give_back_large_arrays

def status_kb(name):
    return next(int(l.split()[1]) for l in Path("/proc/self/status").open() if l.startswith(name))

give_back_large_arrays()
data = Path(sys.argv[1]).read_bytes()
load(np.zeros((8, 8, 3), np.uint8))
before = status_kb("VmRSS")
load(data)
print((status_kb("VmHWM") - before) * 1024)
"""


@pytest.fixture(scope="module")
def picture() -> PIL.Image.Image:
    return PIL.Image.fromarray(landscape(500, 500, seed=3)).resize((SIZE, SIZE))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),  # most coefficients
        ("JPEG", "CMYK", {"progressive": True, "subsampling": 0}),
        ("PNG", "RGB", {"compress_level": 1}),
        ("PNG", "RGBA", {"compress_level": 1}),
        ("PNG", "P", {"compress_level": 1}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("WEBP", "RGB", {"method": 0}),
        ("WEBP", "RGBA", {"lossless": True, "method": 0}),
        ("GIF", "P", {}),
        ("AVIF", "RGB", {"speed": 10}),
        ("AVIF", "RGBA", {"speed": 10, "subsampling": "4:4:4"}),
        ("TIFF", "RGBA", {}),
        ("TIFF", "RGB", {"compression": "lzma"}),
        ("HEIC", "RGB", {}),
        ("HEIC", "RGB", {"chroma": 444}),
        ("HEIC", "RGBA", {"chroma": 444}),
    ],
)
def test_no_decoder_holds_more_than_is_counted(
    picture: PIL.Image.Image, tmp_path: Path, form: str, mode: str, options: dict[str, Any]
) -> None:
    data = io.BytesIO()
    if form == "HEIC":
        fast = {"preset": "veryfast"}  # the decoder holds what it holds of the default preset, to 0.01 bytes a pixel
        pytest.importorskip("pillow_heif").from_pillow(picture.convert(mode)).save(data, enc_params=fast, **options)
    else:
        picture.convert(mode).save(data, form, **options)
    path = tmp_path / "image"
    path.write_bytes(data.getvalue())
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= read_image(data.getvalue()).peak_bytes + BESIDE


def test_arrays_and_files_count_beside_their_pixels(picture: PIL.Image.Image) -> None:
    assert read_image(np.zeros((4, 5, 3), np.uint8)).peak_bytes == 60
    plain, progressive = io.BytesIO(), io.BytesIO()
    picture.save(plain, "JPEG")
    picture.save(progressive, "JPEG", progressive=True)
    assert not read_header(plain.getvalue()).progressive
    assert read_header(progressive.getvalue()).progressive
    assert read_image(plain.getvalue()).peak_bytes >= len(plain.getvalue()) + 3 * SIZE * SIZE
    assert read_image(progressive.getvalue()).peak_bytes >= len(progressive.getvalue()) + 9 * SIZE * SIZE
