"""The journal of one arm: every call goes to the store as it is answered, and comes from there after a crash.

A call that another arm of the run has already made on the same model is copied, not made again; the copy keeps the
usage that was measured, so that each arm is charged as if it had run alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from opportune.cost import Amount
from opportune.evaluate import Call
from opportune.records import CallRecord
from opportune.store import Store
from opportune.types import REMOTE, Completion, ModelInfo, Usage, digest


def key_of(info: ModelInfo) -> str:
    """Identifies an untrained model as it answers: a number format or a device of its own answers in its own way."""
    # A server has neither, and its digest alone is what paid calls are stored under.
    return info.digest if info.device == REMOTE else digest([info.digest, info.dtype, info.device])


@dataclass(frozen=True, slots=True)
class StoreJournal:
    """Calls of one arm, seed and stage; `model_key` identifies what answers: `key_of` a model, or an artefact."""

    store: Store
    run: str
    hash: str
    seed: int
    stage: str
    model_key: str
    _failed: dict[tuple[str, int, int], CallRecord] = field(default_factory=dict)  # by place: what is asked again

    def known(self, calls: Sequence[Call]) -> Mapping[int, Completion]:
        """Answers of this arm from before, and of other arms that asked the same; failed calls are asked again."""
        if not calls:
            return {}
        keys = [self._key(call) for call in calls]
        mine = self._before()
        self._failed.update({place: record for place, record in mine.items() if record.error is not None})
        found: dict[int, Completion] = {}
        for index, (call, key) in enumerate(zip(calls, keys, strict=True)):
            record = mine.get((call.conversation, call.round, call.position))
            if record is not None and record.key == key and record.error is None:
                found[index] = _completion(record)
        return found | self._shared(calls, {i: key for i, key in enumerate(keys) if i not in found})

    def _before(self) -> dict[tuple[str, int, int], CallRecord]:
        """What is there of this arm, by its place."""
        records = self.store.calls(self.run, self.hash, self.seed, self.stage)
        return {(record.example, record.round, record.position): record for record in records}

    def _shared(self, calls: Sequence[Call], keys: Mapping[int, str]) -> dict[int, Completion]:
        others = self.store.find_calls(self.run, sorted(set(keys.values()))) if keys else {}
        found = {index: _completion(others[key]) for index, key in keys.items() if key in others}
        self._write([(calls[index], completion) for index, completion in found.items()], shared=True)
        return found

    def record(self, answered: Sequence[tuple[Call, Completion]]) -> None:
        """Write answers in one transaction."""
        self._write(answered, shared=False)

    def _write(self, answered: Sequence[tuple[Call, Completion]], *, shared: bool) -> None:
        if answered:
            self.store.put_calls([self._record(call, completion, shared) for call, completion in answered])

    def _key(self, call: Call) -> str:
        return digest([self.model_key, asdict(call.prompt)])

    def _record(self, call: Call, completion: Completion, shared: bool) -> CallRecord:
        # A try that failed may have been paid for: what it used stays on the bill of the one that takes its place.
        lost = self._failed.get((call.conversation, call.round, call.position))
        usage, copied = completion.usage, shared and lost is None
        saved = (usage.tokens_in, usage.tokens_out) if shared else (usage.cached_in, usage.cached_out)
        if lost is not None:
            usage = _with_loss(usage, lost)
            saved = saved[0] + lost.cached_in, saved[1] + lost.cached_out
        return CallRecord(
            run=self.run,
            hash=self.hash,
            seed=self.seed,
            stage=self.stage,
            example=call.conversation,
            round=call.round,
            position=call.position,
            key=self._key(call),
            prompt=completion.prompt,
            choices=call.prompt.choices,
            texts=completion.texts,
            scores=completion.scores,
            vector=completion.vector,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            seconds=usage.seconds,
            flops=usage.flops,
            shots_dropped=completion.shots_dropped,
            tokens_cut=completion.tokens_cut,
            error=completion.error,
            shared=copied,
            # A copy saves nothing but by being one.
            cached_in=0 if copied else saved[0],
            cached_out=0 if copied else saved[1],
        )


def _with_loss(usage: Usage, lost: CallRecord) -> Usage:
    return replace(
        usage,
        tokens_in=usage.tokens_in + lost.tokens_in,
        tokens_out=usage.tokens_out + lost.tokens_out,
        seconds=usage.seconds + lost.seconds,
        flops=usage.flops + lost.flops,
    )


def _completion(record: CallRecord) -> Completion:
    return Completion(
        prompt=record.prompt,
        texts=record.texts,
        scores=record.scores,
        vector=record.vector,
        usage=Usage(
            record.tokens_in,
            record.tokens_out,
            1,
            record.seconds,
            record.flops,
            record.cached_in,
            record.cached_out,
        ),
        shots_dropped=record.shots_dropped,
        tokens_cut=record.tokens_cut,
        error=record.error,
    )


def cached_amount(calls: Sequence[CallRecord]) -> Amount | None:
    """What the response cache saved of these calls; None where it did not answer."""
    kept = [call for call in calls if call.cached_in or call.cached_out]
    if not kept:
        return None
    tokens_in, tokens_out = sum(call.cached_in for call in kept), sum(call.cached_out for call in kept)
    return Amount(tokens_in=tokens_in, tokens_out=tokens_out, calls=len(kept))


def amount_of(calls: Sequence[CallRecord]) -> Amount:
    """What these calls used together."""
    return Amount(
        seconds=sum(call.seconds for call in calls),
        tokens_in=sum(call.tokens_in for call in calls),
        tokens_out=sum(call.tokens_out for call in calls),
        calls=len(calls),
        flops=sum(call.flops for call in calls),
    )
