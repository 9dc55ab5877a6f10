"""Every error that Opportune raises on purpose.

    OpportuneError
    ├── UsageError (ValueError)         bad input: one clear line, exit code 2
    │   ├── TaskError                   the examples: file, line, column, label, split
    │   ├── RecipeError                 a recipe string, an option, a value out of range
    │   │   ├── OwnCodeError            a strategy or metric of the user's own that fails at work
    │   │   └── UnpredictableError      a method whose size cannot be told without trying it
    │   └── ModelError                  a model that cannot be found, loaded or used as asked
    ├── StoreError (RuntimeError)       the run's folder or database: busy, full, of a newer version
    ├── TrainingError (RuntimeError)    a training that cannot go on: nothing to learn from, no memory
    │   └── DivergedError               its learning rate is too high
    └── ParityError (RuntimeError)      an exported model that does not answer as the trained one did

The message says what was received, what is allowed, and where.
"""

_NO_MEMORY = "can't allocate memory"  # torch's allocator of processor memory


class OpportuneError(Exception):
    """Base of all errors raised on purpose; its text is shown to the user as it is."""


class UsageError(OpportuneError, ValueError):
    """The input cannot be used as given."""


class TaskError(UsageError):
    """The labelled examples cannot be read or do not make a task."""


class RecipeError(UsageError):
    """A recipe, an option or a value is not understood or out of range."""


class OwnCodeError(RecipeError):
    """A function of the user's own failed: names the file and the function."""


class UnpredictableError(RecipeError):
    """What a method will take cannot be told without trying it."""


class ModelError(UsageError):
    """The model cannot be found, loaded or used as asked."""


class StoreError(OpportuneError, RuntimeError):
    """The run's folder or database cannot be used."""


class TrainingError(OpportuneError, RuntimeError):
    """A training that cannot go on."""


class DivergedError(TrainingError):
    """A training whose learning rate is too high for it."""


class ParityError(OpportuneError, RuntimeError):
    """An exported model that does not answer as the trained one did."""


def first_line(error: Exception) -> str:
    """The first line of another library's error, for a message of one line; its kind where that says more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and not isinstance(error, LookupError):
        return lines[0]
    return " ".join([type(error).__name__, *lines[:1]])


def out_of_memory(error: Exception) -> str | None:
    """In a line, if this says that the machine's or a device's memory ran out: torch raises a RuntimeError for it, of
    a class of its own or a plain one. None for any other error."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _NO_MEMORY in str(error):
        return " ".join(f"out of memory: {error}".split()).rstrip(": ")
    return None
