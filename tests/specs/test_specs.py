"""Every spec of the store as tests, of each mode and configuration: random scenarios, a state machine, whole programs.

Few of each: ``make check`` runs many more.
"""

from __future__ import annotations

from hypothesis import settings

from shardstore import (
    chunk_store_spec,
    costs_spec,
    damage_spec,
    extents_spec,
    file_disk_spec,
    forgery_spec,
    geometry_spec,
    index_spec,
    limits_spec,
    node_spec,
    store_spec,
    superblock_spec,
)

FEW = settings(max_examples=10, stateful_step_count=40)

TestSuperblock = superblock_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestExtents = extents_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestChunkStore = chunk_store_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestIndex = index_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestIndexOnFake = index_spec.ON_FAKE.as_test(scenarios=40, settings=FEW)
TestNode = node_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestTwoDisks = node_spec.TWO_DISKS.as_test(scenarios=100, settings=FEW)
TestLimits = limits_spec.LIMITS.as_test(scenarios=40, settings=FEW)
TestWide = limits_spec.WIDE.as_test(scenarios=20, settings=FEW)
TestForgery = forgery_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestDamage = damage_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestGeometry = geometry_spec.SPEC.as_test(scenarios=8, settings=settings(max_examples=2, stateful_step_count=3))
TestStore = store_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestCosts = costs_spec.SPEC.as_test(scenarios=40, settings=FEW)
TestFileDisk = file_disk_spec.SPEC.as_test(scenarios=40, settings=FEW)
