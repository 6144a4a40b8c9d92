"""Train a forest and a logistic regression on two cores."""

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from kluis.enclave import Enclave

app = Enclave("scikit-learn")


@app.ecall
def check() -> str:
    """Train a forest and a logistic regression on two cores."""
    x, y = make_classification(400, 8, n_informative=4, class_sep=2.0, random_state=0)
    forest = RandomForestClassifier(30, random_state=0, n_jobs=2).fit(x[:300], y[:300])
    scores = cross_val_score(LogisticRegression(), x, y, cv=3)
    return f"{forest.score(x[300:], y[300:]) > 0.9} {scores.mean() > 0.7}"
