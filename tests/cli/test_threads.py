"""How threads wait for each other: briefly, unless the user has said so."""

from collections.abc import Mapping

import pytest

from gptft.cli.threads import wait_briefly


@pytest.mark.parametrize(
    "said", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}, {"GOMP_SPINCOUNT": ""}]
)
def test_what_the_user_says_stays(said: Mapping[str, str]) -> None:
    environment = dict(said)
    wait_briefly(environment)
    assert environment == said


def test_else_it_is_brief() -> None:
    environment = {"OMP_NUM_THREADS": "2"}
    wait_briefly(environment)
    assert environment == {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "20000"}
