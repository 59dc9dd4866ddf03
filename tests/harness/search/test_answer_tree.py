"""The tree of questions and answers: what shares a result, and what must not."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

import harness.search.answer_tree
from harness.search.answer_tree import AnswerTree, AskedOtherwiseError
from harness.spec.device import DeviceMisuseError, MediumShape
from harness.world.devices import FILE, ZONED
from harness.world.legal_images import Image
from harness.world.medium import SimulatedMedium
from harness.world.power import DevicePosition
from harness.world.world import NewMedium

PAGE = 4
SHAPES = {device.has_write_pointer: MediumShape(2, 4, PAGE, device) for device in (ZONED, FILE)}


def tree_of(read: Callable[[SimulatedMedium], Any], *, zoned: bool = True, sharing: bool = True) -> AnswerTree[Any]:
    def run(image: Image, new_medium: NewMedium) -> Any:
        medium = new_medium(SHAPES[zoned], 0, DevicePosition())
        medium.hold(image[0])
        return read(medium)

    return AnswerTree(run, sharing=sharing)


def image(*extents: bytes, zoned: bool = True) -> Image:
    return (tuple(extent if zoned else extent.ljust(4 * PAGE, b"\0") for extent in extents),)


def test_what_was_not_read_makes_no_difference() -> None:
    tree = tree_of(lambda medium: medium.read(0, 0, 1))
    assert tree.result(image(b"aaaabbbb", b"")) == b"aaaa"
    assert tree.result(image(b"aaaacccc", b"dddd")) == b"aaaa"
    assert tree.run_count == 1
    assert tree.result(image(b"xxxxbbbb", b"")) == b"xxxx"
    assert tree.run_count == 2


def test_what_is_read_may_depend_on_what_was_read() -> None:
    def follow(medium: SimulatedMedium) -> bytes:
        return medium.read(1, medium.read(0, 0, 1)[0], 1)

    tree = tree_of(follow)
    assert tree.result(image(b"\0\0\0\0", b"aaaabbbb")) == b"aaaa"
    assert tree.result(image(b"\1\0\0\0", b"aaaabbbb")) == b"bbbb"
    assert tree.result(image(b"\1\0\0\0", b"ccccbbbb")) == b"bbbb"
    assert tree.run_count == 2


def test_the_write_pointer_is_an_answer() -> None:
    tree = tree_of(lambda medium: medium.write_pointer(1))
    assert [tree.result(image(b"aaaa", content)) for content in (b"", b"bbbb", b"cccc")] == [0, 1, 1]
    assert tree.run_count == 2


def test_a_read_past_the_end_is_told_from_one_within() -> None:
    def is_there(medium: SimulatedMedium) -> bool:
        try:
            medium.read(0, 0, 2)
        except DeviceMisuseError:
            return False
        return True

    tree = tree_of(is_there)
    assert [tree.result(image(content, b"")) for content in (b"aaaa", b"aaaabbbb")] == [False, True]


def test_writing_at_the_pointer_asks_where_it_is() -> None:
    def is_empty(medium: SimulatedMedium) -> bool:
        try:
            medium.write(0, 0, b"new!")
        except DeviceMisuseError:
            return False
        return True

    tree = tree_of(is_empty)
    assert [tree.result(image(content, b"")) for content in (b"aaaa", b"", b"bbbb")] == [False, True, False]


@pytest.mark.parametrize("zoned", [True, False])
def test_what_was_overwritten_is_no_question(zoned: bool) -> None:
    def overwrite(medium: SimulatedMedium) -> bytes:
        if zoned:
            medium.reset(0)
        medium.write(0, 0, b"new!")
        return medium.read(0, 0, 1)

    tree = tree_of(overwrite, zoned=zoned)
    for content in (b"aaaabbbb", b"cccc", b""):
        assert tree.result(image(content, b"", zoned=zoned)) == b"new!"
    assert tree.run_count == 1


def test_a_page_beside_an_overwritten_one_is_a_question() -> None:
    def overwrite(medium: SimulatedMedium) -> bytes:
        medium.write(0, 1, b"new!")
        return medium.reopen().read(0, 0, 3)

    tree = tree_of(overwrite, zoned=False)
    for first, last in ((b"aaaa", b"zzzz"), (b"bbbb", b"zzzz"), (b"aaaa", b"yyyy")):
        assert tree.result(image(first + b"...." + last, b"", zoned=False)) == first + b"new!" + last
    assert tree.run_count == 3


def test_a_run_that_asks_otherwise_after_the_same_answers_is_refused() -> None:
    order = iter([0, 1, 1, 0])

    def moody(medium: SimulatedMedium) -> bytes:
        return medium.read(next(order), 0, 1) + medium.read(0, 1, 1)

    tree = tree_of(moody)
    tree.result(image(b"aaaabbbb", b"cccc"))
    with pytest.raises(AskedOtherwiseError):
        tree.result(image(b"xxxxbbbb", b"cccc"))


def test_a_run_that_stops_short_after_the_same_answers_is_refused() -> None:
    count = iter([2, 1])
    tree = tree_of(lambda medium: [medium.read(0, page, 1) for page in range(next(count))], sharing=False)
    tree.result(image(b"aaaabbbb", b""))
    with pytest.raises(AskedOtherwiseError):
        tree.result(image(b"aaaabbbb", b""))


@pytest.mark.parametrize("zoned", [True, False])
def test_results_are_those_of_running_on_each_image(zoned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wanderers that read, write and reset as what they have read so far tells them."""
    monkeypatch.setattr(harness.search.answer_tree, "LEAVES_MAX", 50)  # so that it is begun anew meanwhile

    def wander(medium: SimulatedMedium) -> tuple[bytes, ...]:
        seen: list[bytes] = []
        for _ in range(5):
            choose = Random(b"".join(seen))
            extent, page, act = choose.randrange(2), choose.randrange(4), choose.randrange(4)
            try:
                if act == 0:
                    medium.write(extent, page, b"new!")
                elif act == 1:
                    medium.reset(extent)
                elif act == 2 and zoned:
                    seen.append(bytes([medium.write_pointer(extent)]))
                else:
                    seen.append(medium.read(extent, page, 1 + choose.randrange(2)))
            except DeviceMisuseError as error:
                seen.append(error.kind.encode())
        return tuple(seen)

    rng = Random(7)
    shared, alone = tree_of(wander, zoned=zoned), tree_of(wander, zoned=zoned, sharing=False)
    for _ in range(500):
        extents = [bytes(rng.choices(b"ab", k=1)) * PAGE * rng.randrange(5) for _ in range(2)]
        each = image(*extents, zoned=zoned)
        assert shared.result(each) == alone.result(each)
    assert shared.run_count < alone.run_count / 2
