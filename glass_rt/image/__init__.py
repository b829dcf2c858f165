"""Images: decoding, the windows to look at, and the views that the engines see."""
