"""Train a model in memory, then encode and decode."""

import io

import sentencepiece as spm

from kluis.enclave import Enclave

app = Enclave("sentencepiece")


@app.ecall
def check() -> str:
    """Train a model in memory, then encode and decode."""
    model = io.BytesIO()
    texts = iter(["the cat sat on the mat", "the dog sat on the log"] * 50)
    spm.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=model, vocab_size=30, model_type="bpe", minloglevel=2
    )
    processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
    return processor.decode(processor.encode("the cat sat"))
