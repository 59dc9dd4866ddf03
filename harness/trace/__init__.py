"""Traces of dependencies: the writes that a system asked for, and what the device did with them.

trace        a trace: nodes, edges, and the events of the device
tracer       makes a trace from what a spec's ``trace`` tells it
traced_run   runs a scenario with a tracer: one trace a life
closure      which sets of a trace's writes a crash may leave
witness      whether the device saw all writes in the order that was asked for
"""
