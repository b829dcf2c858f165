"""From labelled images to batches of views: parts, the order of an epoch, examples, the loader."""
