"""How to ask, one technique a file. Name in a recipe -> where its class lives; imported when used."""

TABLE: dict[str, str] = {
    "zero-shot": "opportune.strategies.zero_shot:ZeroShot",
    "k-shot": "opportune.strategies.k_shot:KShot",
    "chain-of-thought": "opportune.strategies.chain_of_thought:ChainOfThought",
    "self-consistency": "opportune.strategies.self_consistency:SelfConsistency",
    "least-to-most": "opportune.strategies.least_to_most:LeastToMost",
    "step-back": "opportune.strategies.step_back:StepBack",
    "template": "opportune.strategies.template:Template",
    "custom": "opportune.strategies.custom:Custom",
    "majority": "opportune.strategies.majority:Majority",
    "tfidf": "opportune.strategies.tfidf:Tfidf",
}
