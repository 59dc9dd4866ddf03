"""The spec of the sample store, on one small device and on one that fills up at once."""

from __future__ import annotations

from harness import Configuration, Crash, Durability, MediumShape, Operation, Reboot, Spec, WriteBack, keys, payloads
from harness.world.devices import ZONED
from samplestore.store import NoSpaceError, SampleStore


class Model:
    """What a store is: a dictionary."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self.entries[key] = value

    def delete(self, key: bytes) -> None:
        self.entries.pop(key, None)


def contents(subject: SampleStore | Model) -> dict[bytes, bytes]:
    return dict(subject.entries)


def read(subject: SampleStore | Model, key: bytes) -> bytes | None:
    return subject.entries.get(key)


def settle(model: Model, key: bytes, outcome: bytes | None) -> None:
    if outcome is None:
        model.entries.pop(key, None)
    else:
        model.entries[key] = outcome


SPEC = Spec(
    "sample",
    system=SampleStore,
    model=Model,
    operations=[
        Operation("get", key=keys),
        Operation("put", key=keys, value=payloads(16), weight=4, writes="key"),
        Operation("delete", key=keys, weight=2, writes="key"),
        WriteBack(weight=3),
        Reboot(),
        Crash(),
    ],
    configurations=[
        Configuration("small", (MediumShape(8, 16, 64, device=ZONED),)),
        Configuration("tiny", (MediumShape(2, 4, 64, device=ZONED),)),
    ],
    contents=contents,
    durability=Durability(read, settle),
    excuses=(NoSpaceError,),
)
