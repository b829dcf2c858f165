"""The NumPy head computes what the authors' PyTorch modules compute, one image at a time."""

import numpy as np
import pytest
import torch
from glass_export.untrained import untrained_tensor
from numpy.typing import NDArray

from glass_rt.bundle.manifest import Model, Weights
from glass_rt.errors import BundleInvalid
from glass_rt.inference.head import Head, head_shapes

DIM = 48


def model(architecture: str = "glass") -> Model:
    return Model(
        name="tiny",
        architecture=architecture,
        backbone="tiny",
        embedding_dim=DIM,
        classes=("fake", "real"),
        crop_size=224,
        trained_crops=4,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        weights=Weights("test", "0" * 64, trained=False),
    )


def parameters(architecture: str = "glass") -> dict[str, NDArray[np.float32]]:
    return {name: untrained_tensor(name, shape).numpy() for name, shape in head_shapes(architecture, DIM).items()}


def torch_head(global_embedding: torch.Tensor, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and attention by PyTorch's own layers, as GLASS.md words them."""
    attention = torch.nn.Sequential(
        torch.nn.Linear(DIM, 128), torch.nn.Tanh(), torch.nn.Dropout(), torch.nn.Linear(128, 1)
    ).eval()
    classifier = torch.nn.Sequential(
        torch.nn.LayerNorm(2 * DIM), torch.nn.Dropout(), torch.nn.Linear(2 * DIM, 2)
    ).eval()
    values = {name: torch.from_numpy(value) for name, value in parameters().items()}
    attention.load_state_dict({n.removeprefix("attention."): v for n, v in values.items() if n.startswith("attention")})
    classifier.load_state_dict(
        {n.removeprefix("classifier."): v for n, v in values.items() if n.startswith("classifier")}
    )
    with torch.no_grad():
        weights = torch.softmax(attention(local).squeeze(-1), dim=0)
        pooled = (weights[:, None] * local).sum(dim=0)
        return classifier(torch.cat([global_embedding, pooled])[None])[0], weights


@pytest.mark.parametrize("crops", [1, 2, 10, 300])
def test_the_head_equals_torch_and_effects_are_leave_one_out(crops: int) -> None:
    random = np.random.default_rng(crops)
    global_embedding = random.standard_normal(DIM, dtype=np.float32)
    local = 3 * random.standard_normal((crops, DIM), dtype=np.float32)
    output = Head.for_model(model(), parameters()).judge(global_embedding, local)
    logits, attention = torch_head(torch.from_numpy(global_embedding), torch.from_numpy(local))
    np.testing.assert_allclose(output.logits, logits.numpy(), atol=2e-6)
    np.testing.assert_allclose(output.attention, attention.numpy(), atol=2e-6)
    np.testing.assert_allclose(output.probabilities, torch.softmax(logits, dim=0).numpy(), atol=2e-6)
    for k in range(min(crops, 5)):
        if crops == 1:
            assert np.isnan(output.without[k]).all()
            continue
        others = torch.from_numpy(np.delete(local, k, axis=0))
        expected = torch.softmax(torch_head(torch.from_numpy(global_embedding), others)[0], dim=0)
        np.testing.assert_allclose(output.without[k], expected.numpy(), atol=2e-6)


def test_a_crop_that_takes_all_the_attention_still_has_an_effect() -> None:
    random = np.random.default_rng(0)
    values = parameters()
    values["attention.3.weight"] *= 500  # one score towers over the others
    local = random.standard_normal((4, DIM), dtype=np.float32)
    output = Head.for_model(model(), values).judge(random.standard_normal(DIM, dtype=np.float32), local)
    assert output.attention.max() > 0.999
    assert np.isfinite(output.without).all()


def test_the_resize_only_head_is_a_linear_layer() -> None:
    values = parameters("resize")
    embedding = np.random.default_rng(0).standard_normal(DIM, dtype=np.float32)
    output = Head.for_model(model("resize"), values).judge(embedding, np.empty((0, DIM), np.float32))
    np.testing.assert_allclose(
        output.logits, values["classifier.weight"] @ embedding + values["classifier.bias"], rtol=1e-5
    )
    assert len(output.attention) == 0


@pytest.mark.parametrize("name", ["attention.3.bias", "classifier.2.weight"])
def test_a_head_that_does_not_fit_is_refused_by_name(name: str) -> None:
    values = parameters()
    del values[name]
    with pytest.raises(BundleInvalid, match=f"{name} is missing"):
        Head.for_model(model(), values)
    values[name] = np.zeros((3, 3), np.float32)
    with pytest.raises(BundleInvalid, match=rf"{name} is \(3, 3\) float32"):
        Head.for_model(model(), values)
