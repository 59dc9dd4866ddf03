"""Whether a device model is as its two flags say.

An audit reasons in sets of writes, so it goes by ``survives_in_order`` and ``tears_in_order``. Every other check asks
``survivors``. The audit would be wrong, without a word, of a model that these flags do not describe. Such a model is
refused: both ways list the crash states of a few short histories, and the lists must be equal.

Not promised: a model that differs only on longer histories, or only by the bytes that it is given, passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.audit.crash_sets import crash_states
from harness.audit.judge import contents
from harness.audit.schedules import Limits
from harness.choices.program import Program
from harness.choices.replay_policy import replay_tape
from harness.spec.device import DeviceModel, MediumShape
from harness.spec.plan import SpecError
from harness.spec.spec import Configuration
from harness.spec.tracing import Origin
from harness.trace.tracer import LifeTracer
from harness.world.legal_images import Image, LegalImages
from harness.world.world import World

_ORIGIN: Final = Origin("probe", "pages")
# Writes as (extent, page, pages), resets as (extent, 0, 0). Many of one extent, then one of another: a cache of some
# depth keeps the first of them only then. Then a write that may tear, a reset, and a write after the reset.
_HISTORIES: Final = (
    (*((0, page, 1) for page in range(6)), (1, 0, 1)),
    ((0, 0, 2), (0, 2, 1), (1, 0, 2)),
    ((0, 0, 1), (0, 1, 1), (0, 0, 0), (0, 0, 1), (1, 0, 1)),
)


def refuse_unlike(shapes: Sequence[MediumShape]) -> None:
    """Raise `SpecError` for a model whose ``survivors`` does not do as its flags say."""
    for shape in {id(shape.device): shape for shape in shapes}.values():
        device = shape.device
        if not all(_is_alike(device, shape.unit_size_bytes, history) for history in _HISTORIES):
            raise SpecError(
                f"cannot be audited: device model {device.name!r} leaves other states than survives_in_order="
                f"{device.survives_in_order} and tears_in_order={device.tears_in_order} say"
            )


def _is_alike(device: DeviceModel, unit_size_bytes: int, history: Sequence[tuple[int, int, int]]) -> bool:
    # A page is one unit, since a write of several pages tears as well, and has fewer states than one of many units.
    shape = MediumShape(extent_count=2, extent_size_pages=6, page_size_bytes=unit_size_bytes, device=device)
    world = World(Configuration("probe", (shape,)), replay_tape(Program(), strict=False))
    (medium,) = world.media
    tracer, images = LifeTracer(world), LegalImages()
    by_model: set[Image] = {(medium.contents(),)}
    for number, (extent, page, page_count) in enumerate(history):
        tracer.submitted(object(), 0, extent, page, page_count, _ORIGIN, object())
        if page_count:
            medium.write(extent, page, bytes([number + 1]) * (page_count * unit_size_bytes))
        else:
            medium.reset(extent)
        by_model |= {image for image, _ in images.of([medium])}
    trace = tracer.finish()
    by_flags = {contents(trace, crash.state, [shape]) for crash in crash_states(trace, [shape], 0, Limits(1, 1))}
    return by_flags == by_model
