"""Data sets in files, by their ending: .parquet (the published form), .jsonl (for people and other tools), .part (while
it is collected), and .pkl and .pt, two layouts of the released code of arXiv 2410.07927, which are only read.
minari:NAME stands for a dataset of Minari.

A .jsonl file has on its first line how the set came about, {"llmrl_data": 1, ...}, and then a row on each line. The
first line may say how many (`rows`): without it, nobody can tell a file that was cut between two episodes from a whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmrl.core.files import publish, to_json
from llmrl.data.dataset import Builder, DataError, DataSet
from llmrl.data.frames import read_frames
from llmrl.data.minari_sets import minari_folder, minari_name, read_minari, write_minari
from llmrl.data.paper_pickle import read_official
from llmrl.data.parquet import FORMAT, read_about, read_parquet, read_rows, write_parquet

READ = (".parquet", ".jsonl", ".part", ".pkl", ".pt")
WRITTEN = (".parquet", ".jsonl")


def read(path: Path, cut: int | None = None) -> DataSet:
    """The whole data set, checked. Raises DataError, naming file and row; nothing is loaded by half.

    `cut`: for .pkl, the decisions after which an episode was cut.
    """
    name = minari_name(path)
    if name is None:
        _refuse_ending(path, READ)
    if name is None and not path.is_file():
        raise DataError(f"{path}: there is no such file; `llmrl collect` makes one")
    if cut is not None and path.suffix != ".pkl":
        raise DataError(f"{path} says itself where its episodes end; --cut is for .pkl files")
    if name is not None:
        return read_minari(name)
    if path.suffix == ".parquet":
        return read_parquet(path)
    about: dict[str, Any]
    expected: Any = None
    if path.suffix == ".part":
        about, rows = read_frames(path)
    elif path.suffix == ".jsonl":
        about, rows = _read_jsonl(path)
        expected = about.pop("rows", None)
    else:
        about, rows = {"imported": path.name, "cut": cut}, read_official(path, cut)
    builder = Builder(str(path))
    for row in rows:
        builder.add(row)
    if expected is not None and len(builder) != expected:
        raise DataError(
            f"{path}, line 1: it says {expected!r} rows, and {len(builder):,} follow: the file was cut off "
            '(or changed on purpose: then correct "rows", or leave it out)'
        )
    return builder.done(about)


def write(path: Path, data: DataSet) -> None:
    """Publishes the data set whole. Raises DataError for another ending than .parquet and .jsonl."""
    if (name := minari_name(path)) is not None:
        write_minari(name, data)
        return
    _refuse_ending(path, WRITTEN)
    if path.suffix == ".parquet":
        write_parquet(path, data)
        return
    lines = [to_json({"llmrl_data": FORMAT, **data.about, "rows": len(data)}), *(_line(row) for row in data.rows())]
    publish(path, "\n".join(lines) + "\n")


def convert(source: Path, out: Path, cut: int | None = None) -> int:
    """Writes `source` in another form, and reads it back; returns how many transitions it has. Raises DataError."""
    if (name := minari_name(out)) is not None:
        minari_folder(name)  # refuses a name before anything is read
    else:
        _refuse_ending(out, WRITTEN)
        if out.exists():
            raise DataError(f"{out} is there already: name another file")
        if not out.parent.is_dir():
            raise DataError(f"{out}: there is no folder {out.parent}")
    data = read(source, cut)
    write(out, data)
    if name is None and read(out).content() != data.content():  # `write` has read back what is Minari's
        raise DataError(f"{out}: what was written is not what {source} holds; look at the disk, and convert again")
    return len(data)


def exists(path: Path) -> bool:
    """Whether there is such a file, or such a dataset of Minari. Raises DataError for a name that Minari has not."""
    name = minari_name(path)
    return path.is_file() if name is None else minari_folder(name).is_dir()


def content_of(path: Path) -> str:
    """The hash of a .parquet file's rows, as the file tells it; reading the rows holds it to that. Raises DataError."""
    _refuse_ending(path, (".parquet",))
    return str(read_about(path)["content"])


def world_of(path: Path) -> dict[str, Any] | None:
    """The settings of the world that a .parquet file was collected in; None for an imported one. Raises DataError."""
    _refuse_ending(path, (".parquet",))
    return read_about(path).get("env")


def rows_of(path: Path) -> int:
    """The number of rows of a .parquet file, from its header. Raises DataError."""
    _refuse_ending(path, (".parquet",))
    return read_rows(path)


def _refuse_ending(path: Path, endings: tuple[str, ...]) -> None:
    if path.suffix not in endings:
        convert = "; `llmrl data convert` makes one of another" if path.suffix in READ else ""
        other = ", or minari:NAME" if endings in (READ, WRITTEN) else ""
        raise DataError(f"{path}: expected a file that ends in {' or '.join(endings)}{other}{convert}")


def _line(row: dict[str, Any]) -> str:
    """A person reads the columns in their order."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def _read_jsonl(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    with path.open("rb") as file:
        first = file.readline()
    about = _object(path, first, "line 1")
    if about.pop("llmrl_data", None) != FORMAT:
        raise DataError(f'{path}, line 1: a data set begins with {{"llmrl_data": {FORMAT}}}')
    return about, _lines(path)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        file.readline()
        for number, line in enumerate(file):
            yield _object(path, line, f"row {number} (line {number + 2})")


def _object(path: Path, line: bytes, where: str) -> dict[str, Any]:
    try:
        if not line.endswith(b"\n"):
            raise ValueError("the line has no end: the file was cut off")
        value = json.loads(line)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, {where}: {error}") from None
    return value
