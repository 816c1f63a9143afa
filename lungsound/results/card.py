"""The model card of a finished run: what it is, what it may be used for, how sure its scores are.

Its sections follow Mitchell et al., "Model cards for model reporting" (2019).
"""

from importlib.metadata import version
from typing import Any

from lungsound.results.folder import RunFolder
from lungsound.results.report import (
    Intervals,
    class_scores,
    format_score,
    interval_notes,
    markdown_table,
    score_columns,
)
from lungsound.storage.files import corrupt_file_on_error

USE = """\
For research on respiratory sounds: to reproduce and compare classifiers, and to sort recordings
for listening. It answers for sounds like those it was trained on: the same kind of device, place on
the chest, patients and noise.

**Not for diagnosis, triage or treatment.** It is no medical device, and nobody has tested it as
one. Its probabilities are not calibrated for other hospitals, devices or ages, and it always names
one of its classes, also for speech, heart sounds or silence."""
SELECTED = {"best": "best epoch", "last": "last epoch", "average": "average of the weights"}
FRESH = ", each period from its own initial weights"
SYNTHETIC = (
    "**The data are SYNTHETIC: no patient was recorded, and it knows nothing of real lungs.**"
)


def model_card(folder: RunFolder) -> str:
    """Return the card in Markdown. Raises CorruptFileError for a file that cannot be read."""
    metadata, config = folder.metadata(), folder.read_config()
    results = folder.read_json("scores.json")
    with corrupt_file_on_error(folder.path / "scores.json"):
        return _card(metadata, config, results)


def _card(metadata: dict[str, Any], config: dict[str, Any], results: dict[str, Any]) -> str:
    summary, intervals = results["scores"], results.get("intervals")
    members, parameters = metadata["annealing.cycles"], metadata["model.parameters"]
    segment, features, annealing = (config[name] for name in ("segment", "features", "annealing"))
    facts = {
        "network": f"{metadata['model']}, {parameters:,} parameters",
        "members": f"{members}, each the {SELECTED[annealing['select']]} of a period "
        f"({annealing['schedule']} schedule"
        f"{FRESH if annealing['continue_from'] == 'fresh' else ''})",
        "input": f"segments of {segment['seconds']:g} s at {features['sample_rate']} Hz in "
        f"{segment['chunks']} chunks, padding {config['padding']['mode']}",
        **({"learned from": metadata["loss.teacher"]} if "loss.teacher" in metadata else {}),
        "classes": ", ".join(summary["labels"]),
        "trained on": results["data"],
        "protocol": f"split={metadata['split']}, split.seed={metadata['split.seed']}",
        "cost": f"{members * parameters:,} parameters in all; {metadata['epochs_trained']} epochs",
        "made with": f"lungsound {version('lungsound')}, {metadata.get('machine', '?')}",
    }
    synthetic = [SYNTHETIC] if metadata["synthetic"] else []
    parts = [
        f"# Ensemble of {members}: {results['data']}",
        *synthetic,
        markdown_table(["", ""], facts.items()),
        "## Use",
        USE,
        "## Scores on its test set",
        f"**{results['leak']}**",
        _scores(summary, intervals),
        "Sp: specificity. Se: sensitivity. score: the ICBHI score, (Sp + Se) / 2.",
        *interval_notes(intervals),
        class_scores(summary),
        "Method: Nguyen & Pernkopf, EMBC 2020, doi:10.1109/EMBC44109.2020.9176076.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _scores(summary: dict[str, Any], intervals: Intervals) -> str:
    test, ends = summary["ensemble"][-1]["test"], (intervals or {}).get("ensemble", {})
    rows = []
    for name, title in score_columns(summary).items():
        low, high = map(format_score, ends.get(name, (None, None)))
        rows.append([title, format_score(test[name]), f"{low} to {high}" if name in ends else "-"])
    return markdown_table(["", "test", "95 % interval by patient"], rows)
