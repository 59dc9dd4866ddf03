"""Recoveries: observes images of the media, each once, or not at all if another image answered alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.search.answer_tree import AnswerTree, AskedOtherwiseError
from harness.search.observation import Observation, Reopened, check_kept, compare_reopened, observe, reopen
from harness.spec.plan import Plan, SpecError
from harness.spec.spec import Key
from harness.world.legal_images import Image
from harness.world.world import NewMedium


class Recoveries:
    """Observations of the images that programs from one start leave. All explorations of that start may share them."""

    def __init__(self, plan: Plan, *, sharing: bool = True) -> None:
        self._plan = plan
        self._kept: Mapping[str, Any] | None = None  # not known yet
        self._sharing = sharing
        self._keys: dict[Key, None] = {}  # all keys ever asked for; each is read of each image
        self._observations: AnswerTree[Observation] = AnswerTree(self._observe, sharing=sharing)
        self._reopened: AnswerTree[Reopened] = AnswerTree(self._reopen, sharing=sharing)
        self._run_count_before = 0
        self.begun_count = 0  # recoveries of any kind, the one under way included

    @property
    def run_count(self) -> int:
        """How often recovery from a crash was run."""
        return self._run_count_before + self._observations.run_count

    def keep(self, kept: Mapping[str, Any]) -> None:
        """Note what the world keeps across a crash. Raises `SpecError` unless it is plain and always the same."""
        if self._kept is None:
            check_kept(kept)
            self._kept = dict(kept)
        elif kept != self._kept:
            raise SpecError("cannot be exhausted: world.kept is not the same after every program")

    def observation(self, image: Image, keys: Collection[Key]) -> Observation:
        """Recover on the image and read these keys, perhaps also others.

        Raises `SpecError` if recovery is not deterministic.
        """
        if not self._keys.keys() >= set(keys):
            self._keys.update(dict.fromkeys(keys))
            self._run_count_before = self.run_count
            # A new tree: with more keys to read, the same answers lead to other questions.
            self._observations = AnswerTree(self._observe, sharing=self._sharing)
        try:
            return self._observations.result(image)
        except AskedOtherwiseError:
            raise SpecError("cannot be exhausted: recovery asks otherwise after the same answers") from None

    def _observe(self, image: Image, new_medium: NewMedium) -> Observation:
        self.begun_count += 1
        observation = observe(self._plan, image, self._kept or {}, list(self._keys), new_medium)
        if observation.left is not None:
            compare_reopened(observation, self._reopened.result(observation.left))
            observation.left = None  # large, and not needed any more
        return observation

    def _reopen(self, image: Image, new_medium: NewMedium) -> Reopened:
        self.begun_count += 1
        return reopen(self._plan, image, self._kept or {}, new_medium)
