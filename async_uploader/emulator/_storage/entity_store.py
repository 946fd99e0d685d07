"""Small entities by their id, in memory and on disk: one JSON file each, replaced atomically."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from .data_directory import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .data_directory import DataDirectory
    from .workers import Workers


class Entity(Protocol):
    @property
    def entity_id(self) -> str: ...


E = TypeVar("E", bound=Entity)


class EntityStore(Generic[E]):
    """The entities of one kind, in the order of their creation.

    :param name: the name of their directory
    :param kind: their class
    """

    def __init__(self, name: str, kind: type[E], directory: DataDirectory, workers: Workers) -> None:
        self._name = name
        self._kind = kind
        self._directory = directory
        self._workers = workers
        self._entities: dict[str, E] = {}

    def __iter__(self) -> Iterator[E]:
        return iter(self._entities.values())

    def get(self, entity_id: str) -> E | None:
        return self._entities.get(entity_id)

    async def load(self) -> None:
        """Read the entities of an earlier emulator.

        :raises ValueError: one cannot be read
        """
        entities = await self._workers.run_small(self._read_all)
        self._entities = {entity.entity_id: entity for entity in entities}

    async def add(self, entity: E) -> None:
        path = self._path(entity)
        await self._workers.run_small(partial(path.parent.mkdir, exist_ok=True))
        await self._workers.run_small(replace_file, path, msgspec.json.encode(entity))
        self._entities[entity.entity_id] = entity

    async def delete(self, entity: E) -> None:
        del self._entities[entity.entity_id]
        await self._workers.run_small(partial(self._path(entity).unlink, missing_ok=True))

    async def clear(self) -> None:
        for entity in list(self):
            await self.delete(entity)

    def _path(self, entity: E) -> Path:
        return self._directory.root / self._name / f"{entity.entity_id}.json"

    def _read_all(self) -> list[E]:
        paths = (self._directory.root / self._name).glob("*.json")
        try:
            entities = [msgspec.json.decode(path.read_bytes(), type=self._kind) for path in paths]
        except (OSError, msgspec.MsgspecError) as error:
            raise ValueError(f"The data directory {self._directory.root} cannot be used: {error}.") from error
        return sorted(entities, key=lambda entity: (getattr(entity, "created_s", 0.0), entity.entity_id))
