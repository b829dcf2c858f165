"""What an image file says of itself before a pixel is decoded, one file a container; `read_header` tells them apart."""

from glass_rt.image.header.header import FORMATS, Frame, Header
from glass_rt.image.header.reader import looks_like_image, read_header

__all__ = ["FORMATS", "Frame", "Header", "looks_like_image", "read_header"]
