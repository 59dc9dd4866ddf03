"""Worker processes, for any work: nothing here knows the rest of the harness.

pool         runs jobs on workers, and handles interrupts, dead workers and hanging ones
worker         the inside of a worker
jobs         jobs, their reports, and their outcomes
interrupts   notes SIGINT and SIGTERM; removes temporary folders all the same
budget       seconds and workers, and how jobs share them
"""
