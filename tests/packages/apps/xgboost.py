"""Train boosted trees from an iterator, which calls back into Python."""

import numpy as np
import xgboost as xgb

from kluis.enclave import Enclave


class Batches(xgb.DataIter):
    """Two batches of rows."""

    def __init__(self) -> None:
        self.at = 0
        super().__init__()

    def next(self, input_data) -> bool:
        if self.at == 2:
            return False
        x = np.random.default_rng(self.at).normal(size=(300, 4))
        input_data(data=x, label=(x[:, 0] > 0).astype(int))
        self.at += 1
        return True

    def reset(self) -> None:
        self.at = 0


app = Enclave("xgboost")


@app.ecall
def check() -> str:
    """Train boosted trees from an iterator, which calls back into Python."""
    rows = xgb.QuantileDMatrix(Batches())
    model = xgb.train({"objective": "binary:logistic", "nthread": 2, "max_depth": 3}, rows, 20)
    x = np.random.default_rng(7).normal(size=(200, 4))
    right = (model.predict(xgb.DMatrix(x)) > 0.5) == (x[:, 0] > 0)
    return str(right.mean() > 0.95)
