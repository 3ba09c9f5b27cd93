"""A search with trials that nobody trained, for its reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from musicgenre.search.study import SearchFacts, StudyFolder

N_TRIALS = 14


def make_search(folder: Path) -> Path:
    """Write a search over long keys, of numbers and words, with trials that ended in every way."""
    import optuna

    files = StudyFolder(folder)
    files.begin(
        SearchFacts(
            recipe="fusion-cnn2d-msd-segments-augmented",
            recipe_yaml="",
            space={},
            objective="validation.accuracy",
            sampler="tpe",
            pruner="median",
            folds=0,
            seed=0,
            tracks_sha256="",
        )
    )
    spread = {
        "training.learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True),
        "training.weight_decay": optuna.distributions.FloatDistribution(0.0, 0.1),
        "model.options.dropout": optuna.distributions.FloatDistribution(0.0, 0.6),
        "augmentation.online.spectrogram.time-mask.width": optuna.distributions.IntDistribution(4, 64),
        "representation.options.preset": optuna.distributions.CategoricalDistribution(
            ["mel-128-at-22050-hz", "mel-96-as-musicnn-hears", "mfcc-13"]
        ),
    }
    random = np.random.default_rng(4)
    trials = []
    for number in range(N_TRIALS):
        state = optuna.trial.TrialState.COMPLETE
        if number in (5, 9):
            state = (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL)[number == 9]
        params = {
            "training.learning_rate": float(10 ** random.uniform(-5, -2)),
            "training.weight_decay": float(random.uniform(0, 0.1)),
            "model.options.dropout": float(random.uniform(0, 0.6)),
            "augmentation.online.spectrogram.time-mask.width": int(random.integers(4, 64)),
            "representation.options.preset": str(
                random.choice(["mel-128-at-22050-hz", "mel-96-as-musicnn-hears", "mfcc-13"])
            ),
        }
        reasons = {"reason": "train_loss became nan in epoch 3. Lower training.learning_rate"} if number == 9 else {}
        value = float(random.uniform(0.3, 0.8)) if state == optuna.trial.TrialState.COMPLETE else None
        trials.append(
            optuna.trial.create_trial(
                state=state, value=value, params=params, distributions=spread, user_attrs=reasons
            )
        )
    files.open(create=True).add_trials(trials)
    files.add(
        {
            "winner": {
                "trial": 3,
                "n_trials": N_TRIALS,
                "best": 0.79,
                "seeds": 3,
                "test": "track-level accuracy 0.731 [0.702, 0.769]",
                "validation_accuracy": 0.76,
                "test_accuracy": 0.731,
            },
            "tested": [3],
        }
    )
    return folder
