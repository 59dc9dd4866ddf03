"""Device models, one file each.

    model   write                           reset           a crash leaves, of what was issued since the barrier
    zoned   at the extent's write pointer   empties it      per extent a prefix of the pages written, in order; resets
                                                            are part of that order; pages are atomic
    file    anywhere                        does nothing    any subset of the sectors written
    block   anywhere                        zeros it        of each write by itself its first units, any number of them;
                                                            a reset is there or not

All follow `harness.spec.device.DeviceModel`. A spec names one of them in the `MediumShape` of a medium.
"""

from typing import Final

from harness.world.devices.block import BLOCK
from harness.world.devices.file import FILE
from harness.world.devices.zoned import ZONED

ALL: Final = (ZONED, FILE, BLOCK)

__all__ = ["ALL", "BLOCK", "FILE", "ZONED"]
