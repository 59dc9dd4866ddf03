"""The spec of the disk in a file, on a kernel whose calls may be short, and fail.

A key is a byte of the disk, since a crash may leave any mixture of what was written to a sector. A page has two sectors
of two bytes. The caller says which fault a call meets, the seam how short each system call is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from harness import (
    Choose,
    Configuration,
    Crash,
    Durability,
    Generator,
    Operation,
    Spec,
    ViolationError,
    World,
    keys_from,
    sampled,
)
from refmodel.file_disk import REFUSED, FileDiskModel
from shardstore.errors import ConfigurationError, DiskError
from shardstore.file_disk import LABEL_SIZE_BYTES, FileDisk
from shardstore.spec_kernel import PATH, Fault, Kernel, media
from shardstore.spec_world import violations

EXTENT_COUNT, EXTENT_SIZE_PAGES, PAGE_SIZE_BYTES = 2, 3, 4
EXTENT_SIZE_BYTES = EXTENT_SIZE_PAGES * PAGE_SIZE_BYTES
SIZE_BYTES = EXTENT_COUNT * EXTENT_SIZE_BYTES
PAGES_MAX = 2


class Place(NamedTuple):
    """Some pages of an extent."""

    extent: int
    page: int
    page_count: int

    @property
    def start(self) -> int:
        return self.extent * EXTENT_SIZE_BYTES + self.page * PAGE_SIZE_BYTES

    @property
    def size(self) -> int:
        return self.page_count * PAGE_SIZE_BYTES


class Passed:
    """Whether a barrier has passed: the dependency of what was written before it."""

    state = "pending"

    def is_persistent(self) -> bool:
        return self.state == "persistent"

    def is_failed(self) -> bool:
        return self.state == "failed"


class CheckedFileDisk:
    """A `FileDisk` that tells of every refusal, and opens as a store does: with a barrier."""

    def __init__(self, world: World) -> None:
        self.kernel = Kernel(world)
        if "made" in world.kept:
            self._disk = FileDisk.open(PATH, calls=self.kernel)
            self._disk.barrier()
        else:  # what is made is there after any crash
            self._disk = FileDisk.create(
                PATH,
                extent_count=EXTENT_COUNT,
                extent_size_pages=EXTENT_SIZE_PAGES,
                page_size_bytes=PAGE_SIZE_BYTES,
                preallocate=world.configuration.parameters,
                calls=self.kernel,
            )
            world.kept["made"] = True
        self._next = Passed()  # of what is written from here on
        self._contents: bytes | None = None

    def read(self, place: Place, fault: Fault | None) -> bytes | str:
        try:
            with self._meeting(fault):
                return self._disk.read(*place)
        except OSError:
            return REFUSED

    def write(self, place: Place, letter: int, fault: Fault | None) -> tuple[str | None, Passed]:
        self._contents = None
        try:
            with self._meeting(fault):
                self._disk.write(place.extent, place.page, _data(place, letter))
        except OSError:
            return REFUSED, self._next
        return None, self._next

    def barrier(self, fault: Fault | None) -> str | None:
        before, self._next = self._next, Passed()
        try:
            with self._meeting(fault):
                self._disk.barrier()
        except OSError:
            before.state = "failed"
            return REFUSED
        before.state = "persistent"
        return None

    def reopen(self) -> tuple[bytes, Passed]:
        """Close the disk, use it all the same, and open it again."""
        before, self._contents = self._next, None
        self._disk.close()
        self.kernel.open_other_file()
        self._disk.close()
        self._must_refuse("DISK-4, closed")
        self.kernel.close_other_files()
        self._disk = FileDisk.open(PATH, calls=self.kernel)
        self._disk.barrier()
        before.state = "persistent"
        self._next, passed = Passed(), Passed()
        passed.state = "persistent"
        return self.contents(), passed

    def use_in_child(self) -> None:
        self.kernel.fork()
        self._must_refuse("DISK-4, in a child")
        self.kernel.end_child()

    def open_twice(self) -> str:
        try:
            FileDisk.open(PATH, calls=self.kernel).close()
        except DiskError:
            return REFUSED
        return "opened"

    def open_absent(self) -> str:
        try:
            FileDisk.open("elsewhere", calls=self.kernel).close()
        except DiskError:
            return REFUSED
        return "opened"

    def create_again(self, extent_count: int) -> str:
        """Make a disk where one is, or of a size that none has."""
        try:
            FileDisk.create(
                PATH, extent_count=extent_count, extent_size_pages=1, page_size_bytes=1, calls=self.kernel
            ).close()
        except FileExistsError:
            return "exists"
        except ConfigurationError:
            return REFUSED
        return "created"

    def contents(self) -> bytes:
        if self._contents is None:
            extents = [self._disk.read(extent, 0, EXTENT_SIZE_PAGES) for extent in range(EXTENT_COUNT)]
            self._contents = b"".join(extents)
        return self._contents

    def byte(self, at: int) -> int:
        return self.contents()[at]

    @contextmanager
    def _meeting(self, fault: Fault | None) -> Iterator[None]:
        self.kernel.fault = fault
        try:
            yield
        finally:
            self.kernel.fault = None

    def _must_refuse(self, place: str) -> None:
        page = bytes(PAGE_SIZE_BYTES)
        uses: dict[str, Callable[[], object]] = {
            "read": lambda: self._disk.read(0, 0, 1),
            "write": lambda: self._disk.write(0, 0, page),
            "barrier": lambda: self._disk.barrier(),
        }
        for name, use in uses.items():
            try:
                use()
            except OSError:
                continue
            raise ViolationError(place, f"{name} was done", "OSError")


class CheckedModel:
    """The disk's model, with the calls of the system."""

    def __init__(self) -> None:
        self._model = FileDiskModel(SIZE_BYTES)
        self.settle = self._model.settle
        self.byte = self._model.byte
        self.reopened = self._model.reopened

    def read(self, place: Place, fault: Fault | None) -> bytes | str:
        return REFUSED if fault else self._model.read(place.start, place.size)

    def write(self, place: Place, letter: int, fault: Fault | None) -> str | None:
        return self._model.write(place.start, _data(place, letter), fault.after_bytes if fault else place.size)

    def barrier(self, fault: Fault | None) -> str | None:
        return self._model.barrier(fault is not None)

    def reopen(self, held: bytes) -> None:
        with violations():
            self._model.reopen(held)

    def use_in_child(self) -> None:
        """It changes nothing."""

    def open_twice(self) -> str:
        return REFUSED

    def open_absent(self) -> str:
        return REFUSED

    def create_again(self, extent_count: int) -> str:
        return "exists" if 0 < extent_count < 1 << 32 else REFUSED

    def contents(self) -> bytes:
        return self._model.read(0, SIZE_BYTES)


