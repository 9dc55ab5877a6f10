"""Models by reference: one local model in memory at a time, pristine whenever it is handed out, and the endpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from opportune.cost import Amount, Meter
from opportune.errors import RecipeError
from opportune.models.endpoint import Endpoint, Remote, is_remote
from opportune.models.folder import check_folder
from opportune.models.loading import announce, find, load_model
from opportune.models.local import Local
from opportune.spec import ModelRef
from opportune.types import ModelInfo

_OPTIONS = {"device": str, "dtype": str, "quantise": str, "trust": bool}


@dataclass(slots=True)
class ModelPool:
    """Loads models by reference; `device`, `dtype` and `trust` hold for those that do not say otherwise, `remote` for
    all that are behind a server."""

    device: str | None = None
    dtype: str | None = None
    trust: bool = False
    remote: Remote = field(default_factory=Remote)
    _held: tuple[ModelRef, Local] | None = None
    _known: dict[str, tuple[ModelInfo, Amount]] = field(default_factory=dict)
    _endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def info(self, ref: ModelRef) -> ModelInfo:
        """Which model it is; a local one is loaded the first time."""
        if is_remote(ref):
            return self.endpoint(ref).info
        if str(ref) not in self._known:
            self.base(ref)
        return self._known[str(ref)][0]

    def loading(self, ref: ModelRef) -> Amount:
        """What loading it cost the first time."""
        if is_remote(ref):
            return Amount()
        self.info(ref)
        return self._known[str(ref)][1]

    def locate(self, ref: ModelRef) -> None:
        """Make sure that a local model is there, without loading it. Raises ModelError."""
        check_folder(find(ref.name, announce))

    def endpoint(self, ref: ModelRef) -> Endpoint:
        """The model behind a server; always the same one, which knows the server's pace."""
        if str(ref) not in self._endpoints:
            self._endpoints[str(ref)] = Endpoint.of(ref, self.remote)
        return self._endpoints[str(ref)]

    def base(self, ref: ModelRef) -> Local:
        """The model as it is on disk. Raises RecipeError where there is none: behind a server."""
        if is_remote(ref):
            raise RecipeError(f"{ref.name} is an endpoint, whose weights are not here: give a local model")
        if self._held is not None and self._held[0] == ref:
            return self._held[1]
        self.release()
        with Meter() as meter:
            model = load_model(ref.name, **self._arguments(ref))
        self._held = (ref, model)
        self._known.setdefault(str(ref), (model.info, meter.amount))
        return model

    def view(self, ref: ModelRef) -> Local | Endpoint:
        """The model to be asked, with nothing warm from earlier questions."""
        if is_remote(ref):
            return self.endpoint(ref)
        base = self.base(ref)
        return base.with_network(base.network)

    def take(self, ref: ModelRef) -> Local:
        """The model to be changed by training: the next `base` loads it anew."""
        model = self.base(ref)
        self._held = None
        return model

    def release(self) -> None:
        """Forget the model in memory."""
        self._held = None

    def _arguments(self, ref: ModelRef) -> dict[str, Any]:
        for name, value in ref.options.items():
            if not isinstance(value, _OPTIONS.get(name, ())):
                allowed = ", ".join(f"{key} ({kind.__name__})" for key, kind in _OPTIONS.items())
                raise RecipeError(f"model {ref}: option {name}={value}; a model has {allowed}")
        chosen = {"device": self.device, "dtype": self.dtype, "quantise": None, "trust": self.trust} | dict(ref.options)
        chosen["trust_remote_code"] = chosen.pop("trust")
        return chosen
