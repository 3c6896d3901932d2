"""scikit-learn estimators whose `fit` is a session: owners, compute parties, noise and ledgers behind one call.

    federation = Federation.local(parties=3, folder="federation", epsilon_limit=4.0, delta_limit=1e-5)
    model = PrivateLogisticRegression(
        epsilon=1.0, delta=1e-6, bounds={"age": (0, 120), "smoker": ["no", "yes"]}, classes=["benign", "malignant"],
        federation=federation,
    )
    model.fit(table, diagnosis, owners=hospital)
    model.predict(new_patients)
    print(model.privacy_statement_, federation.ledger.total)

Bounds, categories and classes are public: they are declared, never looked up in the records. Each `fit` is a session of
its own, charged to every owner's ledger: all fits of a grid search are paid for. What a caller computes from the same
records outside a session (a scaler's means, scores on private rows) is not covered by any guarantee, and the privacy
statement says so.
"""

from mpcdp.estimators.erm import PrivateERM
from mpcdp.estimators.federation import Federation, FederationLedger
from mpcdp.estimators.linear import PrivateLinearSVC, PrivateLogisticRegression, PrivateRidge

__all__ = [
    "Federation",
    "FederationLedger",
    "PrivateERM",
    "PrivateLinearSVC",
    "PrivateLogisticRegression",
    "PrivateRidge",
]
