"""Worker processes, whatever they work at; nothing here knows the rest of the harness.

pool         runs jobs on workers, and decides what interrupts, dead and hanging workers make of them
worker         the inside of a worker
jobs         jobs, what they report, and what becomes of them
interrupts   SIGINT and SIGTERM, noted; temporary folders that are removed all the same
budget       seconds and workers, and how jobs share them
"""
