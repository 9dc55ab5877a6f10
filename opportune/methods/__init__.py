"""Which weights move, one technique a file. Name in a recipe -> where its class lives; imported when used."""

TABLE: dict[str, str] = {
    "lora": "opportune.methods.lora:Lora",
    "full": "opportune.methods.full:Full",
    "ia3": "opportune.methods.ia3:IA3",
    "adapter": "opportune.methods.adapter:Adapter",
    "bias": "opportune.methods.bias:Bias",
    "norm": "opportune.methods.norm:Norm",
    "continual": "opportune.methods.continual:Continual",
    "prompt-tuning": "opportune.methods.prompt_tuning:PromptTuning",
    "prefix-tuning": "opportune.methods.prefix_tuning:PrefixTuning",
    "p-tuning": "opportune.methods.p_tuning:PTuning",
    "peft": "opportune.methods.peft_method:Peft",
}
