"""Compiled models of OpenVINO, kept from one opening to the next.

Opening an engine spends most of its time on transforming the graph. What is kept is the transformed graph without its
weights, a megabyte or two: those stay the bundle's, compared with its manifest each time, so that what lies in a cache
decides no more than a layout. A model belongs to the engine's content, the library's version, the processor and the
properties that it was compiled with.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from glass_rt.backends.mapped_weights import MAPPINGS, LibraryMapping
from glass_rt.bundle.checked_files import EngineFile
from glass_rt.machine.cache_files import keep_newest, places_for, read_cached, write_cached
from glass_rt.machine.environment import cpu_fingerprint

SUFFIX = ".compiled"
FOLDER = "compiled"  # in the user's cache
MOST_BYTES = 32 << 20  # of one model; those of ViT-B/16 have two million
MOST_FILES = 32  # in one folder, the newest ones
# OpenVINO then writes and reads where a weight lies, in place of the weight.
_WEIGHTLESS = {"ENABLE_WEIGHTLESS": True, "CACHE_MODE": "OPTIMIZE_SIZE"}

log = logging.getLogger("glass_rt")


class CompiledModels:
    """The compiled model of one engine in the cache: read, or kept once it was compiled."""

    def __init__(self, core: Any, version: str, engine: EngineFile, properties: Mapping[str, Any]) -> None:
        self._core, self._engine = core, engine
        self._properties = {**properties, **_WEIGHTLESS}
        self._places = _places(engine, version, self._properties)

    @staticmethod
    def supported(core: Any, engine: EngineFile) -> bool:
        """Whether this engine's models can be kept: it is a bundle's, and OpenVINO does without weights in them."""
        known = core.get_property("CPU", "SUPPORTED_PROPERTIES")
        return engine.files is not None and {"ENABLE_WEIGHTLESS", "WEIGHTS_PATH"} <= set(known)

    def open(self) -> tuple[Any, LibraryMapping] | None:
        """The compiled model and its weights, as OpenVINO has mapped them; None where there is none that it takes.

        Raises BundleInvalid where the engine's weights were altered.
        """
        data = read_cached(self._places, MOST_BYTES)
        if data is None:
            return None
        with closing(self._engine.open(".bin")) as weights:
            if weights.library_path is None:
                return None
            try:
                # A stream, which is copied: of memory that is shared, OpenVINO would read on after it is gone.
                with MAPPINGS:
                    model = self._core.import_model(
                        io.BytesIO(data), "CPU", {**self._properties, "WEIGHTS_PATH": weights.library_path}
                    )
            except (RuntimeError, ValueError) as error:
                log.info("a compiled model in the cache is of no use, and made again: %s", error)
                return None
            return model, LibraryMapping(weights)

    def compile(self, model: Any) -> Any:
        """Compiles a model as it is read from the bundle, and keeps it. Raises what OpenVINO raises."""
        compiled = self._core.compile_model(model, "CPU", self._properties)
        with suppress(RuntimeError, MemoryError):  # without it the next opening takes longer
            self._keep(compiled)
        return compiled

    def _keep(self, compiled: Any) -> None:
        stream = io.BytesIO()
        compiled.export_model(stream)
        data = stream.getvalue()
        if len(data) > MOST_BYTES:
            return
        place = write_cached(data, self._places)
        if place is not None:
            keep_newest(place.parent, SUFFIX, MOST_FILES)


def _places(engine: EngineFile, version: str, properties: Mapping[str, Any]) -> tuple[Path, ...]:
    key = {
        "graph": engine.sha256(),
        "weights": engine.sha256(".bin"),
        "openvino": version,
        "cpu": cpu_fingerprint(),
        "properties": properties,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    name = f"{engine.path.stem}-{digest[:32]}{SUFFIX}"
    return places_for(engine.path.parent, name, (FOLDER, name), pinned=engine.pinned)
