"""A Triton model repository with a bundle in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from glass_rt.bundle.bundle import Bundle
from glass_rt.bundle.folder import MANIFEST, link_or_copy, staged
from glass_rt.serve.oip.protocol import VERSION, model_name
from glass_rt.serve.triton.config import ServingOptions, config_pbtxt
from glass_rt.serve.triton.readme import readme

CONFIG = "config.pbtxt"
_HERE = Path(__file__).parent


def write_model(bundle: Bundle, repository: Path, options: ServingOptions, *, force: bool = False) -> Path:
    """Adds a bundle to a model repository, as the folder of its model's name; returns that folder.

    The bundle goes along whole, without doubling it on disk where the file system allows. Raises BundleExists where
    the model is there already and `force` is not given, and BuildError where it cannot be written.
    """
    target = repository / model_name(bundle.manifest)
    with staged(target, force=force, mark=CONFIG) as folder:
        (folder / CONFIG).write_text(config_pbtxt(bundle, options), encoding="utf-8")
        (folder / "README.md").write_text(readme(bundle, options), encoding="utf-8")
        shutil.copyfile(_HERE / "canary.py", folder / "canary.py")
        version = folder / VERSION
        version.mkdir()
        shutil.copyfile(_HERE / "model.py", version / "model.py")
        for name in (MANIFEST, *bundle.manifest.files):
            link_or_copy(bundle.folder / name, version / "bundle" / name)
    return target
