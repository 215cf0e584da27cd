"""The documentation's definition is one that can be saved."""

import re
from pathlib import Path

import orjson

from app.directory.conditions import Condition
from app.directory.definition import KINDS, WrappedWorkflow

PAGE = (Path(__file__).parents[3] / "docs" / "workflow-runs.md").read_text()


def test_the_example_has_every_kind_of_step() -> None:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    workflow = WrappedWorkflow.model_validate(orjson.loads(block)).workflow
    kinds = {getattr(step, "channel_type", step.type) for step in workflow.steps}
    assert kinds == set(KINDS)


def test_all_operators_are_listed() -> None:
    operators = Condition.model_json_schema()["properties"]["operator"]["enum"]
    assert [each for each in operators if f"`{each}`" not in PAGE] == []
