"""The model repository that `glass-rt triton` writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from glass_rt import Detector
from glass_rt.bundle.bundle import Bundle
from glass_rt.errors import BundleExists, UsageError
from glass_rt.serve.oip.description import CONFIG_TYPES
from glass_rt.serve.oip.protocol import INPUTS, OUTPUTS
from glass_rt.serve.triton.config import ServingOptions, config_pbtxt, instance_device
from glass_rt.serve.triton.repository import write_model
from tests.bench_zoo import write_bundle
from tests.support import Bundles, Cli


def parsed(text: str) -> Any:
    """A `config.pbtxt` as Triton reads it: by its own schema, which refuses unknown fields."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_configuration_is_one_by_tritons_schema(bundles: Bundles) -> None:
    bundle = bundles("mobilenet_v3_small")
    config = parsed(config_pbtxt(bundle, ServingOptions()))
    assert (config.name, config.backend, config.max_batch_size) == ("mobilenet_v3_small", "python", 16)
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 64
    (group,) = config.instance_group
    assert (group.kind, group.count) == (group.KIND_CPU, 1)
    assert {key: value.string_value for key, value in config.parameters.items()} == {"bundle_sha256": bundle.sha256}
    for written, tensors in ((config.input, INPUTS), (config.output, OUTPUTS)):
        types = [
            (tensor.name, model_config_pb2.DataType.Name(tensor.data_type), list(tensor.dims)) for tensor in written
        ]
        assert types == [(tensor.name, CONFIG_TYPES[tensor.datatype], list(tensor.shape[1:])) for tensor in tensors]
    assert [(tensor.optional, tensor.allow_ragged_batch) for tensor in config.input] == [(True, False), (True, True)]


def test_the_options_are_in_the_configuration(bundles: Bundles) -> None:
    odd = Path('/opt/a "quoted" \\ é')
    options = ServingOptions("cuda", instances=2, max_batch=4, queue=9, environment=odd)
    config = parsed(config_pbtxt(bundles("mobilenet_v3_small"), options))
    (group,) = config.instance_group
    assert (group.kind, group.count, config.max_batch_size) == (group.KIND_GPU, 2, 4)
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 9
    assert config.parameters["EXECUTION_ENV_PATH"].string_value == str(odd)


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"instances": 0}, {"max_batch": 0}, {"queue": 0}])
def test_options_that_cannot_be_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ServingOptions(**wrong)


@pytest.mark.parametrize(
    ("device", "group", "parameter", "told", "opened"),
    [
        ("cpu", ("KIND_CPU", []), None, ("CPU", "0"), "cpu"),
        ("cuda", ("KIND_GPU", []), None, ("GPU", "3"), "cuda:3"),  # an instance on each
        ("cuda:1", ("KIND_GPU", [1]), "cuda:1", ("GPU", "1"), "cuda:1"),
        ("cuda+cpu,use_tf32=1", ("KIND_GPU", []), "cuda+cpu,use_tf32=1", ("GPU", "2"), "cuda:2+cpu,use_tf32=1"),
        ("dml:1", ("KIND_CPU", []), "dml:1", ("CPU", "0"), "dml:1"),  # Triton's GPUs are NVIDIA's
        ('plugin:/opt/a "b".so', ("KIND_CPU", []), 'plugin:/opt/a "b".so', ("CPU", "0"), 'plugin:/opt/a "b".so'),
    ],
)
def test_an_instance_opens_the_bundle_on_the_device_that_was_asked_for(
    tmp_path: Path,
    device: str,
    group: tuple[str, list[int]],
    parameter: str | None,
    told: tuple[str, str],
    opened: str,
) -> None:
    config = parsed(config_pbtxt(Bundle.open(write_bundle(tmp_path / "zoo")), ServingOptions(device)))
    (found,) = config.instance_group
    assert (type(found).Kind.Name(found.kind), list(found.gpus)) == group
    parameters = {key: {"string_value": value.string_value} for key, value in config.parameters.items()}
    assert parameters.get("device", {}).get("string_value") == parameter
    assert instance_device({"parameters": parameters}, *told) == opened


def test_a_device_that_the_engines_cannot_run_on_is_refused(bundles: Bundles) -> None:
    bundle = bundles("mobilenet_v3_small")
    engine = replace(bundle.manifest.engine, backend="openvino")
    other = replace(bundle, manifest=replace(bundle.manifest, engine=engine))
    with pytest.raises(UsageError, match="openvino engines run on cpu only"):
        config_pbtxt(other, ServingOptions("cuda"))


def test_the_command_writes_a_model_that_carries_its_bundle(
    cli: Cli, bundles: Bundles, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    bundle, repository = bundles("mobilenet_v3_small"), tmp_path / "models"
    done = cli("triton", "--engine", bundle.folder, "--output", repository)
    assert (done.returncode, done.stdout) == (0, f"{repository / 'mobilenet_v3_small'}\n")
    assert (
        f"--model-repository={repository} --model-control-mode=explicit --load-model=mobilenet_v3_small" in done.stderr
    )
    folder = repository / "mobilenet_v3_small"
    assert {path.name for path in folder.iterdir()} == {"1", "README.md", "canary.py", "config.pbtxt"}
    assert {path.name for path in (folder / "1").iterdir()} == {"bundle", "model.py"}
    carried = Bundle.open(folder / "1" / "bundle", every_file=True)
    assert carried.sha256 == bundle.sha256
    with Detector.open(carried.folder) as there, Detector.open(bundle.folder) as here:
        assert there.detect(pictures[6]).probability_fake == here.detect(pictures[6]).probability_fake


def test_a_model_that_is_there_is_replaced_only_when_told(bundles: Bundles, tmp_path: Path) -> None:
    bundle = bundles("mobilenet_v3_small")
    folder = write_model(bundle, tmp_path, ServingOptions())
    with pytest.raises(BundleExists, match="exists already; --force replaces it"):
        write_model(bundle, tmp_path, ServingOptions(queue=3))
    write_model(bundle, tmp_path, ServingOptions(queue=3), force=True)
    assert "max_queue_size: 3" in (folder / "config.pbtxt").read_text()
    other = tmp_path / "elsewhere" / "mobilenet_v3_small"
    other.mkdir(parents=True)
    (other / "precious").touch()
    with pytest.raises(BundleExists, match=r"no config\.pbtxt"):
        write_model(bundle, other.parent, ServingOptions(), force=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_readme_is_of_this_model(bundles: Bundles, tmp_path: Path) -> None:
    text = (write_model(bundles("mobilenet_v3_small"), tmp_path, ServingOptions(queue=5)) / "README.md").read_text()
    for said in (
        "--load-model=mobilenet_v3_small",
        "glass-rt[cpu]",
        bundles("mobilenet_v3_small").sha256,
        "More than 5 waiting",
    ):
        assert said in text
    code = "\n".join(line[4:] for line in text.split("## Ask")[1].splitlines() if line.startswith("    "))
    compile(code, "README.md", "exec")
