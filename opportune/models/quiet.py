"""How other libraries are kept from talking past us."""

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
