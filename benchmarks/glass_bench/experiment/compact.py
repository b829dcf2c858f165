"""A checkpoint of the experiment as a portable model of half the size, which computes the same.

python -m glass_bench.experiment.compact artefact.safetensors --crops 4 --output glass

The experiment's checkpoints hold tensors of several axes as float16. The export stage folds batch normalisation into
the convolutions, and the products need float32. Here the graph holds the two factors, float16 weights and a float32
scale per output channel, and multiplies them; every builder folds that product into the constant that it was.
Two of the three reference images are kept: views of 224 x 224 in float32 weigh more than a backbone's weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import onnx
from glass_export.portable import ExportOptions, export_portable
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from glass_bench.errors import BenchError
from glass_rt.bundle.bundle import HEAD, REFERENCE, PortableModel, load_tensors, save_tensors
from glass_rt.bundle.folder import link_or_copy, staged, write_manifest
from glass_rt.bundle.manifest import Model

REFERENCE_IMAGES = 2
BATCH_NORM_EPSILON = np.float32(1e-3)  # of torchvision's MobileNetV3
Arrays = Mapping[str, NDArray[np.generic]]


def compact_portable(checkpoint: Path, crops: int | None, target: Path, *, force: bool = False) -> PortableModel:
    """Exports a checkpoint of `mobilenet_v3_small` and writes its compact form to the folder `target`.

    Raises BenchError where a weight would not come out bit-equal, and what `export_portable` raises.
    """
    tensors: Arrays = load_file(checkpoint)
    with TemporaryDirectory(prefix="glass-rt-") as temporary:
        exported = export_portable(ExportOptions(weights=str(checkpoint), crops=crops), Path(temporary) / "model")
        with staged(target, force=force) as folder:
            link_or_copy(exported.folder / HEAD, folder / HEAD)
            save_tensors(folder / REFERENCE, first_images(load_tensors(exported.folder / REFERENCE), REFERENCE_IMAGES))
            for role in exported.model.roles:
                source = exported.graph("fp32", role)
                graph = onnx.load(source)
                narrow_weights(graph.graph, checkpoint_names(exported.model, role), tensors)
                drop_origins(graph.graph)
                onnx.checker.check_model(graph, full_check=True)
                onnx.save(graph, folder / source.name)
            write_manifest(folder, replace(exported.manifest, files={}))
    return PortableModel.open(target)


def checkpoint_names(model: Model, role: str) -> str:
    """What stands before a tensor's name in the checkpoint where the graph has `backbone.`."""
    return f"{role}_model." if model.architecture == "glass" else ""


def first_images(reference: Arrays, count: int) -> dict[str, NDArray[np.generic]]:
    """The reference values of the first `count` images, by the keys of `glass_export.reference`."""
    offsets = reference["offsets"][: count + 1]
    rows = {"crops": int(offsets[-1]), "local_embeddings": int(offsets[-1]), "offsets": count + 1}
    return {name: array[: rows.get(name, count)] for name, array in reference.items()}


def narrow_weights(graph: GraphProto, prefix: str, tensors: Arrays) -> None:
    """Replaces each weight of several axes that the checkpoint holds as float16 by its factors, in place."""
    nodes: list[NodeProto] = []
    for initializer in list(graph.initializer):
        name = prefix + initializer.name.removeprefix("backbone.")
        if name in tensors and tensors[name].dtype == np.float16:
            folded = numpy_helper.to_array(initializer)
            factors = weight_factors(tensors, name, folded)
            graph.initializer.remove(initializer)
            nodes += _product(graph, initializer.name, *factors)
    for number, node in enumerate(nodes):
        graph.node.insert(number, node)


def drop_origins(graph: GraphProto) -> None:
    """Removes what the tracer notes of nodes and values, in place: a seventh of the file, with paths of the disk."""
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.ClearField("doc_string")


def weight_factors(
    tensors: Arrays, name: str, folded: NDArray[np.float32]
) -> tuple[NDArray[np.generic], NDArray[np.float32] | None]:
    """The float16 weight `name`, and the scale that makes `folded` of it: float32 (O, 1, 1, 1), or None for 1.

    The arithmetic is the exporter's, so that the product is bit-equal; BenchError where it is not.
    """
    weight, norm = tensors[name], name.removesuffix("0.weight") + "1."
    scale: NDArray[np.float32] | None = None
    if f"{norm}running_var" in tensors:
        variance = tensors[f"{norm}running_var"].astype(np.float32)
        gain = tensors[f"{norm}weight"].astype(np.float32)
        scale = (gain / np.sqrt(variance + BATCH_NORM_EPSILON)).reshape(-1, 1, 1, 1)
    product = weight.astype(np.float32) * (np.float32(1) if scale is None else scale)
    if not np.array_equal(product, folded):
        raise BenchError(f"{name}: its float16 weights and its scale do not give the exported weights, bit by bit")
    return weight, scale


def _product(
    graph: GraphProto, name: str, weight: NDArray[np.generic], scale: NDArray[np.float32] | None
) -> Iterator[NodeProto]:
    """Nodes that compute the tensor `name` from the two factors, which become initializers."""
    graph.initializer.append(numpy_helper.from_array(weight, f"{name}.float16"))
    wide = name if scale is None else f"{name}.float32"
    yield helper.make_node("Cast", [f"{name}.float16"], [wide], to=TensorProto.FLOAT)
    if scale is not None:
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        yield helper.make_node("Mul", [wide, f"{name}.scale"], [name])


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@click.option("--crops", type=click.IntRange(1), help="K that a GLASS checkpoint was trained with.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace what is there.")
def main(checkpoint: Path, crops: int | None, output: Path, force: bool) -> None:
    """Export CHECKPOINT as a compact portable model."""
    portable = compact_portable(checkpoint, crops, output, force=force)
    size = sum(entry.size for entry in portable.manifest.files.values())
    click.echo(f"{output}: {portable.model.name}, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
