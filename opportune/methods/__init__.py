"""Which weights move, one technique a file. Name in a recipe -> where its class lives; imported when used."""

TABLE: dict[str, str] = {
    "lora": "opportune.methods.lora:Lora",
    "full": "opportune.methods.full:Full",
}
