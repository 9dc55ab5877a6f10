"""Pretraining from scratch: a tokenizer and a Llama of the size asked for, from a corpus to a Hugging Face folder."""
