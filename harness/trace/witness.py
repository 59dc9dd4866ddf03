"""A second witness of the order of writes, beside crashes: checks a trace at the device alone.

The system says what each write has to wait for; the device shows when each was issued and which barrier passed it.
A write may be issued only after a barrier has passed everything that it waits for, whatever the system's own scheduler
believes. And the system may call nothing persistent before a barrier has passed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.scenario.violation import Violation
from harness.trace.trace import Node, Trace

ORDER: Final = "order"  # the property; a violation's place is the rule


def order_violations(trace: Trace) -> list[Violation]:
    """Every violation of the order of writes in a trace, by rule."""
    return [*_strays(trace), *_early(trace), *_unasked(trace), *_called(trace)]


def _strays(trace: Trace) -> Iterator[Violation]:
    for stray in trace.strays:
        yield _broken("not asked for", f"{stray.place} was written or reset, and nobody had asked for it")


def _early(trace: Trace) -> Iterator[Violation]:
    """Writes that were issued before what they wait for was persistent."""
    for edge in trace.edges:
        after, before = _write(trace, edge.after), _write(trace, edge.before)
        if after is None or after.issued is None or after is before:
            continue
        if before is None or before.passed is None or before.passed > after.issued:
            waits_for = trace.nodes[edge.before].describe()
            yield _broken("issued early", f"{after.describe()}: before a barrier had passed {waits_for}")


def _unasked(trace: Trace) -> Iterator[Violation]:
    for number in sorted(trace.unbound):
        write = _write(trace, number)
        if write is not None and write.issued is not None:
            yield _broken("issued early", f"{write.describe()}: waits for what was never asked for")


def _called(trace: Trace) -> Iterator[Violation]:
    """Acknowledgements that were called persistent too early."""
    for tick, number in trace.called_persistent:
        acknowledgement = trace.acknowledgements[number]
        writes = [_write(trace, node) for node in acknowledgement.nodes]
        late = [write for write in writes if write is None or write.passed is None or write.passed > tick]
        if late or not acknowledgement.is_complete:
            what = "what was never asked for" if not late or late[0] is None else late[0].describe()
            said = f"{acknowledgement.operation} of step {acknowledgement.step}"
            yield _broken("called persistent early", f"{said}: before a barrier had passed {what}")


def _write(trace: Trace, number: int) -> Node | None:
    write = trace.write_of(number)
    return None if write is None else trace.nodes[write]


def _broken(rule: str, detail: str) -> Violation:
    return Violation(ORDER, rule, detail, "nothing before a barrier has passed what it waits for")
