"""Torture of a system on a real file, ``harness torture``: images of power cuts, and killed processes.

command        the subcommand, and what it prints
halves         both halves, in parts on the fleet's workers
crash_images   images of power cuts
file_log         what was done to the file, as the operating system was asked
power_cut        what a power cut may leave of it
kills          killed processes
file_worker    performs operations on the file and reports them
account        follows the reports, and says what may be read
"""
