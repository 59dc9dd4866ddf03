"""The audit of dependencies, ``harness audit``: which edge a failure lacks, and which edges of a store could go.

needless      which edges could go
mend          which edges would keep out every failing state of a saved failure
schedules     every schedule of one life
crash_sets    the crash states of a life, by the device's own model
device_flags  refuses a device model that its flags do not describe
edges         kinds of edges, and the states that only an edge keeps out
judge         whether a state breaks a property
"""
