"""The API against its own document: whatever is sent, it answers with a status, a type and a body that it promised.

The application runs in this process, on real rows and with a real token. The examples are the same in each run.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from studio.api.document import document
from tests.contract.world import ONLY_REFUSALS, World

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

config = SchemathesisConfig.from_dict(
    {
        "generation": {"deterministic": True, "no-shrink": True, "database": "none"},
        "phases": {"coverage": {"unexpected-methods": []}, "stateful": {"enabled": False}},
    }
)
schema = schemathesis.openapi.from_dict(deepcopy(document()), config=config)
schema.app = WSGIHandler()


# Downloads are asynchronous, for the server that the studio runs on; the handler here is not.
pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous iterators")


@pytest.fixture
def world(db, settings, requested_jobs, silent_doorbell) -> Iterator[World]:
    """The rows, and errors that nobody foresaw raised through to the test."""
    settings.DEBUG_PROPAGATE_EXCEPTIONS = True
    for signal in (request_started, request_finished):  # the requests share the test's transaction
        signal.disconnect(close_old_connections)
    world = World()
    yield world
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)
    tried = any(status < 300 for status in world.answers)
    assert tried or world.operation in ONLY_REFUSALS, "Nothing but refusals: this operation was not really tried."


@schema.parametrize()
@settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_operation__keeps_its_contract(case, world):
    world.name_things(case)
    # What an absent counterpart makes of a request is a documented 502; elsewhere there is none.
    checks = [check for check in CHECKS if check is not not_a_server_error or world.operation not in ONLY_REFUSALS]
    world.answers.append(case.call_and_validate(headers=world.headers(), checks=checks).status_code)


def test_every_operation__is_covered():
    documented = {(path, method) for path, item in document()["paths"].items() for method in item}
    tested = {(result.ok().path, result.ok().method) for result in schema.get_all_operations()}
    assert tested == documented


def test_operations_that_only_refuse__are_in_the_document():
    documented = {f"{method.upper()} {path}" for path, item in document()["paths"].items() for method in item}
    assert set(ONLY_REFUSALS) <= documented
