"""The index: an LSM tree from shard id to the locators of its value.

index          the tree: memtable, levels of runs, what reclamation asks
compaction     which level to merge next, and the merge
snapshot       an unchanging view of the keys
run            a run, and how its blocks are read
memtable       the entries that no run has yet
metadata_log   which runs are live, as a log of edits
run_block      the bytes of a block of a run
run_bounds     how much a run that is yet to be written may take
"""
