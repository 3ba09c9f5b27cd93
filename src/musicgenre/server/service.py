"""What a server answers with: models that are loaded once, and the answers of each to files that came."""

from __future__ import annotations

from musicgenre._text import did_you_mean, printable
from musicgenre.errors import UsageError
from musicgenre.listening.batch import plan_threads
from musicgenre.listening.classifier import Classifier
from musicgenre.server.problems import ProblemError
from musicgenre.server.settings import Settings


class Service:
    """The models of a server. Loaded once; its functions are called from several threads.

    Parameters
    ----------
    settings : Settings
        Which models, and how long what they hear may be.

    Raises
    ------
    BundleError
        A model is missing, damaged or too new.
    UsageError
        Two models have the same name.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.jobs, threads = plan_threads(settings.jobs, None, n_tracks=256)
        self.classifiers: dict[str, Classifier] = {}
        for model in settings.models:
            classifier = Classifier(
                model, threads=threads, max_duration_s=settings.max_duration_s, max_model_mb=settings.max_model_mb
            )
            name = classifier.model
            if name in self.classifiers:
                raise UsageError(f"two models are named {name!r}", next_step="Serve one of them")
            self.classifiers[name] = classifier
        self.default_model = next(iter(self.classifiers))

    def classifier(self, model: str | None, coverage: str | None) -> Classifier:
        """The classifier that a request names, hearing as much of a track as it asks for.

        Raises
        ------
        ProblemError
            No model of that name is served; a name is never looked for elsewhere.
        UsageError
            The coverage cannot be meant.
        """
        name = self.default_model if model is None else model
        if name not in self.classifiers:
            known = list(self.classifiers)
            raise ProblemError(
                "bad-request",
                f"no model named {printable(name)[:100]!r} is served",
                valid=f"{did_you_mean(name, known)}Served: {', '.join(known)}",
                next_step="GET /v1/models lists them",
            )
        found = self.classifiers[name]
        return found if coverage is None else found.covering(coverage)
