"""A finished run's arm, brought back to answer new questions: nothing is trained or picked again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opportune import evaluate
from opportune.arm import prepare_key
from opportune.errors import RecipeError
from opportune.evaluate import NoJournal, converse
from opportune.journal import StoreJournal
from opportune.models.local import Local
from opportune.models.pool import ModelPool
from opportune.recipe import Arm, from_resolved
from opportune.records import ArmRecord, RunRecord
from opportune.store import Store
from opportune.types import Answer, Example, Question, TaskView
