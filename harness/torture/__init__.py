"""Torture of a system on a real file, ``harness torture``: images of power cuts, and killed processes.

halves         both halves, in parts on the fleet's workers
crash_images   images of power cuts
file_log         records every change of the file, at the border to the operating system
power_cut        what a power cut may leave of the file
kills          killed processes
file_worker    performs operations on the file and reports them
account        follows the reports, and says what the file may read as
"""
