r"""The answer tree: runs a function on images of the media, and shares one result between images that answer it alike.

    ask for page 0 of extent 0 --- these bytes ---> ask for the length of extent 3 --- 2 pages ---> ... ---> result
                               \--- others -------> ask for page 1 of extent 0 --- ...

The function is deterministic and knows of an image only the bytes that it has read. So its first question is the same
for all images, and each further question depends on the answers before. The questions make a tree, which grows run by
run. If an image's own bytes lead to a result in the tree, then a run on that image would give the same result. Reading
back bytes that the run itself has written is no question.

This is right under two conditions. First, the function reaches the media through a device's methods alone, and keeps
nothing outside its world. Any system that a crash can strike does so. Second, it asks the same questions after the same
answers. The tree checks this wherever the ways of two images part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from harness.spec.device import Entry, MediumShape
from harness.world.legal_images import Image
from harness.world.medium import SimulatedMedium
from harness.world.power import DevicePosition
from harness.world.world import NewMedium

LEAVES_MAX: Final = 300_000  # results kept in memory; when there are more, the tree is begun anew

Question = tuple[int, int, int, int]  # medium, extent, first byte, byte after the last; _LENGTH: the extent's length
_LENGTH: Final = -1

Result = TypeVar("Result")


class AskedOtherwiseError(Exception):
    """Two runs got the same answers but went on with different questions."""


def answer(image: Image, question: Question) -> object:
    medium, extent, start, end = question
    content = image[medium][extent]
    return len(content) if start == _LENGTH else content[start:end]


class AskedMedium(SimulatedMedium):
    """A medium that holds an image, and notes in ``asked`` each question that is asked of the image."""

    __slots__ = ("_asked", "_emptied", "_own_pages")

    def __init__(self, shape: MediumShape, index: int, position: DevicePosition, asked: dict[Question, None]) -> None:
        super().__init__(shape, index, position)
        self._asked = asked
        self._own_pages: dict[int, set[int]] = {}  # by extent, the pages that the run itself has written
        self._emptied: set[int] = set()  # extents that the run has reset, so that they hold nothing of the image

    def read(self, extent: int, page: int, page_count: int) -> bytes:
        if extent not in self._emptied and self._is_in_range(extent, page):
            size = self.page_size_bytes
            own = self._own_pages.get(extent)
            if own is None:
                self._asked[self.index, extent, page * size, (page + page_count) * size] = None
            else:
                for each in range(page, page + page_count):
                    if each not in own:
                        self._asked[self.index, extent, each * size, (each + 1) * size] = None
        return super().read(extent, page, page_count)

    def write(self, extent: int, page: int, data: bytes) -> None:
        if self.zoned:  # whether the device takes the write depends on the write pointer
            self._ask_length(extent)
        super().write(extent, page, data)
        self._own_pages.setdefault(extent, set()).update(range(page, page + len(data) // self.page_size_bytes))

    def reset(self, extent: int) -> None:
        super().reset(extent)
        if self.shape.device.emptied(b"") is not None:  # else the device keeps the image's bytes
            self._emptied.add(extent)

    def write_pointer(self, extent: int) -> int:
        self._ask_length(extent)
        return super().write_pointer(extent)

    def _ask_length(self, extent: int) -> None:
        if extent not in self._emptied and self._is_in_range(extent, 0):
            self._asked[self.index, extent, _LENGTH, _LENGTH] = None

    def _is_in_range(self, extent: int, page: int) -> bool:
        return 0 <= extent < self.extent_count and page >= 0  # else the call is refused, whatever the image

    def _succeed(self, extents: list[bytes], log: list[Entry]) -> AskedMedium:
        self.kill()
        medium = AskedMedium(self.shape, self.index, self._position, self._asked)
        medium._extents, medium._log = extents, log
        medium._own_pages, medium._emptied = self._own_pages, self._emptied
        return medium


class _Branch(Generic[Result]):
    __slots__ = ("question", "ways")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.ways: dict[object, _Branch[Result] | _Leaf[Result]] = {}


class _Leaf(Generic[Result]):
    __slots__ = ("result",)

    def __init__(self, result: Result) -> None:
        self.result = result


class AnswerTree(Generic[Result]):
    """Gives results of ``run``, a function of an image and of a function that makes the media for it.

    ``run_count`` is how often ``run`` was called. Without ``sharing``, each image is run.
    """

    def __init__(self, run: Callable[[Image, NewMedium], Result], *, sharing: bool = True) -> None:
        self._run = run
        self._sharing = sharing
        self._root: dict[object, _Branch[Result] | _Leaf[Result]] = {}  # under None
        self._leaf_count = 0
        self.run_count = 0

    def result(self, image: Image) -> Result:
        """The result for an image. Raises `AskedOtherwiseError` if ``run`` is not deterministic, and its own errors."""
        leaf = self._follow(image) if self._sharing else None
        return leaf.result if leaf is not None else self._run_on(image)

    def _follow(self, image: Image) -> _Leaf[Result] | None:
        place = self._root.get(None)
        while type(place) is _Branch:
            medium, extent, start, end = place.question
            content = image[medium][extent]
            place = place.ways.get(len(content) if start == _LENGTH else content[start:end])
        return place  # type: ignore[return-value]  # a leaf or None

    def _run_on(self, image: Image) -> Result:
        asked: dict[Question, None] = {}
        result = self._run(image, lambda shape, index, position: AskedMedium(shape, index, position, asked))
        self.run_count += 1
        if self._leaf_count >= LEAVES_MAX:
            self._root, self._leaf_count = {}, 0
        self._leaf_count += 1
        self._add(image, asked, _Leaf(result))
        return result

    def _add(self, image: Image, asked: dict[Question, None], leaf: _Leaf[Result]) -> None:
        ways, way = self._root, None
        for question in asked:
            place = ways.get(way)
            if place is None:
                place = ways[way] = _Branch(question)
            if not isinstance(place, _Branch) or place.question != question:
                raise AskedOtherwiseError
            ways, way = place.ways, answer(image, question)
        if isinstance(ways.get(way), _Branch):
            raise AskedOtherwiseError
        ways[way] = leaf
