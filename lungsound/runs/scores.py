"""Make scores.json from a run's predictions, and format it for the console."""

from math import nan
from pathlib import Path
from typing import Any

from lungsound.errors import ConfigError
from lungsound.results.biocas import biocas_scores_by_part, biocas_section
from lungsound.results.calibration import calibration_summary, operating_summary
from lungsound.results.combination import combination_rows
from lungsound.results.folder import RunFolder
from lungsound.results.intervals import score_intervals
from lungsound.results.report import scores_table
from lungsound.results.subgroups import subgroup_rows, unit_rows
from lungsound.runs.inputs import RunInputs
from lungsound.runs.naming import data_title
from lungsound.scoring.scores import score_names
from lungsound.storage.files import corrupt_file_on_error


def write_scores(inputs: RunInputs, folder: RunFolder) -> dict[str, Any]:
    """Write and return scores.json: every score, leakage, and notes on data and split."""
    summary, predictions = folder.summary(), folder.read_predictions()
    results = {
        "data": data_title(inputs),
        "fingerprint": inputs.database.fingerprint,  # of its recordings and annotations
        "label_order": summary["labels"],
        "leak": inputs.leakage_sentence,
        "leaks": inputs.leakage,
        "notes": list(inputs.notes),
        "scores": summary,
        "intervals": score_intervals(predictions, summary["single"]["member"]),
        "calibration": calibration_summary(predictions),
        "operating": operating_summary(predictions),
        "combinations": combination_rows(predictions),
        "subgroups": subgroup_rows(predictions),
        "units": unit_rows(predictions, inputs.leakage),
        "biocas": biocas_scores_by_part(predictions),
    }
    folder.write_json("scores.json", results)
    return results


def validation_score(run: Path | str, name: str = "") -> float:
    """Return a score of a finished run's ensemble on its validation cycles, NaN if undefined.

    `name` is score_4, accuracy, ...: by default the score of the run's own classes. Raises
    ConfigError for any other, such as one of the test set, by which nothing may be chosen.
    """
    summary = RunFolder(Path(run)).read_json("scores.json")["scores"]
    scores = summary["ensemble"][-1]["val"]
    name = name.removeprefix("val/") or score_names(scores)[0]
    if name not in scores:
        raise ConfigError(
            f"{name}: expected a validation score to choose settings by ({', '.join(scores)}); "
            "nothing is chosen on test data"
        )
    return nan if scores[name] is None else float(scores[name])


def format_scores(folder: RunFolder) -> str:
    """Format scores.json for the console."""
    results = folder.read_json("scores.json")
    with corrupt_file_on_error(folder.path / "scores.json"):
        intervals = results.get("intervals")  # release 0.1 has none
        parts = [scores_table(results["scores"], intervals, results["data"], results["leak"])]
        return "\n".join([*parts, *biocas_section(results["biocas"])])
