"""What the integration tests share."""

from typing import Any

import pytest

from tests.clients import V1, V2


@pytest.fixture(params=[V1, V2], ids=["v1", "v2"])
def vsn(request: pytest.FixtureRequest) -> Any:
    """Each of the two protocol versions."""
    return request.param
