"""Whom to ask, one backend a file. Name -> where its class lives; imported when used."""

TABLE: dict[str, str] = {
    "local": "opportune.models.local:Local",
    "openai": "opportune.models.endpoint:Endpoint",
    "scripted": "opportune.models.scripted:Scripted",
}
