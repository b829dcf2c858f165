"""From an image to its verdict: views, packs, engines and the head."""
