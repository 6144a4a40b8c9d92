"""Train a tokenizer, then encode and decode."""

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kluis.enclave import Enclave

app = Enclave("tokenizers")


@app.ecall
def check() -> str:
    """Train a tokenizer, then encode and decode."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = ["the cat sat on the mat", "the dog sat on the log"] * 50
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=60, special_tokens=["[UNK]"]))
    encoded = tokenizer.encode("the cat sat")
    return f"{encoded.tokens} {tokenizer.decode(encoded.ids)}"
