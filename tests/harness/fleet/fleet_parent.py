"""A process that runs jobs of `fleet_jobs`, for the tests that interrupt or kill it.

    python fleet_parent.py FUNCTION JOBS WORKERS FOLDER

It says "ready" once every worker has reported, and then what became of each job.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import fleet_jobs

from harness.fleet.jobs import Job
from harness.fleet.pool import run_jobs


def main(function: str, jobs_count: int, workers: int, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    reported = set()

    def on_report(number: int, known: Any) -> None:
        if number not in reported:
            reported.add(number)
            if len(reported) == workers:
                print("ready", flush=True)

    arguments = (folder,) if function == "never_report_again" else ()
    jobs = [Job(f"job {number}", getattr(fleet_jobs, function), arguments) for number in range(jobs_count)]
    try:
        outcomes = run_jobs(jobs, workers, on_report=on_report)
    except KeyboardInterrupt:
        print("interrupted at once", flush=True)
        return
    for outcome in outcomes:
        print(outcome.fate, outcome.reason, "with" if outcome.known else "without", "result", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
