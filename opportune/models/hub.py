"""Models of the Hugging Face hub: what is on this machine already, else downloaded where the hub can be reached."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

from opportune.errors import ModelError, first_line
from opportune.models.quiet import quiet
from opportune.types import Progress

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PATIENCE = 5.0  # seconds to wait for the hub's first answer
_WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.py")
_UNWANTED = ("*/*", "consolidated*")  # other formats' folders, and a second copy of the weights


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of a hub's: OWNER/NAME or NAME."""
    return _NAME.fullmatch(name) is not None and not name.startswith((".", "-"))


def fetch(name: str, progress: Progress) -> Path:
    """The local folder of a hub model: the copy already downloaded, however old, else a new one. Raises ModelError."""
    quiet()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    snapshot = partial(snapshot_download, name, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED))
    try:
        return Path(snapshot(local_files_only=True))
    except (OSError, ValueError):
        _require_hub(name)
    progress(f"downloading {name} from the hub", 0, 1)
    try:
        folder = Path(snapshot())
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub shows no model {name!r}: check the name, or run `hf auth login` first if it is private or gated"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(f"cannot download {name!r} from the hub: {first_line(error)}") from error
    progress(f"downloading {name} from the hub", 1, 1)
    return folder


def _require_hub(name: str) -> None:
    """Raise ModelError unless the hub answers at once; huggingface_hub alone would retry for minutes."""
    from huggingface_hub import constants

    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
    if not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT):
        return
    raise ModelError(
        f"the model {name!r} is no local folder, not downloaded yet, and {reason}: "
        "give a local Hugging Face folder or a .gguf file, or leave the model out to use the default one"
    )


def _answers(url: str) -> bool:
    """Whether anything answers HTTP there in time. In a thread, because looking a name up heeds no timeout."""
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_PATIENCE).close()
        except urllib.error.HTTPError:
            pass  # an answer too
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return answered.is_set()
