"""Data sets as Minari keeps them: observations and actions as texts, and in `infos` what else a data set has.

An episode of T decisions has T + 1 observations, and `infos` of that length:

    actions     the menu at each observation, as a JSON list of texts
    task, task_id, agent, success     of the episode, at each observation; no `success` where nobody knows
    duration    primitive steps of the decision before; 0 at the first observation

The metadata of the dataset hold under "llmrl" what the schema of a Parquet file does, and those of an episode hold the
hash of its rows. A dataset that somebody else made needs texts, `actions`, and an end of each episode.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.data.dataset import Builder, DataError, DataSet

PREFIX = "minari:"
FORMAT = 1
HASH = "llmrl_content"  # of an episode's rows, in its metadata


def minari_name(path: Path) -> str | None:
    """The dataset that `minari:NAME` means; None for a file."""
    text = str(path)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def minari_folder(name: str) -> Path:
    """Where the dataset lies or would lie: in MINARI_DATASETS_PATH, or ~/.minari/datasets. Raises DataError."""
    _load_minari(name)
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.storage import get_dataset_path

    try:
        parse_dataset_id(name)
    except (TypeError, ValueError):  # the first where it has no version
        raise DataError(f"{PREFIX}{name}: a name is [NAMESPACE/]NAME-vNUMBER, as in {PREFIX}llmrl/tomato-v0") from None
    return Path(get_dataset_path(name))


def write_minari(name: str, data: DataSet) -> None:
    """Publishes the dataset whole, after it was read back and found to have the same rows. Raises DataError."""
    folder = minari_folder(name)
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.namespace import create_namespace, list_local_namespaces

    if folder.exists():
        raise DataError(f"{PREFIX}{name} is there already, in {folder}: name another one, such as the next version")
    _refuse_zeros(name, data)
    namespace = parse_dataset_id(name)[0]
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write(temporary / "data", name, data)
        _read(temporary / "data", f"{PREFIX}{name}")
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_minari(name: str) -> DataSet:
    """The whole dataset, checked. Raises DataError, naming the episode, its row, and what is wrong or missing."""
    folder = minari_folder(name)
    if not (folder / "data").is_dir():
        raise DataError(f"{PREFIX}{name}: there is no {folder}; `minari download {name}` gets a published one")
    return _read(folder / "data", f"{PREFIX}{name}")


def _load_minari(name: str) -> Any:
    try:
        import minari
    except ModuleNotFoundError as error:
        raise DataError(
            f"{PREFIX}{name} needs packages that are not installed ({error.name}): pip install -e '.[minari]' in a "
            "checkout, or pip install 'llmrl[minari]'"
        ) from None
    return minari


def _refuse_zeros(name: str, data: DataSet) -> None:
    if not any("\0" in text for text in data.texts):
        return
    for row in data.rows():
        for key, value in row.items():
            if "\0" in (value if isinstance(value, str) else "".join(value) if isinstance(value, list) else ""):
                raise DataError(
                    f"{PREFIX}{name}, episode {row['episode']}: its {key} holds a character of code 0, which HDF5, the "
                    "format of Minari, cannot hold in a text"
                )


def _write(folder: Path, name: str, data: DataSet) -> None:
    from minari import __version__
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    episodes = [list(data.rows(first, last)) for first, last in _bounds(data)]
    storage = MinariStorage.new(
        folder,
        observation_space=_space([t for rows in episodes for t in _observations(rows)]),
        action_space=_space([row["action"] for rows in episodes for row in rows]),
    )
    agents = sorted({rows[0]["agent"] for rows in episodes} - {""})
    storage.update_metadata(
        {
            "dataset_id": name,
            "minari_version": __version__,
            "description": "Episodes in texts, written by llmrl; infos hold the menu of actions at each observation.",
            "llmrl": {**data.about, "format": FORMAT, "content": data.content()},
            **({"algorithm_name": ", ".join(agents)} if agents else {}),
        }
    )
    storage.update_episodes(
        EpisodeBuffer(
            observations=_observations(rows),
            actions=[row["action"] for row in rows],
            rewards=[row["reward"] for row in rows],
            terminations=[row["terminated"] for row in rows],
            truncations=[row["truncated"] for row in rows],
            infos=_infos(rows),
        )
        for rows in episodes
    )
    storage.update_episode_metadata([{HASH: _build(rows, "").content()} for rows in episodes])


def _bounds(data: DataSet) -> Iterator[tuple[int, int]]:
    starts = data.starts.tolist()
    yield from zip(starts, [*starts[1:], len(data)], strict=True)


def _observations(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [*(row["observation"] for row in rows), rows[-1]["next_observation"]]


def _infos(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    menus = [*(row["actions"] for row in rows), rows[-1]["next_actions"]]
    infos: dict[str, list[Any]] = {"actions": [json.dumps(menu, ensure_ascii=False) for menu in menus]}
    infos |= {key: [rows[0][key]] * len(menus) for key in ("task", "task_id", "agent")}
    if rows[0]["success"] is not None:
        infos["success"] = [rows[0]["success"]] * len(menus)
    return infos | {"duration": [0, *(row["duration"] for row in rows)]}


def _space(texts: Sequence[str]) -> Any:
    """The smallest Text space that has all of them."""
    from gymnasium.spaces import Text

    lengths = [len(text) for text in texts]
    return Text(max(lengths), min_length=min(lengths), charset="".join(sorted(set().union(*texts))))


def _build(rows: Sequence[Mapping[str, Any]], where: str) -> DataSet:
    """One episode alone. Raises DataError."""
    builder = Builder(where)
    for row in rows:
        builder.add({**row, "episode": 0})
    return builder.done({})


def _read(folder: Path, where: str) -> DataSet:
    from minari import MinariDataset

    try:
        found = MinariDataset(folder)
        about = found.storage.metadata.get("llmrl") or {"imported": where}
        spaces = {"observations": found.observation_space, "actions": found.action_space}
        _refuse_spaces(spaces, where)
        total = Builder(where)
        kept = found.storage.get_episode_metadata(found.episode_indices)
        for number, (episode, noted) in enumerate(zip(found.iterate_episodes(), kept, strict=True)):
            own = f"{where}, episode {number}"
            rows = _rows(episode, own)
            content = _build(rows, own).content()
            if noted.get(HASH, content) != content:
                raise DataError(f"{own}: its rows are not those that were written (their hash is another)")
            for row in rows:
                total.add({**row, "episode": number})
    except DataError:
        raise
    except Exception as error:  # whatever Minari and HDF5 make of files that are torn, or of another version
        raise DataError(f"{where} cannot be read ({type(error).__name__}: {' '.join(str(error).split())})") from None
    if about.get("format", FORMAT) != FORMAT:
        raise DataError(f"{where} has format {about['format']}, and this llmrl reads format {FORMAT}")
    data = total.done({key: value for key, value in about.items() if key not in ("format", "content")})
    if about.get("content", "") not in ("", data.content()):
        raise DataError(f"{where}: its episodes are not those that were written: some are missing, or in another order")
    return data


def _refuse_spaces(spaces: Mapping[str, Any], where: str) -> None:
    from gymnasium.spaces import Text

    for name, space in spaces.items():
        if not isinstance(space, Text):
            raise DataError(f"{where}: its {name} are {space}, and a data set has texts: they have to be a Text space")


def _rows(episode: Any, where: str) -> list[dict[str, Any]]:
    infos = episode.infos or {}
    if "actions" not in infos:
        raise DataError(
            f"{where}: its infos have no `actions`, the menu at each observation as a JSON list of texts; they have "
            f"{', '.join(sorted(infos)) or 'nothing'}"
        )
    steps = len(episode.rewards)
    if not steps or len(episode.observations) != steps + 1:
        seen = len(episode.observations)
        raise DataError(f"{where}: it has {steps} rewards and {seen} observations, and needs one more than rewards")
    menus = [_menu(value, f"{where}, observation {at}") for at, value in enumerate(infos["actions"])]
    menus += [[]] * (steps + 1 - len(menus) if len(menus) == steps else 0)  # where none was noted at the end
    texts = {key: _per_step(infos, key, steps, where) for key in ("task", "task_id", "agent")}
    durations = infos.get("duration", np.ones(steps + 1, dtype=int))
    for name, values in (("actions", menus), ("duration", durations)):
        if len(values) != steps + 1:
            raise DataError(f"{where}: its infos have {len(values)} `{name}`, and it has {steps + 1} observations")
    known = len(infos.get("success", ()))
    success = bool(infos["success"][-1]) if known else None
    return [
        {
            "episode": 0, "task": texts["task"][t], "observation": str(episode.observations[t]), "actions": menus[t],
            "action": str(episode.actions[t]), "reward": float(episode.rewards[t]), "duration": int(durations[t + 1]),
            "terminated": bool(episode.terminations[t]), "truncated": bool(episode.truncations[t]),
            "next_observation": str(episode.observations[t + 1]), "next_actions": menus[t + 1], "success": success,
            "task_id": texts["task_id"][t], "agent": texts["agent"][t],
        }
        for t in range(steps)
    ]  # fmt: skip


def _per_step(infos: Mapping[str, Any], key: str, steps: int, where: str) -> list[str]:
    values = [_text(value) for value in infos.get(key, [""] * steps)]
    if len(values) < steps:
        raise DataError(f"{where}: its infos have {len(values)} `{key}`, and it has {steps} decisions")
    return values


def _menu(value: Any, where: str) -> list[str]:
    if isinstance(value, list | tuple | np.ndarray):
        return [_text(each) for each in value]
    try:
        menu = json.loads(_text(value))
    except ValueError:
        menu = None
    if not isinstance(menu, list) or not all(isinstance(each, str) for each in menu):
        raise DataError(f"{where}: its `actions` are {_text(value)!r:.60}, and have to be a JSON list of texts")
    return menu


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
