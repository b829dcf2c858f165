"""The files of a folder of faults, one a kind, that GLASS_RT_TEST_FAULTS names: what each gives."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from glass_rt.errors import ImageError
from glass_rt.image.encoded import load
from tests.fuzz.campaign import ROOT

FOLDER = os.environ.get("GLASS_RT_TEST_FAULTS", "")
pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="GLASS_RT_TEST_FAULTS names no folder"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
]
REFUSED = [
    ("item_vvc1.heic", "'vvc1', which is not read"),
    ("brand.heic", "cannot be decoded"),
    ("heic_syntaxerror.heic", "goes beyond what holds it"),
    ("bigtiff_offset.tif", "first directory"),
    ("png_chunk_len_7fffffff.png", "chunk of 2147483647 bytes"),
    ("tiff_dup_last_small.tif", "tag 256 twice"),
    ("avif_ispe_small.avif", "16000 x 12000 are coded"),
    ("jpeg_500_scans_196MP.jpg", "98.0 billion pixels"),
]
# Judged with Pillow's pixels, and these beginnings of notices.
JUDGED = [
    ("exif_bigtiff.png", ["EXIF cannot be read: "]),
    ("jpeg_exif_bigtiff_offset.jpg", ["EXIF cannot be read: "]),
    ("cutout.tif", ["transparency dropped"]),
    ("cutout.png", ["transparency dropped"]),
    ("first_frame_small.gif", []),
    ("frame_over_screen.gif", []),
    ("no_trailer.gif", ["the file ends early"]),
    ("no_IEND.png", ["the file ends early"]),
    ("acTL_zero_frames.png", []),
    ("sampling_1x3.jpg", []),
]
PEAK = """
import sys
from pathlib import Path
import numpy as np
from glass_rt.image.encoded import load
from tests.fuzz.child import reset_peak, status_bytes
from tests.fuzz.corpus import corpus
for sample in corpus():
    load(sample.data)
before = reset_peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load(path)
    except ValueError:
        pass
print(status_bytes("VmHWM") - before)
"""


@pytest.mark.parametrize(("name", "says"), REFUSED)
def test_is_refused_by_name(name: str, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load(Path(FOLDER) / name)


@pytest.mark.parametrize(("name", "notices"), JUDGED)
def test_is_judged_as_pillow_reads_it(name: str, notices: list[str]) -> None:
    image = load(Path(FOLDER) / name)
    with PIL.Image.open(Path(FOLDER) / name) as picture:
        assert np.abs(image.pixels.astype(int) - np.asarray(picture.convert("RGB"))).max() <= 1
    assert len(image.info.notices) == len(notices)
    assert all(found.startswith(begins) for found, begins in zip(image.info.notices, notices, strict=True))


def test_a_heic_turned_by_its_decoder_is_said_to_be_turned() -> None:
    pytest.importorskip("pillow_heif")
    assert load(Path(FOLDER) / "turned.heic").info.notices == ("EXIF orientation 6 applied by the decoder",)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_all_of_them_together_take_little_memory() -> None:
    command = [sys.executable, "-c", PEAK, FOLDER]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) < 32 << 20
