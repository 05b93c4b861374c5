"""The viewer's API asked at random, well and badly, from its own description of itself, over real HTTP.

Each response must be one that the description has: its status, its content type, the shape of its JSON; never a 500.
"""

from collections import Counter
from contextlib import suppress

import pytest
from needs import need_module
from processes import HANG
from served import serving, untrained

schemathesis = need_module("schemathesis", "dev")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

from imitate.serve.guard import Allowance  # noqa: E402
from imitate.serve.server import create  # noqa: E402
from imitate.serve.service import Service  # noqa: E402

BEYOND_THE_SCHEMA = [positive_data_acceptance]  # any bytes are a body, and few are a radiograph


@pytest.mark.parametrize("each", [12, pytest.param(400, marks=pytest.mark.stress)])
def test_no_question_breaks_the_server(each, tmp_path, write_counts):
    service, codes = Service(*untrained(tmp_path)), Counter()
    guard = create(service)
    guard.allowance = Allowance(burst=1e9)  # for one who asks thousands of times a minute
    with serving(guard) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:
            for mode in GenerationMode:
                codes += statuses(operation, mode, each, image=service.about.examples[0].id)
    assert len(operations) == 11 and codes[200] > each and codes[422] > each, codes
    write_counts(
        "api", questions=codes.total(), operations=len(operations), answers={str(c): n for c, n in codes.items()}
    )


def statuses(operation, mode: GenerationMode, count: int, *, image: str) -> Counter[int]:
    """How often each status came. Good questions are about an image that is there."""
    codes: Counter[int] = Counter()

    @settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        if "image" in case.path_parameters and mode is GenerationMode.POSITIVE:
            case.path_parameters["image"] = image
        codes[case.call_and_validate(timeout=HANG, excluded_checks=BEYOND_THE_SCHEMA).status_code] += 1

    with suppress(Unsatisfiable):  # what asks for nothing cannot be asked badly
        ask()
    return codes
