"""Campaigns: how the checks of several specs share the time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_store import CONFIGURATIONS, SPEC

from harness.fleet.budget import Budget
from harness.search.campaign import list_checks, slices
from harness.search.check import Sample
from harness.spec.loader import LoadedSpec
from harness.spec.plan import SpecError, compile_plan
from harness.spec.spec import Mode


def test_each_check_gets_its_spec_s_share_of_the_seconds() -> None:
    loaded = [LoadedSpec("a", SPEC), LoadedSpec("b", replace(SPEC, name="other", share=3))]
    jobs = list_checks(loaded, lambda spec: [Mode.CONFORMANCE], CONFIGURATIONS[0].name)
    parts = slices(jobs, Sample(), Budget(seconds=10.0, workers=2))
    seconds = {job.spec: sum(part.sample.seconds or 0.0 for part in parts if part.job is job) for job in jobs}
    assert seconds == {"toy": pytest.approx(5.0), "other": pytest.approx(15.0)}


def test_without_a_bound_on_time_there_is_nothing_to_share() -> None:
    jobs = list_checks([LoadedSpec("a", SPEC)], lambda spec: [Mode.CONFORMANCE], None)
    assert {part.sample.seconds for part in slices(jobs, Sample(scenarios=10), Budget(workers=2))} == {None}


def test_a_share_is_at_least_one() -> None:
    with pytest.raises(SpecError, match="share"):
        compile_plan(replace(SPEC, share=0), CONFIGURATIONS[0], Mode.CONFORMANCE)
