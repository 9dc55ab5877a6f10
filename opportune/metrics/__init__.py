"""How good, one metric a file. Name -> where its class lives; imported when used."""

TABLE: dict[str, str] = {
    "accuracy": "opportune.metrics.accuracy:Accuracy",
    "macro-f1": "opportune.metrics.macro_f1:MacroF1",
    "exact-match": "opportune.metrics.exact_match:ExactMatch",
    "numeric-match": "opportune.metrics.numeric_match:NumericMatch",
    "token-f1": "opportune.metrics.token_f1:TokenF1",
}
