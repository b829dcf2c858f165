"""The deterministic weight rule behind the golden outputs: a tensor's values depend on its name and shape alone."""

import zlib
import numpy as np


def golden_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value of the parameter or buffer `name` (float32, `shape`) of a golden checkpoint."""
    noise = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape, dtype=np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_mean":
        return 0.1 * noise
    if leaf == "running_var":
        return 1 + 0.1 * np.abs(noise)
    if leaf == "layer_scale":
        return 0.1 + 0.02 * noise
    if leaf in ("class_token", "pos_embedding") or (leaf.endswith("bias")):
        return 0.02 * noise
    if len(shape) == 1:  # weight of a normalisation layer
        return 1 + 0.1 * noise
    fan_in = int(np.prod(shape[1:]))
    scaled: np.ndarray = noise * np.float32(np.sqrt(1.5 / fan_in))
    return scaled
