"""Comparing results: calls the model as the system was called; it must return or raise the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.scenario.describe import describe, describe_difference
from harness.scenario.violation import Violation, violation_of_model
from harness.spec.plan import Action, Plan


def compare_result(
    plan: Plan, model: Any, action: Action, arguments: Mapping[str, Any], result: object
) -> Violation | None:
    """Compare a result of the system with that of the model; None if they are equal."""
    try:
        expected = getattr(model, action.name)(**arguments)
    except plan.spec.errors as error:
        return Violation("conformance", action.name, describe(result), type(error).__name__)
    except BaseException as error:
        return _of_model(error, action.name)
    if result is expected or result == expected:
        return None
    return Violation("conformance", action.name, *describe_difference(result, expected))


def compare_error(
    plan: Plan, model: Any, action: Action, arguments: Mapping[str, Any], error: Exception
) -> Violation | None:
    """Check a typed error that the system raised: the model adopts it, or must raise the same type."""
    if not action.adopts:
        return compare_error_type(plan, model, action, arguments, type(error))
    try:
        getattr(model, action.name)(error, **arguments)
    except BaseException as model_error:
        return _of_model(model_error, action.name)
    return None


def compare_error_type(
    plan: Plan, model: Any, action: Action, arguments: Mapping[str, Any], kind: type[Exception]
) -> Violation | None:
    """Check that the model raises an error of this type; messages may differ."""
    try:
        expected = describe(getattr(model, action.name)(**arguments))
    except plan.spec.errors as model_error:
        if type(model_error) is kind:
            return None
        expected = type(model_error).__name__
    except BaseException as model_error:
        return _of_model(model_error, action.name)
    return Violation("conformance", action.name, kind.__name__, expected)


def _of_model(error: BaseException, operation: str) -> Violation:
    violation = violation_of_model(error, operation)
    if violation is None:
        raise error
    return violation
