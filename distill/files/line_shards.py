"""A file of JSON lines that is made shard by shard, so that a kill loses one shard at most.

folder/
  plan.json         what is being made and from what; written first
  00000.part ...    shards, until the file is whole
  NAME.jsonl        the shards one after the other
  manifest.json     the plan, counts and the file's checksum; written last: its existence means that the file is complete
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from distill.files.atomic import has_files, read_json, refuse_other_inputs, write_atomically, write_json
from distill.files.fingerprints import file_fingerprint
from distill.files.locks import lock_folder
from distill.records import BadInput

NEW_KEYS = ("teacher", "documents", "judgments")  # of a plan, which release 0.1 did not write


class LineShardWriter:
    """Writes such a folder; after a kill a new writer continues with the missing shards.

    Args:
        folder: to write.
        name: of the file, without its ending.
        plan: what is being made and from what.
        shards: number of shards.
        what: what the lines are, for messages.

    Raises:
        BadInput: the folder has another plan, or other files.
    """

    def __init__(self, folder: Path, name: str, plan: dict[str, Any], shards: int, what: str):
        self.folder, self.plan, self.shards = Path(folder), plan, shards
        self.file = self.folder / f"{name}.jsonl"
        plan_file = self.folder / "plan.json"
        had_files = has_files(self.folder)  # before the plan is looked for, as another rank may write it in between
        if plan_file.exists():
            before = read_json(plan_file, f"plan of {what}")
            refuse_other_inputs(self.folder, before, {key: plan[key] for key in plan if key in before or key not in NEW_KEYS})
        elif had_files:
            raise BadInput(f"{folder}: not a folder of {what} and not empty: choose another --out")
        if self.finished:
            self._remove_shards()  # a kill may have left some

    def claim(self, is_leader: bool = True) -> AbstractContextManager[Any]:
        """Writes the plan; the leader of the ranks also locks the folder against other jobs.

        Returns:
            The lock, for a `with` statement around all writing.
        """
        lock = lock_folder(self.folder) if is_leader else nullcontext()
        if not (self.folder / "plan.json").exists():
            write_json(self.folder / "plan.json", self.plan)
        return lock

    @property
    def finished(self) -> bool:
        """Whether the file is complete."""
        return (self.folder / "manifest.json").exists()

    def missing_shards(self) -> list[int]:
        """Numbers of the shards that are not written yet."""
        missing = [shard for shard in range(self.shards) if not self.shard_path(shard).exists()]
        # Asked after the shards were looked for: the leader removes them when the file is complete.
        return [] if self.finished else missing

    def write_shard(self, shard: int, lines: Iterable[str]) -> None:
        """Writes one whole shard; every line ends with a line end."""
        _write_lines(self.shard_path(shard), lines)

    def read_shards(self) -> Iterator[tuple[int, Iterator[str]]]:
        """Yields the number of every shard and its lines."""
        for shard in range(self.shards):
            with open(self.shard_path(shard), encoding="utf-8") as file:
                yield shard, file

    def write_file(self, lines: Iterable[str]) -> None:
        """Writes the whole file."""
        _write_lines(self.file, lines)

    def finish(self, results: dict[str, Any]) -> None:
        """Writes the manifest, `results` beside plan and checksum, and removes the shards."""
        write_json(self.folder / "manifest.json", {**self.plan, "checksum": file_fingerprint(self.file), **results})
        self._remove_shards()

    def shard_path(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.part"

    def _remove_shards(self) -> None:
        for path in self.folder.glob("[0-9]*.part*"):
            path.unlink(missing_ok=True)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with write_atomically(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(lines)
