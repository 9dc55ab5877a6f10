"""The bundled task `support-desk`: customer messages to sort into ten intents, written for this project."""

from __future__ import annotations

from pathlib import Path

NAME = "support-desk"
INSTRUCTION = "Sort the customer's message into one intent."
FOLDER = Path(__file__).parent / "support_desk"
