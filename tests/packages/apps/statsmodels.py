"""Fit a regression and a time series."""

import numpy as np
import statsmodels.api as sm

from kluis.enclave import Enclave

app = Enclave("statsmodels")


@app.ecall
def check() -> str:
    """Fit a regression and a time series."""
    random = np.random.default_rng(0)
    x = random.normal(size=500)
    fit = sm.OLS(2.0 * x + 1.0 + random.normal(scale=0.1, size=500), sm.add_constant(x)).fit()
    series = np.cumsum(random.normal(size=200))
    ahead = sm.tsa.ARIMA(series, order=(1, 1, 0)).fit().forecast(3)
    return f"{fit.params[0]:.1f} {fit.params[1]:.1f} {len(ahead)}"
