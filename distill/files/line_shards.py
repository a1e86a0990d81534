"""A file of JSON lines made a shard at a time.

folder/
  plan.json         what is being made and from what; written first
  00000.part ...    shards, until the whole is there
  NAME.jsonl        the shards one after the other
  manifest.json     the plan, counts and the file's checksum; written last: its existence means that the file is complete
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from distill.files.atomic import holds_files, read_json, refuse_other_inputs, write_atomically, write_json
from distill.files.fingerprints import file_fingerprint
from distill.files.locks import lock_folder
from distill.records import BadInput


class LinesWriter:
    """Writes such a folder; started again after a kill it goes on with the shards that are missing.

    Args:
        folder: to write.
        name: of the file, without its ending.
        plan: what is being made and from what; a folder with another plan is refused.
        shards: how many there are.
        what: they hold, for messages.
    """

    def __init__(self, folder: Path, name: str, plan: dict[str, Any], shards: int, what: str):
        self.folder, self.plan, self.shards = Path(folder), plan, shards
        self.file = self.folder / f"{name}.jsonl"
        path = self.folder / "plan.json"
        # looked for again after the folder was found not empty: another rank may be writing the plan right now
        if path.exists() or (holds_files(self.folder) and path.exists()):
            refuse_other_inputs(self.folder, read_json(path, f"plan of {what}"), plan)
        elif holds_files(self.folder):
            raise BadInput(f"{folder}: not a folder of {what} and not empty: choose another --out")
        if self.finished:
            self._tidy()  # a kill may have left some

    def begin(self, leads: bool = True) -> AbstractContextManager[Any]:
        """Takes the folder; who `leads` keeps other jobs out of it until what is returned is closed."""
        lock = lock_folder(self.folder) if leads else nullcontext()
        if not (self.folder / "plan.json").exists():
            write_json(self.folder / "plan.json", self.plan)
        return lock

    @property
    def finished(self) -> bool:
        return (self.folder / "manifest.json").exists()

    def missing(self) -> list[int]:
        missing = [shard for shard in range(self.shards) if not self.shard(shard).exists()]
        return [] if self.finished else missing  # asked last: the leader removes the shards once it is

    def write(self, shard: int, lines: Iterable[str]) -> None:
        """One whole shard; every line ends with a line end."""
        with write_atomically(self.shard(shard)) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(lines)

    def read(self) -> Iterator[tuple[int, Iterator[str]]]:
        """Every shard and its lines."""
        for shard in range(self.shards):
            with open(self.shard(shard), encoding="utf-8") as file:
                yield shard, file

    def join(self, lines: Iterable[str]) -> None:
        """Writes the whole file."""
        with write_atomically(self.file) as temporary, open(temporary, "w", encoding="utf-8") as whole:
            whole.writelines(lines)

    def finish(self, more: dict[str, Any]) -> None:
        """`more` goes into the manifest beside plan and checksum; the shards are removed."""
        write_json(self.folder / "manifest.json", {**self.plan, "checksum": file_fingerprint(self.file), **more})
        self._tidy()

    def _tidy(self) -> None:
        for path in self.folder.glob("[0-9]*.part*"):
            path.unlink(missing_ok=True)

    def shard(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.part"
