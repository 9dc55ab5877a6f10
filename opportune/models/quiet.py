"""How other libraries are kept from talking past us: their remarks silenced, their errors cut to a line."""

from __future__ import annotations

import logging
import warnings


def quiet() -> None:
    """Turn off the progress bars and warnings of transformers and huggingface_hub, for the whole process.

    Not undone afterwards: their later remarks (while generating, while saving) would land between the lines of a
    live view just as well.
    """
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity(logging.ERROR)
    disable_progress_bars()
    # Deprecations inside these libraries (peft calling what transformers renames) are not the user's to act on.
    for library in ("transformers", "peft", "huggingface_hub"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)


def first_line(error: Exception) -> str:
    """The first line of another library's error, for a message of one line; its kind where that says more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and not isinstance(error, LookupError):
        return lines[0]
    return " ".join([type(error).__name__, *lines[:1]])
