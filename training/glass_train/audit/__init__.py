"""Does an image's container give its label away? Asked before training, mended on request, asked again after it."""
