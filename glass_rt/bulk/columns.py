"""The column of a Parquet file that has the images: encoded images, paths to them, or structs of both.

Source: huggingface.co/docs/datasets, the feature `Image`: a struct of `bytes` and `path`, either of which may be null.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from glass_rt.bulk.arrow import pa, pc
from glass_rt.errors import UsageError

_USUAL = ("path", "bytes", "image")  # looked for in this order
_BYTES, _PATH = "bytes", "path"


@dataclass(frozen=True)
class Cell:
    """One row's image: encoded, or else by its path; both None where the row has none."""

    data: bytes | None
    path: str | None


@dataclass(frozen=True)
class ImageColumn:
    """A column by its name, `a.b` for one inside a struct, and the columns in it of its bytes and its paths."""

    name: str
    bytes: str | None
    path: str | None

    @property
    def leaves(self) -> list[str]:
        """What to read of a file."""
        return [name for name in (self.bytes, self.path) if name is not None]

    def cells(self, batch: pa.RecordBatch) -> Iterator[Cell]:
        """The cells of a batch that has `leaves`."""
        data, paths = (None if name is None else _field(batch, name) for name in (self.bytes, self.path))
        for row in range(batch.num_rows):
            yield Cell(
                None if data is None else data[row].as_py(),
                None if paths is None else paths[row].as_py(),
            )


def find_column(schema: pa.Schema, file: str, column: str | None) -> ImageColumn:
    """The column that `column` names; None: `path`, `bytes` or `image`, else the only struct of bytes and a path.

    Raises UsageError where there is none, or it holds other types than strings (paths), binaries (images) and structs
    with such fields `bytes` or `path`. What is a binary is an image, whatever the column's name.
    """
    name = _default(schema, file) if column is None else column
    kind = _type_of(schema, name)
    if kind is None:
        raise UsageError(f"{file} has no column {name}; it has {', '.join(schema.names)}. Name one with --column")
    found = _as_images(name, kind)
    if found is None:
        raise UsageError(
            f"{file}: column {name} holds {kind}; expected strings (paths), binaries (images), or a struct "
            "of bytes and path"
        )
    return found


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's strings: plain, large, view, or dictionary-encoded."""
    kind = _decoded(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's binaries of any length: plain, large, view, or dictionary-encoded."""
    kind = _decoded(kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _default(schema: pa.Schema, file: str) -> str:
    if usual := next((name for name in _USUAL if _type_of(schema, name) is not None), None):
        return usual
    images = list(_image_structs(schema))
    if len(images) == 1:
        return images[0]
    has = f"it has {', '.join(schema.names)}"
    if images:
        has = f"and more than one that holds images: {', '.join(images)}"
    raise UsageError(f"{file} has no column {' nor '.join(_USUAL)}; {has}. Name one with --column")


def _image_structs(fields: Any, above: str = "") -> Iterator[str]:
    """Names of the structs of bytes and a path, at any depth of structs."""
    for field in fields:
        if not pa.types.is_struct(field.type):
            continue
        if (found := _as_images(above + field.name, field.type)) is not None and len(found.leaves) == 2:
            yield found.name
        else:
            yield from _image_structs(field.type, f"{above}{field.name}.")


def _as_images(name: str, kind: pa.DataType) -> ImageColumn | None:
    if is_text(kind):
        return ImageColumn(name, None, name)
    if is_bytes(kind):
        return ImageColumn(name, name, None)
    if not pa.types.is_struct(kind):
        return None
    fields = {field.name: field.type for field in kind}
    data, path = fields.get(_BYTES), fields.get(_PATH)
    # a field of nulls alone has the type null
    bytes_name = f"{name}.{_BYTES}" if data is not None and (is_bytes(data) or pa.types.is_null(data)) else None
    path_name = f"{name}.{_PATH}" if path is not None and (is_text(path) or pa.types.is_null(path)) else None
    return ImageColumn(name, bytes_name, path_name) if bytes_name or path_name else None


def _decoded(kind: pa.DataType) -> pa.DataType:
    """The type of the values, without a dictionary or an extension around it."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _type_of(schema: pa.Schema, name: str) -> Any:
    """The type of a column, `a.b` for one inside a struct; None where there is none."""
    head, *rest = [name] if name in schema.names else name.split(".")
    kind = schema.field(head).type if head in schema.names else None
    for part in rest:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return kind


def _field(batch: pa.RecordBatch, name: str) -> Any:
    head, *rest = [name] if name in batch.schema.names else name.split(".")
    array = batch.column(head)
    for part in rest:
        array = pc.struct_field(array, part)
    return array
