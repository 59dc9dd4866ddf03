"""The reference model of a node whose disk rots: after damaged blocks are dropped, their keys read as they once did."""

from __future__ import annotations

from collections.abc import Mapping

from refmodel.node import NodeModel


class DamagedNodeModel(NodeModel):
    """A node of one disk. It adopts what the keys of dropped blocks read."""

    def drop_lost(self, found: Mapping[bytes, bytes | None], *, is_cold: bool) -> None:
        for key, value in found.items():
            self.settle(key, value)
