"""Traces of dependencies: what a system asked for, and what the device made of it.

trace        a trace: nodes, edges, what the device saw
tracer       makes one, told by a spec's ``trace`` what the system asks for
traced_run   runs a scenario with a tracer: one trace a life
origins      who asked for each write, and nothing else; costs little
closure      which sets of a trace's writes a crash may leave
witness      whether the device saw everything in the order that was asked for
"""
