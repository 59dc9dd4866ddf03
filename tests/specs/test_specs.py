"""Every spec of the store, as Hypothesis tests: a state machine and whole programs, in each mode and configuration."""

from __future__ import annotations

from shardstore import (
    chunk_store_spec,
    extents_spec,
    file_disk_spec,
    forgery_spec,
    index_spec,
    node_spec,
    superblock_spec,
)

TestSuperblock = superblock_spec.SPEC.as_test(max_examples=15)
TestExtents = extents_spec.SPEC.as_test(max_examples=15)
TestChunkStore = chunk_store_spec.SPEC.as_test(max_examples=15)
TestIndex = index_spec.SPEC.as_test(max_examples=15)
TestIndexOnFake = index_spec.ON_FAKE.as_test(max_examples=15)
TestNode = node_spec.SPEC.as_test(max_examples=15)
TestTwoDisks = node_spec.TWO_DISKS.as_test(max_examples=15)
TestLimits = node_spec.LIMITS.as_test(max_examples=15)
TestForgery = forgery_spec.SPEC.as_test(max_examples=15)
TestFileDisk = file_disk_spec.SPEC.as_test(max_examples=15)
