"""How to ask, one technique a file. Name in a recipe -> where its class lives; imported when used."""

TABLE: dict[str, str] = {
    "zero-shot": "opportune.strategies.zero_shot:ZeroShot",
    "k-shot": "opportune.strategies.k_shot:KShot",
    "majority": "opportune.strategies.majority:Majority",
    "tfidf": "opportune.strategies.tfidf:Tfidf",
}
