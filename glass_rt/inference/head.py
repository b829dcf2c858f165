"""The head: attention pooling over the crops of one image, and the classifier. NumPy, float32.

The crops of many images share the engine's batches, but each image is pooled on its own: the head costs
microseconds, and this way no image's numbers depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from glass_rt.backends.base import Floats
from glass_rt.bundle.manifest import Model
from glass_rt.errors import BundleInvalid

LAYER_NORM_EPSILON = np.float32(1e-5)


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What the head says of one image.

    `logits` float32 (2,), `probabilities` float32 (2,) in the order of the model's classes; `attention` float32 (K,),
    sums to 1; `without` float32 (K, 2): the probabilities had crop k not been there (K = 1: NaN, nothing is left).
    """

    logits: Floats
    probabilities: Floats
    attention: Floats
    without: Floats


@dataclass(frozen=True, eq=False)
class Head:
    """The parameters by their names in the authors' checkpoint; `attention.*` only for the GLASS architecture."""

    parameters: Mapping[str, Floats]
    attentive: bool

    @classmethod
    def for_model(cls, model: Model, parameters: Mapping[str, Floats]) -> Head:
        """Checks names and shapes; raises BundleInvalid by name."""
        attentive = model.architecture == "glass"
        for name, shape in head_shapes(model.architecture, model.embedding_dim, parameters).items():
            found = parameters.get(name)
            if found is None or found.shape != shape or found.dtype != np.float32:
                got = "missing" if found is None else f"{found.shape} {found.dtype}"
                raise BundleInvalid(f"head: {name} is {got}; expected {shape} float32")
        return cls(parameters, attentive)

    def judge(self, global_embedding: Floats, local_embeddings: Floats) -> HeadOutput:
        """One image: embeddings float32 (D,) and (K, D); K = 0 for the resize-only architecture."""
        if not self.attentive:
            logits = self._linear("classifier", global_embedding[None])
            nothing = np.empty(0, np.float32)
            return HeadOutput(logits[0], softmax(logits)[0], nothing, nothing.reshape(0, 2))
        scores = self._attention_scores(local_embeddings)
        attention = softmax(scores)
        logits = self._classify(global_embedding, attention[None] @ local_embeddings)
        without = softmax(self._classify(global_embedding, _leave_one_out(scores) @ local_embeddings))
        if len(scores) == 1:
            without = np.full_like(without, np.nan)
        return HeadOutput(logits[0], softmax(logits)[0], attention, without)

    def _attention_scores(self, local: Floats) -> Floats:
        hidden = np.tanh(self._linear("attention.0", local))  # (K, 128)
        return self._linear("attention.3", hidden)[:, 0]  # (K,)

    def _classify(self, global_embedding: Floats, pooled: Floats) -> Floats:
        """`pooled` (R, D): R ways to pool the same image's crops -> logits (R, 2)."""
        repeated = np.broadcast_to(global_embedding, pooled.shape)
        joined = np.concatenate([repeated, pooled], axis=1)  # (R, 2D)
        centred = joined - joined.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        normal = centred / np.sqrt(variance + LAYER_NORM_EPSILON)
        normal = normal * self.parameters["classifier.0.weight"] + self.parameters["classifier.0.bias"]
        return self._linear("classifier.2", normal)

    def _linear(self, name: str, rows: Floats) -> Floats:
        result: Floats = rows @ self.parameters[f"{name}.weight"].T + self.parameters[f"{name}.bias"]
        return result


def head_shapes(
    architecture: str, dim: int, parameters: Mapping[str, Floats] | None = None
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the head's parameters for embeddings of `dim` numbers.

    The hidden size of the attention is 128 in the authors' code; given `parameters`, it is read from them.
    """
    if architecture == "resize":
        return {"classifier.weight": (2, dim), "classifier.bias": (2,)}
    first = None if parameters is None else parameters.get("attention.0.weight")
    hidden = 128 if first is None or first.ndim != 2 else first.shape[0]
    return {
        "attention.0.weight": (hidden, dim),
        "attention.0.bias": (hidden,),
        "attention.3.weight": (1, hidden),
        "attention.3.bias": (1,),
        "classifier.0.weight": (2 * dim,),
        "classifier.0.bias": (2 * dim,),
        "classifier.2.weight": (2, 2 * dim),
        "classifier.2.bias": (2,),
    }


def mean_of_draws(outputs: Sequence[HeadOutput]) -> HeadOutput:
    """Independent samplings of one image as one output: the mean of logits and of probabilities.

    Attention is divided by the number of draws, so that it sums to 1 over all crops, and `without` stays what the
    mean probability would be without that crop.
    """
    if len(outputs) == 1:
        return outputs[0]
    probabilities: Floats = np.stack([output.probabilities for output in outputs]).mean(axis=0)
    logits: Floats = np.stack([output.logits for output in outputs]).mean(axis=0)
    share = np.float32(1 / len(outputs))
    return HeadOutput(
        logits,
        probabilities,
        np.concatenate([share * output.attention for output in outputs]),
        np.concatenate([probabilities + share * (o.without - o.probabilities) for o in outputs]),
    )


def softmax(scores: Floats) -> Floats:
    """Softmax over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def _leave_one_out(scores: Floats) -> Floats:
    """(K,) -> (K, K): row k is the attention over the crops other than k."""
    masked = np.repeat(scores[None], len(scores), axis=0)
    if len(scores) > 1:
        np.fill_diagonal(masked, -np.inf)
    return softmax(masked)
