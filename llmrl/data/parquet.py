"""Data sets as Parquet files: any reader of Parquet shows the rows, with each text stored once in a column.

The columns are those of `llmrl.data.dataset`; texts are dictionary-encoded. The schema's metadata hold, under "llmrl",
JSON with `format` (1), `content` (the hash of the rows) and whatever tells how the set came about.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmrl.core.files import publish, to_json
from llmrl.data.dataset import COLUMNS, MENUS, NUMBERS, TEXTS, UNKNOWN, DataError, DataSet, check

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
_NAMED = (*TEXTS, "action")  # columns of texts


def write_parquet(path: Path, data: DataSet) -> None:
    """Publishes the file whole. Equal data sets give equal bytes with the same version of pyarrow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array(data.texts, pa.string())
    sizes = np.array([len(menu) for menu in data.menus])
    flat = np.concatenate([np.array(menu, dtype=np.int32) for menu in data.menus])
    first = np.append(0, np.cumsum(sizes))
    arrays = {}
    for name in COLUMNS:
        values = data[name]
        if name in MENUS:
            offsets = np.append(0, np.cumsum(sizes[values])).astype(np.int32)
            inner = np.concatenate([flat[first[m] : first[m + 1]] for m in values.tolist()])
            arrays[name] = pa.ListArray.from_arrays(offsets, _encode(pa, inner, texts))
        elif name in _NAMED:
            ids = flat[first[data["actions"]] + values] if name == "action" else values
            arrays[name] = _encode(pa, ids, texts)
        elif name == "success":
            arrays[name] = pa.array(values == 1, pa.bool_(), mask=values == UNKNOWN)
        else:
            arrays[name] = pa.array(values)
    about = {**data.about, "format": FORMAT, "content": data.content()}
    table = pa.table(arrays).replace_schema_metadata({"llmrl": to_json(about)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", dictionary_pagesize_limit=1 << 28, row_group_size=1 << 30,
                   write_page_checksum=True)  # fmt: skip
    publish(path, sink.getvalue())


def read_about(path: Path) -> dict[str, Any]:
    """The provenance of a data set, without a look at its rows. Raises DataError."""
    return _read_head(path)[0]


def read_rows(path: Path) -> int:
    """The number of rows of a data set, without a look at them. Raises DataError."""
    return _read_head(path)[1]


def _read_head(path: Path) -> tuple[dict[str, Any], int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        head = pq.read_metadata(path)
        metadata: Mapping[bytes, bytes] = head.schema.to_arrow_schema().metadata or {}
        about = json.loads(metadata[b"llmrl"])
        known = about["format"] == FORMAT and isinstance(about["content"], str)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; `llmrl collect` makes one") from None
    except (KeyError, TypeError):
        raise DataError(
            f"{path} is a Parquet file, but none of llmrl's: write its rows as .jsonl, which `llmrl data convert` reads"
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None
    if not known:
        raise DataError(f"{path} has format {about['format']}, and this llmrl reads format {FORMAT}")
    return dict(about), int(head.num_rows)


def read_parquet(path: Path) -> DataSet:
    """Raises DataError for a file that is torn, was changed since it was written, or holds what no data set holds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = read_about(path)
    nested = [f"{name}.list.element" for name in MENUS]
    try:
        table = pq.read_table(path, read_dictionary=[*_NAMED, *nested], page_checksum_verification=True)
        if missing := sorted(set(COLUMNS) - set(table.column_names)):
            raise DataError(f"{path} has no column {missing[0]}")
        data = _from_table(pa, table, {key: value for key, value in about.items() if key not in ("format", "content")})
    except (pa.ArrowException, OSError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    check(data, str(path))
    if data.content() != about["content"]:
        raise DataError(f"{path}: its rows are not those that were written (their hash is another): get it anew")
    return data


def _encode(pa: Any, ids: np.ndarray, texts: pyarrow.Array) -> pyarrow.Array:
    """A dictionary column of the texts that appear, in order of appearance."""
    kept, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(rank[inverse]), texts.take(pa.array(kept[order])))


def _from_table(pa: Any, table: pyarrow.Table, about: dict[str, Any]) -> DataSet:
    texts: dict[str, int] = {}
    menus: dict[bytes, int] = {}
    menu_texts: list[tuple[int, ...]] = []
    columns: dict[str, np.ndarray] = {}

    def numbers(array: Any) -> np.ndarray:
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if array.null_count or not pa.types.is_dictionary(array.type):
            raise ValueError(f"a column of texts holds {array.null_count} nulls, or no texts")
        own = np.array([texts.setdefault(text, len(texts)) for text in array.dictionary.to_pylist()], dtype=np.int32)
        indices = array.indices.to_numpy(zero_copy_only=False)
        return own[indices] if len(own) else np.zeros(0, dtype=np.int32)

    for name in MENUS:
        column = table[name].combine_chunks()
        if column.null_count:
            raise ValueError(f"{name} holds {column.null_count} nulls")
        offsets = column.offsets.to_numpy()
        inner = numbers(column.values)
        ids = np.empty(len(column), dtype=np.int32)
        for i, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            key = inner[start:end].tobytes()
            if key not in menus:
                menus[key] = len(menus)
                menu_texts.append(tuple(inner[start:end].tolist()))
            ids[i] = menus[key]
        columns[name] = ids
    for name in _NAMED:
        columns[name] = numbers(table[name])
    columns["action"] = _places(columns["actions"], columns["action"], menu_texts)
    for name, kind in NUMBERS.items():
        column = table[name]
        if column.null_count:
            raise ValueError(f"{name} holds {column.null_count} nulls")
        columns[name] = column.to_numpy().astype(kind, casting="same_kind")
    columns["success"] = table["success"].cast(pa.int8()).fill_null(UNKNOWN).to_numpy()
    if len({len(values) for values in columns.values()}) != 1:
        raise ValueError("its columns are of different lengths")
    return DataSet(list(texts), menu_texts, {name: columns[name] for name in COLUMNS}, about)


def _places(menu_N: np.ndarray, text_N: np.ndarray, menus: list[tuple[int, ...]]) -> np.ndarray:
    """The place of each text on its menu; UNKNOWN where the menu lacks it."""
    place = {(m, text): i for m, menu in enumerate(menus) for i, text in reversed(list(enumerate(menu)))}
    pairs = zip(menu_N.tolist(), text_N.tolist(), strict=True)
    return np.array([place.get(pair, UNKNOWN) for pair in pairs], dtype=np.int32)
