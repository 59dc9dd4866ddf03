"""What recovery makes of images of the media: each is recovered once, or not at all where another answered alike."""

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
    """Observations of images that programs from one start have left; may be shared by all that explore them."""

    def __init__(self, plan: Plan, *, sharing: bool = True) -> None:
        self._plan = plan
        self._kept: Mapping[str, Any] | None = None  # not known yet
        self._sharing = sharing
        self._keys: dict[Key, None] = {}  # all that were ever asked for, and so are read of each image
        self._observations: AnswerTree[Observation] = AnswerTree(self._observe, sharing=sharing)
        self._reopened: AnswerTree[Reopened] = AnswerTree(self._reopen, sharing=sharing)
        self._run_count_before = 0
        self.begun_count = 0  # recoveries of any kind, the one under way included

    @property
    def run_count(self) -> int:
        """How often recovery from a crash was run."""
        return self._run_count_before + self._observations.run_count

    def keep(self, kept: Mapping[str, Any]) -> None:
        """What is kept across a crash; must be plain and always the same. Raises `SpecError`."""
        if self._kept is None:
            check_kept(kept)
            self._kept = dict(kept)
        elif kept != self._kept:
            raise SpecError("cannot be exhausted: world.kept is not the same after every program")

    def observation(self, image: Image, keys: Collection[Key]) -> Observation:
        """What recovery makes of the image, these keys and perhaps others read.

        Raises `SpecError` if it is not deterministic.
        """
        if not self._keys.keys() >= set(keys):
            self._keys.update(dict.fromkeys(keys))
            self._run_count_before = self.run_count
            self._observations = AnswerTree(self._observe, sharing=self._sharing)  # more is read after it than before
        try:
            return self._observations.result(image)
        except AskedOtherwiseError:
            raise SpecError("cannot be exhausted: recovery asks otherwise after the same answers") from None

    def _observe(self, image: Image, new_medium: NewMedium) -> Observation:
        self.begun_count += 1
        observation = observe(self._plan, image, self._kept or {}, list(self._keys), new_medium)
        if observation.left is not None:
            compare_reopened(observation, self._reopened.result(observation.left))
            observation.left = None  # not needed any more, and large
        return observation

    def _reopen(self, image: Image, new_medium: NewMedium) -> Reopened:
        self.begun_count += 1
        return reopen(self._plan, image, self._kept or {}, new_medium)
