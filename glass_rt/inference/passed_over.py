"""Files in folders that look like images of kinds that are not read."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath

# What cameras store before they make an image of it. Many begin like a TIFF, and their first picture is a thumbnail.
_RAW = (
    ".3fr .ari .arw .bay .cap .cr2 .cr3 .crw .dcr .dcs .dng .drf .eip .erf .fff .gpr .iiq .k25 .kdc .mdc .mef .mos .mrw"
    " .nef .nrw .obm .orf .pef .ptx .pxn .r3d .raf .raw .rw2 .rwl .rwz .sr2 .srf .srw .x3f"
)
_OTHER = (
    ".ai .bpg .cin .clip .cur .dcm .dds .dib .djvu .dpx .emf .eps .exr .fits .flif .hdp .hdr .icns .ico .j2c .j2k .jls"
    " .jng .jp2 .jpc .jpf .jph .jpm .jpx .jxl .jxr .kra .mng .ora .pam .pbm .pcx .pfm .pgm .pict .pnm .ppm .psb .psd"
    " .qoi .ras .sgi .svg .svgz .tga .wbmp .wdp .wmf .xbm .xcf .xpm"
)
RAW_SUFFIXES = frozenset(_RAW.split())
OTHER_SUFFIXES = frozenset(_OTHER.split())


class PassedOver:
    """Counts them by suffix, and keeps the name of the first."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first = ""

    def __len__(self) -> int:
        return self._counts.total()

    def note(self, path: str) -> None:
        """One more, by its path or URI."""
        self._first = self._first or path
        self._counts[PurePath(path).suffix.lower()] += 1

    def remark(self) -> str:
        """One line for the end of a run."""
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in self._counts.most_common())
        files = "1 file was" if len(self) == 1 else f"{len(self)} files were"
        return (
            f"{files} passed over, images of kinds that are not read: {kinds} (first {self._first}); "
            "convert them to TIFF or PNG"
        )
