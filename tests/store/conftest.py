from __future__ import annotations

import pytest


@pytest.fixture(params=[True, False], ids=["zoned", "file"])
def zoned(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)