def _data(place: Place, letter: int) -> bytes:
    """No two bytes that lie near one another are equal, nor the same byte of two neighbouring letters."""
    return bytes([ord("a") + (letter + at * 7) % 26 for at in range(place.size)])


def _places() -> list[Place]:
    """Single pages first, since they are the simplest."""
    return [
        Place(extent, page, page_count)
        for page_count in range(1, PAGES_MAX + 1)
        for extent in range(EXTENT_COUNT)
        for page in range(EXTENT_SIZE_PAGES - page_count + 1)
    ]


def letters(choose: Choose, name: str) -> int:
    return choose(name, 26)


def _bytes_of(place: Place) -> list[list[int]]:
    """By itself each byte that is written: a crash may take any of them, and leave the others."""
    return [[at] for at in range(place.start, place.start + place.size)]


def one_descriptor(system: CheckedFileDisk, _: CheckedModel) -> None:
    if system.kernel.open_files() != ("file",) or not system.kernel.is_locked():
        raise ViolationError("DISK-4, descriptors", system.kernel.open_files(), "the file, open once and locked")


places: Generator = sampled(_places())
# A fault comes within the smallest write there is, so that every one is met.
write_faults: Generator = keys_from(
    (None, *(Fault(after, kind) for after in (0, 1, 3) for kind in ("ENOSPC", "EIO", "EINTR", "takes nothing"))), (24,)
)
read_faults: Generator = keys_from(
    (None, *(Fault(after, kind) for after in (0, 3) for kind in ("EIO", "EINTR", "takes nothing"))), (18,)
)
barrier_faults: Generator = keys_from((None, Fault(0, "EIO"), Fault(0, "ENOSPC")), (10,))


def _configuration(name: str, preallocate: bool) -> Configuration:
    return Configuration(name, media(LABEL_SIZE_BYTES + SIZE_BYTES), preallocate)


SPEC = Spec(
    "file disk",
    system=CheckedFileDisk,
    model=CheckedModel,
    operations=[
        Operation("read", place=places, fault=read_faults, weight=4),
        Operation(
            "write",
            place=places,
            letter=letters,
            fault=write_faults,
            weight=8,
            writes=lambda args, _: _bytes_of(args["place"]),
        ),
        Operation("barrier", fault=barrier_faults, weight=4),
        Operation("reopen", adopts=True, writes=lambda *_: [[at] for at in range(SIZE_BYTES)], weight=2),
        Operation("use_in_child"),
        Operation("open_twice"),
        Operation("open_absent"),
        Operation("create_again", extent_count=sampled((1, 0, -1, 1 << 32))),
        Crash(),
    ],
    configurations=(_configuration("preallocated", True), _configuration("sparse", False)),
    contents=lambda subject: subject.contents(),
    durability=Durability(
        read=lambda subject, at: subject.byte(at),
        settle=lambda model, at, byte: model.settle(at, byte),
    ),
    invariants=[one_descriptor],
    step_seconds_max=2.0,
)
