"""Bundles and portable models: folders with a manifest, opened and checked before use."""
