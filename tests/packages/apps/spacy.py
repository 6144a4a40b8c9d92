"""Split a text into sentences and words, and match a pattern."""

import spacy
from spacy.matcher import Matcher

from kluis.enclave import Enclave

app = Enclave("spacy")


@app.ecall
def check() -> str:
    """Split a text into sentences and words, and match a pattern."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    document = nlp("Mrs. Jansen lives in Delft. She was born in 1951.")
    matcher = Matcher(nlp.vocab)
    matcher.add("year", [[{"SHAPE": "dddd"}]])
    _, start, end = matcher(document)[0]
    return f"{len(list(document.sents))} {len(document)} {document[start:end].text}"
